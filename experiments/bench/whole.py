"""``fedmeta bench whole``: workload W4, a whole model adapted by second-order MAML.

Conv4 with 32 filters on images of 28 x 28, 5-way 5-shot with 15 queries of each class, 5 inner
steps, 32 tasks. The loop is plain PyTorch in the textbook's order (convolution, group
normalization, ReLU, maximum), one task after the other, nothing held back, in the better of
PyTorch's two layouts of images. All take turns task by task in one process of one thread and are
measured by its processor time, of which the least counts: what else runs on the machine is then as
little in it as can be.

A maximum and a ReLU have kinks, and second-order MAML goes through millions of them: where a task
comes near one, rounding alone decides which way its gradient goes. There the loop differs from
itself in double precision by far more than rounding (``KINK``), so these tasks say nothing of an
engine; they are counted, and the error is that of the others.
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
from fedmeta.threads import one_thread
from fedmeta.types import Examples, Params, Task

SIDE, WAY, SHOT, ASKED = 28, 5, 5, 15
INNER = Inner(rate=0.1, steps=5)
KINK = 1e-4
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def row(tasks: int = 32, turns: int = 3, shot: int = SHOT, asked: int = ASKED) -> dict[str, Any]:
    """Tasks a second of the engine and of the loop on one thread, their difference, and memory.

    Args:
        tasks: tasks of a chunk; the engine computes all of them, the loop ``turns`` of them.
        turns: tasks that both sides are timed on, one after the other.
        shot, asked: examples of each class in support and query.
    """
    with one_thread():
        model, task = made(), chunk(tasks, shot, asked)
        theta = model.head.init(torch.Generator().manual_seed(0))
        peak = [_peak()]
        _engine(model, theta, one(task, 0))  # first calls allocate
        peak.append(_peak())
        whole = _engine(model, theta, task)
        peak.append(_peak())
        ours, error, kinks = [], 0.0, 0
        loops: dict[str, list[float]] = {name: [] for name in LAYOUTS}
        for turn in range(turns):
            mine = one(task, turn % tasks)
            found, seconds = _timed(lambda mine=mine: _engine(model, theta, mine))
            ours.append(seconds)
            for name, layout in LAYOUTS.items():
                expected, seconds = _timed(lambda m=mine, at=layout: contribution(theta, m, at))
                loops[name].append(seconds)
                if layout == torch.contiguous_format:  # rounds as the engine does
                    by_loop = expected
            exact = contribution(_double(theta), Task(*(Examples(*map(_double, s)) for s in mine)))
            if _difference(by_loop, exact) > KINK:
                kinks += 1
            else:
                error = max(error, _difference(found, by_loop))
        best = min(loops, key=lambda name: min(loops[name]))
        loop = loops[best]
    return {
        "work": "W4",
        "tasks_per_s": 1 / min(ours),
        "loop_tasks_per_s": 1 / min(loop),
        "loop_layout": best,
        "ratio_to_loop": min(loop) / min(ours),
        "max_rel_err": error,
        "kinks": kinks,
        "turns": turns,
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


def contribution(
    theta: Params, task: Task, layout: torch.memory_format = torch.contiguous_format
) -> dict[str, Tensor]:
    """What the one user of a chunk sends, in plain PyTorch."""
    (x, qx), (y, qy) = zip(
        *((_images(s.x[0], layout), s.y[0].argmax(0)) for s in task), strict=True
    )
    meta = {
        name: (value.to(memory_format=layout) if value.dim() == 4 else value)
        .detach()
        .requires_grad_()
        for name, value in theta.items()
    }
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
            f"{each['loop_tasks_per_s']:.2f} ({each['loop_layout']})",
            f"{each['ratio_to_loop']:.2f}x",
            f"{each['max_rel_err']:.0e} ({each['turns'] - each['kinks']} of {each['turns']} tasks)",
            f"{each['peak_rss_mb']:.0f}",
            f"{each['grown_mb']:.0f} MB",
        )
    return out


def _images(x: Tensor, layout: torch.memory_format) -> Tensor:
    return x.view(-1, 1, SIDE, SIDE).to(memory_format=layout)


def _loss(params: Params, h: Tensor, y: Tensor) -> Tensor:
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


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double()
    return {name: one.double() for name, one in value.items()}


def _difference(found: Params, expected: Params) -> float:
    """Largest difference by the largest number of the loop's tensor, over all parameters."""
    return max(
        float((found[name].double() - value).abs().max() / value.abs().max())
        for name, value in expected.items()
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
