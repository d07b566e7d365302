"""``fedmeta bench heads``: what each head costs: parameters, bytes a round, seconds a user.

A user has 20 examples and 20 queries of ten classes and takes 10 inner steps, on one thread; the
method is `fomaml`, or the one that makes the head's output layer, or the one that needs the head.
Features are those of all-MiniLM-L6-v2 (384 numbers; 16 tokens), images of 28 x 28, windows of 80
characters. Bytes are what goes down and comes up for one user in one round, in single precision.
Seconds are processor time, the least of some turns: of what it takes to compute, not of waiting.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from fedmeta import cohort
from fedmeta.backbones import models
from fedmeta.config import ConfigError
from fedmeta.heads import HEADS, MADE, TAKES, Given
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.methods.method import Method, Setup
from fedmeta.sections.method import HeadConfig
from fedmeta.threads import one_thread
from fedmeta.types import Examples, Params, Task

CLASSES, SUPPORT, QUERY, STEPS = 10, 20, 20, 10
FEATURES, TOKENS, SIDE, WINDOW = 384, 16, 28, 80
USERS = 8
SLOW = "slow: encoder in the loop"


def rows(
    wanted: str = "", encoder: str = "", turns: int = 3, say: Callable[[str], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """One row of figures for each head.

    Args:
        wanted: heads, comma-separated; empty: all, but without an encoder those that need one.
        encoder: folder of the encoder in the loop; empty: all-MiniLM-L6-v2 if it is installed.
        turns: how often each is timed.
        say: told what is left out, and why.

    Raises:
        ConfigError: a head that does not exist.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if strange := [name for name in names if name not in HEADS]:
        raise ConfigError(
            f"--heads {','.join(strange)!r}: expected heads out of {', '.join(HEADS)}"
        )
    folder = encoder or (str(models.locate("minilm")) if models.minilm_available() else "")
    for name in names or HEADS:
        if TAKES.get(name) == "ids" and not folder and not names:
            say(f"{name}: left out, there is no encoder; name its folder with --encoder")
            continue
        yield row(name, folder, turns)


def row(name: str, folder: str, turns: int) -> dict[str, Any]:
    """The figures of a head."""
    method, model = method_of(name), Model(made(name, folder), LOSSES["classification"])
    inner = Inner(0.1, STEPS)
    random = torch.Generator().manual_seed(0)
    head = model.head.init(random)
    setup = Setup(head, inner, FEATURES, CLASSES, random)
    theta: Params = method.start(setup) if method.start else head
    slow = TAKES.get(name) == "ids"
    task = users(name, 1 if slow else USERS)
    least = float("inf")
    with one_thread():
        for _ in range(1 if slow else turns + 1):  # the first one allocates
            began = time.process_time()
            with torch.no_grad():
                sent = cohort.contribute(method, model, theta, task, inner).total
            least = min(least, time.process_time() - began)
    return {
        "head": name,
        "method": method.name,
        "parameters": sum(value.numel() for value in head.values()),
        "bytes_a_round": 4 * sum(v.numel() for v in (*theta.values(), *sent.values())),
        "s_per_user": least / len(task.support.weight),
        "class": SLOW if slow else "whole model" if model.head.body else "cached features",
    }


def method_of(name: str) -> Method:
    """The method that a head is measured with."""
    makers = [method for method in METHODS.values() if name in MADE and method.makes == name]
    own = [method for method in METHODS.values() if method.head == name]
    return (makers + own + [METHODS["fomaml"]])[0]


def made(name: str, folder: str = "") -> Any:
    """A head with its default sizes on the features that it takes."""
    tokens = TOKENS if TAKES.get(name) == "tokens" else 1
    given = Given(HeadConfig(), tokens, folder if TAKES.get(name) == "ids" else "")
    return HEADS[name](_numbers(name), CLASSES, given=given)


def users(name: str, count: int) -> Task:
    """Users with random examples of what the head takes."""
    random = torch.Generator().manual_seed(1)

    def side(examples: int) -> Examples:
        label = torch.randint(0, CLASSES, (count, examples), generator=random)
        y = torch.nn.functional.one_hot(label, CLASSES).mT.float().contiguous()
        weight = torch.full((count, examples), 1.0 / examples)
        return Examples(_examples(name, (count, examples), random), y, weight)

    return Task(side(SUPPORT), side(QUERY))


def _examples(name: str, shape: tuple[int, int], random: torch.Generator) -> Tensor:
    size = (*shape, _numbers(name))
    if name == "gru" or TAKES.get(name) == "ids":
        low, high = (32, 127) if name == "gru" else (5, 18)
        return torch.randint(low, high, size, generator=random).float()
    if name == "conv4":
        return torch.rand(size, generator=random)
    features: torch.Tensor = torch.randn(size, generator=random) / FEATURES**0.5
    return features


def _numbers(name: str) -> int:
    if name == "conv4":
        return SIDE**2
    if name == "gru":
        return WINDOW
    return {"tokens": TOKENS * FEATURES, "ids": TOKENS}.get(TAKES.get(name, ""), FEATURES)


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title=f"heads: {STEPS} steps on {SUPPORT} examples, {CLASSES} classes, one thread")
    out.add_column("head")
    out.add_column("method")
    for heading in ("parameters", "bytes a round", "ms a user"):
        out.add_column(heading, justify="right")
    out.add_column("class")
    for one in found:
        out.add_row(
            one["head"],
            one["method"],
            f"{one['parameters']:,}",
            f"{one['bytes_a_round']:,}",
            f"{1e3 * one['s_per_user']:,.1f}",
            one["class"],
        )
    return out
