"""Scores of single users equal those of scikit-learn, whatever pads them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    root_mean_squared_error,
)

from fedmeta.losses import LOSSES
from fedmeta.metrics import METRICS, score
from tests.engine.cases import OUTPUTS, only, tasks

counts = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(counts=counts, seed=st.integers(0, 10_000), pad=st.integers(0, 3))
def test_classification(counts: list[int], seed: int, pad: int) -> None:
    task = tasks(seed, [(1, n) for n in counts], pad=pad)
    logits = torch.randn(
        len(counts),
        OUTPUTS["classification"],
        task.query.y.shape[-1],
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    found = score("classification", LOSSES["classification"], logits, task.query, 1.0)
    assert found.dtype == torch.float64
    for user, n in enumerate(counts):
        y = only(task, user).query.y.argmax(0).numpy()
        z = logits[user, :, :n]
        said = z.argmax(0).numpy()
        expected = [
            accuracy_score(y, said),
            f1_score(y, said, average="macro", labels=np.union1d(y, said)),
            log_loss(y, torch.softmax(z, 0).T.numpy(), labels=[0, 1, 2]),
            n,
        ]
        np.testing.assert_allclose(found[:, user].numpy(), expected, rtol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    counts=counts, seed=st.integers(0, 10_000), pad=st.integers(0, 3), scale=st.floats(0.01, 100)
)
def test_regression(counts: list[int], seed: int, pad: int, scale: float) -> None:
    task = tasks(seed, [(1, n) for n in counts], "regression", pad=pad)
    said = torch.randn(
        task.query.y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    found = score("regression", LOSSES["regression"], said, task.query, scale)
    for user, n in enumerate(counts):
        y, z = only(task, user).query.y[0].numpy(), said[user, 0, :n].numpy()
        expected = [
            scale * mean_absolute_error(y, z),
            scale * root_mean_squared_error(y, z),
            0.5 * ((y - z) ** 2).mean(),
            n,
        ]
        np.testing.assert_allclose(found[:, user].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_prediction_that_is_not_finite_is_wrong(value: float) -> None:
    task = tasks(3, [(1, 6), (1, 4)])
    perfect = task.query.y.clone() * 5
    before = score("classification", LOSSES["classification"], perfect, task.query, 1.0)
    assert before[0].tolist() == [1.0, 1.0]
    perfect[0, int(task.query.y[0, :, 2].argmax()), 2] = value
    after = score("classification", LOSSES["classification"], perfect, task.query, 1.0)
    assert after[0].tolist() == pytest.approx([5 / 6, 1.0])
    assert float(after[1, 0]) < 1.0
    assert torch.equal(before[:, 1], after[:, 1])


def test_columns_are_those_announced() -> None:
    for kind, metric in METRICS.items():
        task = tasks(4, kind=kind)
        found = score(kind, LOSSES[kind], task.query.y + 0.1, task.query, 1.0)
        assert found.shape == (len(metric.columns), 5)
        assert metric.columns[0] == metric.name
        assert metric.sign == {"classification": 1, "regression": -1}[kind]
