"""``fedmeta bench whole``: workload W4, a whole model adapted by second-order MAML.

Conv4 with 32 filters on images of 28 x 28, 5-way 5-shot with 15 queries of each class, 5 inner
steps, 32 tasks. The loop is plain PyTorch in the textbook's order (convolution, group
normalization, ReLU, maximum), one task after the other, nothing held back. Both sides take turns
task by task in one process of one thread and are measured by its processor time, of which the
least counts: what else runs on the machine is then as little in it as can be.
"""

import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from fedmeta import cohort
from fedmeta.heads import HEADS
from fedmeta.heads.settled import GROUP
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.types import Examples, Params, Task

SIDE, WAY, SHOT, ASKED = 28, 5, 5, 15
INNER = Inner(rate=0.1, steps=5)


def row(tasks: int = 32, turns: int = 3, shot: int = SHOT, asked: int = ASKED) -> dict[str, Any]:
    """Tasks a second of the engine and of the loop on one thread, their difference, and memory.

    Args:
        tasks: tasks of a chunk; the engine computes all of them, the loop ``turns`` of them.
        turns: tasks that both sides are timed on, one after the other.
        shot, asked: examples of each class in support and query.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, task = made(), chunk(tasks, shot, asked)
        theta = model.head.init(torch.Generator().manual_seed(0))
        peak = [_peak()]
        _engine(model, theta, one(task, 0))  # first calls allocate
        peak.append(_peak())
        whole = _engine(model, theta, task)
        peak.append(_peak())
        ours, loop, error = [], [], 0.0
        for turn in range(turns):
            mine = one(task, turn % tasks)
            found, seconds = _timed(lambda mine=mine: _engine(model, theta, mine))
            ours.append(seconds)
            expected, seconds = _timed(lambda mine=mine: contribution(theta, mine))
            loop.append(seconds)
            error = max(error, _difference(found, expected))
    finally:
        torch.set_num_threads(before)
    return {
        "work": "W4",
        "tasks_per_s": 1 / min(ours),
        "loop_tasks_per_s": 1 / min(loop),
        "ratio_to_loop": min(loop) / min(ours),
        "max_rel_err": error,
        "tasks": tasks,
        "peak_rss_mb": peak[2],
        "grown_mb": peak[2] - peak[1],
        "finite": all(bool(value.isfinite().all()) for value in whole.values()),
    }


def made() -> Model:
    """Conv4 for the workload's images and classes."""
    return Model(HEADS["conv4"](SIDE**2, WAY), LOSSES["classification"])


def chunk(tasks: int, shot: int = SHOT, asked: int = ASKED) -> Task:
    """Tasks of images of noise, a pattern for each class of a task."""
    random = torch.Generator().manual_seed(1)
    pattern = torch.rand(tasks, WAY, SIDE**2, generator=random)

    def side(each: int) -> Examples:
        label = torch.arange(WAY).repeat(each)
        x = 0.5 * pattern[:, label] + 0.5 * torch.rand(tasks, WAY * each, SIDE**2, generator=random)
        y = F.one_hot(label, WAY).T.float().expand(tasks, -1, -1).contiguous()
        return Examples(x, y, torch.full((tasks, WAY * each), 1.0 / (WAY * each)))

    return Task(side(shot), side(asked))


def one(task: Task, number: int) -> Task:
    """A chunk of one of the tasks."""
    at = slice(number, number + 1)
    return Task(*(Examples(*(field[at] for field in side)) for side in task))


def contribution(theta: Params, task: Task) -> dict[str, Tensor]:
    """What the one user of a chunk sends, in plain PyTorch."""
    (x, qx), (y, qy) = zip(*((s.x[0], s.y[0].argmax(0)) for s in task), strict=True)
    meta = {name: value.detach().requires_grad_() for name, value in theta.items()}
    phi = dict(meta)
    for _ in range(INNER.steps):
        g = torch.autograd.grad(_loss(phi, x, y), list(phi.values()), create_graph=True)
        phi = {n: v - INNER.rate * d for (n, v), d in zip(phi.items(), g, strict=True)}
    g = torch.autograd.grad(_loss(phi, qx, qy), list(meta.values()))
    return dict(zip(meta, g, strict=True))


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title="tasks per second, whole model, second order, one thread")
    for heading in ("", "engine", "loop", "ratio", "error", "peak MB", "grown with tasks"):
        out.add_column(heading, justify="right")
    for each in found:
        out.add_row(
            each["work"],
            f"{each['tasks_per_s']:.2f}",
            f"{each['loop_tasks_per_s']:.2f}",
            f"{each['ratio_to_loop']:.2f}x",
            f"{each['max_rel_err']:.0e}",
            f"{each['peak_rss_mb']:.0f}",
            f"{each['grown_mb']:.0f} MB",
        )
    return out


def _loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
    h = x.view(-1, 1, SIDE, SIDE)
    for block in range(4):
        h = F.conv2d(h, params[f"conv{block}.weight"], padding=1)
        h = F.group_norm(h, h.shape[1] // GROUP)
        h = F.max_pool2d(F.relu(h + params[f"conv{block}.bias"][:, None, None]), 2)
    return F.cross_entropy(
        F.linear(h.flatten(1), params["output.weight"], params["output.bias"]), y
    )


def _engine(model: Model, theta: Params, task: Task) -> Params:
    with torch.no_grad():
        return cohort.contribute(METHODS["maml"], model, theta, task, INNER).total


def _timed(work: Any) -> tuple[Params, float]:
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def _difference(found: Params, expected: Params) -> float:
    """Largest difference by the largest number of the loop's tensor, over all parameters."""
    return max(
        float((found[name] - value).abs().max() / value.abs().max())
        for name, value in expected.items()
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
