"""The service in this process: answers, batches, bounds, errors, what it tells of itself."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from experiments.serving import batching, heads, personal
from experiments.serving.batching import Answer, Batcher, Job
from experiments.serving.heads import Head
from experiments.serving.limits import Limits, Rates, Refusal
from experiments.serving.service import make_app
from experiments.serving.store import HeadStore
from experiments.serving.tokens import Tokens
from tests.serving.worlds import World, able, world

USUAL = Limits()


def filled(seen: World, anns: Head, folder: Path, names: Sequence[str]) -> HeadStore:
    """A folder of heads, each another one."""
    for number, name in enumerate(names):
        params = {key: value * (1 + 0.2 * number) for key, value in anns.params.items()}
        path = folder / f"{name}.safetensors"
        heads.write(path, Head(params, anns.classes), seen.opened, name, 4)
    return HeadStore(seen.opened, folder, 1 << 30)


@asynccontextmanager
async def client(
    seen: World, store: HeadStore, limits: Limits = USUAL, known: Tokens | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    backbone = personal.backbone_of(seen.opened)
    app = make_app(seen.opened, backbone, store, limits, tokens=known)
    lifespan: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, lifespan.get, told.put))
    await lifespan.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
        yield asking
    await lifespan.put({"type": "lifespan.shutdown"})
    await running


def test_says_what_predict_says(maml: World, anns: Head, tmp_path: Path) -> None:
    """Of 30 requests at once for three users, in a few batches, each gets its own answer."""
    names = ["ann", "bob", "cyd"]
    store = filled(maml, anns, tmp_path, names)
    backbone = personal.backbone_of(maml.opened)
    expected = {
        name: personal.predict(maml.opened, backbone, store.get(name), maml.items) for name in names
    }
    store = HeadStore(maml.opened, tmp_path, 1 << 30)

    async def talk() -> str:
        async with client(maml, store) as asking:
            count = len(maml.items)
            jobs = [(names[i % 3], i % count, 1 + i % 3) for i in range(30)]
            replies = await asyncio.gather(
                *(
                    asking.post(
                        "/v1/predict", json={"user": user, "texts": maml.items[at : at + more]}
                    )
                    for user, at, more in jobs
                )
            )
            for (user, at, more), reply in zip(jobs, replies, strict=True):
                assert reply.status_code == 200, reply.text
                assert reply.json()["user"] == user
                wanted = expected[user][at : at + more]
                for one, other in zip(reply.json()["predictions"], wanted, strict=True):
                    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
                    assert one["label"] == other["label"]
            return (await asking.get("/metrics")).text

    lines = dict(line.rsplit(" ", 1) for line in asyncio.run(talk()).splitlines() if line[0] != "#")
    assert float(lines['fedmeta_requests_total{code="ok"}']) == 30
    assert float(lines["fedmeta_heads"]) == 3
    assert float(lines["fedmeta_head_loads"]) == 3
    assert float(lines["fedmeta_batch_requests_sum"]) == 30
    assert float(lines["fedmeta_batch_requests_count"]) < 20
    assert not any("ann" in line for line in lines)
    probabilities = [expected[name][0]["probabilities"]["0"] for name in names]
    assert len({round(p, 3) for p in probabilities}) == 3  # the users do differ


def test_bad_requests(maml: World, anns: Head, tmp_path: Path) -> None:
    folder = tmp_path / "heads"
    store = filled(maml, anns, folder, ["ann"])
    (tmp_path / "secret.safetensors").write_bytes((folder / "ann.safetensors").read_bytes())
    (folder / "torn.safetensors").write_bytes((folder / "ann.safetensors").read_bytes()[:-8])
    wide = world(tmp_path / "wide", **able("maml"), backbone__columns=64)
    personal.personalize(wide.opened, wide.file, folder / "wide.safetensors", None)
    limits = Limits(body=2000, inputs=3, length=50, patience=0.2)

    async def talk() -> None:
        async with client(maml, store, limits) as asking:

            async def refused(status: int, code: str, **body: Any) -> None:
                reply = await asking.post("/v1/predict", json=body)
                assert reply.status_code == status, (body, reply.text)
                assert reply.json()["error"]["code"] == code, (body, reply.text)
                assert "canary" not in reply.text

            hi = ["canary"]
            await refused(404, "unknown_user", user="nobody", texts=hi)
            for name in ("../secret", "..", ".", "", "a/b", "/etc/passwd", "%2e%2e/secret", "a\0",
                         "x" * 200, "..\\secret", "ann\n"):  # fmt: skip
                await refused(422, "bad_name", user=name, texts=hi)
            await refused(409, "damaged", user="torn", texts=hi)
            await refused(409, "other_backbone", user="wide", texts=hi)
            await refused(413, "too_many_inputs", user="ann", texts=hi * 4)
            await refused(413, "text_too_long", user="ann", texts=["canary" * 10])
            await refused(413, "body_too_large", user="ann", texts=["canary" * 1000])
            await refused(422, "bad_request", user="ann", texts=[])
            await refused(422, "bad_request", user="ann")
            await refused(422, "bad_request", user="ann", texts=hi, features=[[1.0]])
            await refused(422, "bad_request", user="ann", features=[[1.0]])
            await refused(422, "bad_request", user="ann", texts="canary")
            await refused(422, "bad_request", user=7, texts=hi)
            await refused(422, "bad_request", user="ann", texts=hi, more="canary")
            reply = await asking.post(
                "/v1/predict", content="{", headers={"content-type": "application/json"}
            )
            assert (reply.status_code, reply.json()["error"]["code"]) == (422, "bad_request")
            assert (await asking.get("/v1/predict")).status_code == 405
            assert (await asking.get("/nothing")).json()["error"]["code"] == "bad_request"

            async def endless() -> AsyncIterator[bytes]:
                while True:
                    yield b" " * 500

            async def never() -> AsyncIterator[bytes]:
                yield b"{"
                await asyncio.sleep(5)

            assert (await asking.post("/v1/predict", content=endless())).status_code == 413
            assert (await asking.post("/v1/predict", content=never())).status_code == 408
            # After all that it still answers.
            reply = await asking.post("/v1/predict", json={"user": "ann", "texts": hi})
            assert reply.status_code == 200
            other = {"host": "evil.example"}
            assert (await asking.get("/healthz", headers=other)).status_code == 400
            assert (await asking.get("/healthz")).json()["status"] == "ok"

    asyncio.run(talk())


def test_heads_are_reloaded_and_forgotten(maml: World, anns: Head, tmp_path: Path) -> None:
    filled(maml, anns, tmp_path, ["a", "b", "c"])
    now = 0.0
    store = HeadStore(maml.opened, tmp_path, 2 * anns.bytes, lambda: now)
    first = store.get("a")
    now = 1.0
    assert store.get("a") is first
    path = tmp_path / "a.safetensors"
    path.write_bytes((tmp_path / "c.safetensors").read_bytes())
    os.utime(path, ns=(1, 1))
    assert store.get("a") is first  # it was looked at a moment ago
    now = 2.0
    torch.testing.assert_close(store.get("a").params, store.get("c").params, rtol=0, atol=0)
    store.get("b")
    assert (len(store), store.evictions, store.bytes) == (2, 1, 2 * anns.bytes)
    store.get("a")  # was the one that nobody had asked for the longest
    assert store.loads == 5
    path.unlink()
    now = 3.0
    with pytest.raises(heads.HeadError, match="no head here"):
        store.get("a")
    assert store.bytes == anns.bytes


def test_too_many_at_a_time_and_too_often(
    maml: World, anns: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(maml, anns, tmp_path, ["ann"])

    async def talk(limits: Limits) -> list[int]:
        async with client(maml, store, limits) as asking:
            body = {"user": "ann", "texts": ["hi"]}
            replies = await asyncio.gather(
                *(asking.post("/v1/predict", json=body) for _ in range(12))
            )
            assert all(r.headers["retry-after"] == "1" for r in replies if r.status_code == 429)
            return sorted(reply.status_code for reply in replies)

    assert asyncio.run(talk(Limits(concurrency=5))) == [200] * 5 + [429] * 7
    assert asyncio.run(talk(Limits(rate=2.0))) == [200] * 4 + [429] * 8


def test_rates() -> None:
    now = 0.0
    rates = Rates(2.0, lambda: now)
    for _ in range(4):
        rates.take("ann")
    with pytest.raises(Refusal):
        rates.take("ann")
    rates.take("bob")
    now = 0.5
    rates.take("ann")
    with pytest.raises(Refusal):
        rates.take("ann")


def test_batches_have_a_size_and_those_who_wait_are_answered() -> None:
    sizes: list[int] = []

    def compute(jobs: Sequence[Job]) -> list[Answer]:
        if any(job.user == "bad" for job in jobs):
            raise RuntimeError("broken")
        return [[{"user": job.user, "n": len(job.items)}] for job in jobs]

    async def talk() -> None:
        batcher = Batcher(compute, 4, lambda requests, inputs: sizes.append(inputs))
        async with batcher:
            asked = [batcher.ask(Job(f"u{n}", ["x"] * (1 + n % 3))) for n in range(20)]
            found = await asyncio.gather(*asked)
            with pytest.raises(RuntimeError, match="broken"):
                await batcher.ask(Job("bad", ["x"]))
            last = [asyncio.create_task(batcher.ask(Job("z", ["x"]))) for _ in range(9)]
            await asyncio.sleep(0)
        assert [one[0] for one in found] == [{"user": f"u{n}", "n": 1 + n % 3} for n in range(20)]
        assert all([await one == [{"user": "z", "n": 1}] for one in last])

    asyncio.run(talk())
    assert max(sizes) <= 4
    assert sum(sizes) == sum(1 + n % 3 for n in range(20)) + 1 + 9


def test_one_bad_head_spoils_no_other(maml: World, anns: Head, tmp_path: Path) -> None:
    store = filled(maml, anns, tmp_path, ["ann"])
    jobs = [Job("ann", ["a"]), Job("nobody", ["b"]), Job("ann", ["c", "d"])]
    backbone = personal.backbone_of(maml.opened)
    found = batching.answer(maml.opened, backbone, store, {}, jobs)
    assert isinstance(found[1], heads.HeadError)
    assert [len(one) for one in (found[0], found[2]) if isinstance(one, list)] == [1, 2]
