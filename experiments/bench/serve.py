"""How fast personal models answer: over HTTP with MiniLM, and the heads alone.

The service is a process of its own, started by its command; requests come from this one, on
loopback, at fixed times whether or not those before are answered, each for another user, whose
head the service has to read. A latency is from the time at which the request was due.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from experiments.running import simulate
from experiments.serving import heads
from experiments.serving.extras import need
from experiments.serving.heads import Head
from experiments.serving.opened import Opened, open_run
from experiments.serving.personal import Room, answers
from experiments.serving.store import HeadStore
from fedmeta import personal
from fedmeta.config import ConfigError, parse
from fedmeta.data.messages import pool
from fedmeta.types import Examples

CONFIG = {
    "backbone.name": "minilm",
    "data.users": 40,
    "data.messages": 240,
    "federation.rounds": 1,
    "federation.users-per-round": 10,
    "evaluation.tune": False,
    "evaluation.bootstrap": 100,
    "run.backend": "inline",
}
LATENCY_MS, THROUGHPUT = 60.0, 20_000.0
"""What is asked of it on 2 cores."""
SUPPORT, BATCH, TURN, TURNS = 20, 256, 1.0, 3


def rows(users: int, rate: float, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The heads alone, then the service.

    Args:
        users: how many, each asking once.
        rate: requests a second.
        say: told what goes on.

    Raises:
        ConfigError: packages missing, or a service that does not start.
    """
    need("serve")
    with tempfile.TemporaryDirectory(prefix="fedmeta-bench-") as folder:
        say("a run with MiniLM, and a head for each user")
        run, made = Path(folder) / "run", Path(folder) / "heads"
        simulate(parse(CONFIG), run)
        opened = open_run(run)
        made.mkdir()
        for number, head in enumerate(_heads(opened, users)):
            content = heads.packed(head, opened, f"u{number}", SUPPORT)
            (made / f"u{number}.safetensors").write_bytes(content)
        say("heads alone")
        yield _alone(opened, made, users)
        say(f"{users} requests in {users / rate:.0f} s")
        yield _served(run, made, users, rate)


def _heads(opened: Opened, users: int) -> Iterator[Head]:
    """Heads of users with random examples."""
    random, outputs = torch.Generator().manual_seed(0), opened.needs.outputs
    for start in range(0, users, 100):
        some = min(100, users - start)
        x = torch.randn(some, SUPPORT, opened.needs.width, generator=random)
        x = torch.nn.functional.normalize(x, dim=-1)
        label = torch.randint(outputs, (some, 1, SUPPORT), generator=random)
        y = torch.zeros(some, outputs, SUPPORT).scatter_(1, label, 1.0)
        support = Examples(x, y, torch.full((some, SUPPORT), 1.0 / SUPPORT))
        found = personal.personalize(
            opened.method, opened.model, opened.theta, support, opened.inner
        )
        for at in range(some):
            params = {name: value[at].clone() for name, value in found.items()}
            yield Head(params, opened.needs.classes)


def _alone(opened: Opened, made: Path, users: int) -> dict[str, Any]:
    """Predictions a second from features that are given, of random users, 256 at a time."""
    store, random = HeadStore(opened, made, 1 << 40), np.random.default_rng(0)
    names = [f"u{number}" for number in range(users)]
    for name in names:
        store.get(name)
    drawn = torch.randn(BATCH, 1, opened.needs.width, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.normalize(drawn, dim=-1)
    features = list(x)
    room: Room = {}

    def batch() -> None:
        asked = [store.get(names[at]) for at in random.integers(0, users, BATCH)]
        answers(opened, asked, features, room)

    batch()
    rates = []
    for _ in range(TURNS):
        began, done = time.perf_counter(), 0
        used = time.process_time()
        while (elapsed := time.perf_counter() - began) < TURN:
            batch()
            done += BATCH
        rates.append((done / elapsed, done / (time.process_time() - used)))
    wall, processor = (float(np.median(column)) for column in zip(*rates, strict=True))
    return {
        "what": "heads alone",
        "users": users,
        "batch": BATCH,
        "predictions_per_s": wall,
        "predictions_per_processor_s": processor,
        "goal": THROUGHPUT,
        "met": wall > THROUGHPUT,
    }


def _served(run: Path, made: Path, users: int, rate: float) -> dict[str, Any]:
    """Latencies of the service under a steady load."""
    command = "from experiments.cli import main; main()"
    arguments = ["serve", str(run), "--heads", str(made), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise ConfigError(f"the service did not start (exit code {process.wait()})")
        address = json.loads(line)["listening"]
        texts = pool(400, 1).texts
        before = _processor_seconds(process.pid)
        found = asyncio.run(_ask(address, users, rate, texts))
        used = _processor_seconds(process.pid) - before
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    took = np.array([seconds for seconds, _ in found]) * 1000
    p50, p95, p99 = np.percentile(took, [50, 95, 99]).tolist()
    return {
        "what": "service",
        "users": users,
        "requests_per_s": rate,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": float(took.max()),
        "processor_ms": 1000 * used / users,
        "failed": sum(status != 200 for _, status in found),
        "exit_code": code,
        "goal_ms": LATENCY_MS,
        "met": p95 < LATENCY_MS and all(status == 200 for _, status in found),
    }


async def _ask(
    address: str, users: int, rate: float, texts: Sequence[str]
) -> list[tuple[float, int]]:
    """Seconds and status of one request for each user, in a random order, at fixed times."""
    import httpx

    loop = asyncio.get_running_loop()
    order = np.random.default_rng(1).permutation(users).tolist()
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)

    async with httpx.AsyncClient(base_url=address, timeout=30.0, limits=limits) as client:

        async def one(number: int, due: float) -> tuple[float, int]:
            await asyncio.sleep(max(due - loop.time(), 0))
            body = {"user": f"u{order[number]}", "texts": [texts[number % len(texts)]]}
            reply = await client.post("/v1/predict", json=body)
            return loop.time() - due, reply.status_code

        for number in range(3):  # connections, and what is imported at the first request
            await one(number, loop.time())
        began = loop.time() + 0.5
        return await asyncio.gather(*(one(n, began + n / rate) for n in range(users)))


def _processor_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for people."""
    out = Table(title="personal models")
    for heading in ("what", "measured", "goal"):
        out.add_column(heading)
    for row in found:
        if row["what"] == "service":
            said = (
                f"p50 {row['p50_ms']:.0f} ms, p95 {row['p95_ms']:.0f} ms, p99 {row['p99_ms']:.0f}"
                f" ms; {row['failed']} of {row['users']} failed"
            )
            out.add_row(f"{row['requests_per_s']:g} requests/s", said, f"p95 < {row['goal_ms']} ms")
        else:
            said = f"{row['predictions_per_s']:,.0f} predictions/s"
            out.add_row(row["what"], said, f"> {row['goal']:,.0f}")
    return out
