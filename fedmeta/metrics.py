"""Scores of single users; what is reported is made of these and of nothing else."""

from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.losses import Loss
from fedmeta.types import Examples


class Metric(NamedTuple):
    """The measure of a kind of task.

    Attributes:
        name: its name in tables and artefacts.
        sign: 1 where more is better, -1 where less is.
        columns: what :func:`score` gives, in this order; the first is the measure.
    """

    name: str
    sign: int
    columns: tuple[str, ...]


METRICS = {
    "classification": Metric("accuracy", 1, ("accuracy", "f1", "loss", "examples")),
    "regression": Metric("mae", -1, ("mae", "rmse", "loss", "examples")),
}


def score(task: str, loss: Loss, logits: Tensor, query: Examples, scale: float) -> Tensor:
    """Scores of a chunk of users, float64 ``(columns, U)``; see :data:`METRICS`.

    Accuracy counts a prediction that is not finite as wrong. F1 is the unweighted mean over the
    classes that occur in the user's labels or predictions. Errors are in the target's units.

    Args:
        task: `classification` or `regression`.
        loss: for the column `loss`.
        logits: ``(U, C, Q)``.
        query: what was to be predicted.
        scale: unit of a scaled target.
    """
    present = query.weight > 0
    count = present.sum(-1).double()
    shared = loss.value(logits, query.y, query.weight).double()
    if task == "regression":
        gap = (logits - query.y).squeeze(-2).double() * scale
        gap = torch.where(present, gap, 0.0)
        mae, mse = gap.abs().sum(-1) / count, gap.square().sum(-1) / count
        return torch.stack([mae, mse.sqrt(), shared, count])
    valid = present & logits.isfinite().all(-2)
    classes = torch.arange(logits.shape[-2], device=logits.device)[:, None]
    said = (logits.argmax(-2)[:, None, :] == classes) & valid[:, None, :]
    true = (query.y > 0.5) & present[:, None, :]
    hits = (said & true).sum(-1).double()
    both = said.sum(-1).double() + true.sum(-1).double()
    f1 = (2 * hits / both.clamp(min=1)).sum(-1) / (both > 0).sum(-1)
    return torch.stack([hits.sum(-1) / count, f1, shared, count])
