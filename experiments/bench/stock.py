"""Workload W1 on stock Flower: FedAvg, one virtual client a user, the plain loop in each."""

import functools
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from experiments.bench import plain, users

LIMIT = 240.0
"""Seconds after which stock Flower is given up."""

client = ClientApp()
_pool = functools.cache(users.read)


@client.train()
def train(message: Message, context: Context) -> Message:
    """One user: the plain loop, and its parameters back, as FedAvg wants them."""
    torch.set_num_threads(1)
    pool = _pool(Path(str(message.content.config_records["config"]["path"])))
    mine = int(context.node_config["partition-id"])
    user = plain.User(
        torch.from_numpy(pool.items[pool.item[mine]]),
        torch.from_numpy(pool.label[mine]),
        torch.empty(0),
        torch.empty(0),
    )
    theta = {
        name: torch.from_numpy(array.numpy())
        for name, array in message.content.array_records["arrays"].items()
    }
    sent = plain.contribution(users.WORK, list(theta.values()), user)
    mean = {name: Array((p - d).numpy()) for (name, p), d in zip(theta.items(), sent, strict=True)}
    metrics = MetricRecord({"num-examples": len(user.y)})
    return Message(RecordDict({"arrays": ArrayRecord(mean), "metrics": metrics}), reply_to=message)


class StockError(RuntimeError):
    """Stock Flower did not finish."""


def measure(path: Path, nodes: int, rounds: int, limit: float = LIMIT) -> float:
    """Users per second after the first round, in a process of its own.

    Raises:
        StockError: it failed, or took longer than ``limit`` seconds.
    """
    code = f"from experiments.bench import stock; stock.run({str(path)!r}, {nodes}, {rounds})"
    environment = os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # or Ray says so
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()  # lets Ray stop its own processes
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise StockError(
            f"stock Flower did not finish {rounds + 1} rounds of {nodes} nodes in {limit:.0f} s"
        ) from None
    lines = [line for line in out.splitlines() if line.startswith('{"ends"')]
    if process.returncode or not lines:
        raise StockError(f"stock Flower failed with exit code {process.returncode}; see above")
    ends = json.loads(lines[0])["ends"]
    return float(nodes * rounds / (ends[-1] - ends[1]))


def run(path: str, nodes: int, rounds: int) -> None:
    """Run one round more than ``rounds`` and print when each ended.

    Raises:
        StockError: a client failed; Flower itself would go on without it.
    """
    from flwr.simulation import run_simulation

    ends: list[float] = []
    replied: list[int] = []
    server = ServerApp()

    def ended(server_round: int, arrays: ArrayRecord) -> None:
        ends.append(time.perf_counter())
        print(f"stock Flower: round {server_round}/{rounds + 1}", file=sys.stderr, flush=True)

    def count(replies: list[RecordDict], weighted_by: str) -> MetricRecord:
        replied.append(len(replies))
        return MetricRecord({"users": len(replies)})

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=nodes,
            min_available_nodes=nodes,  # otherwise the first rounds train those that are up
            train_metrics_aggr_fn=count,
        )
        strategy.start(
            grid,
            ArrayRecord({name: Array(value) for name, value in users.initial().items()}),
            num_rounds=rounds + 1,
            train_config=ConfigRecord({"path": path}),
            evaluate_fn=ended,
        )

    logging.getLogger("flwr").setLevel(logging.ERROR)
    # Deprecated in favour of Flower's command, and used here only.
    run_simulation(
        server,
        client,
        num_supernodes=nodes,
        backend_config={
            "init_args": {"num_cpus": 2, "log_to_driver": False, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    if replied != [nodes] * (rounds + 1):
        raise StockError(f"of {nodes} clients a round {replied} replied")
    print(json.dumps({"ends": ends}))
