"""The three ways in which generated users differ, each by its own key and without the others."""

from typing import Any

import numpy as np
import pytest

from fedmeta.data import UserStore, load
from fedmeta.data.messages import CELLS, pool
from fedmeta.data.preferences import wanted_cells
from fedmeta.sections.data import DataConfig

ALIKE = {"heterogeneity": 0.0, "label_noise": 0.0}


def made(**values: Any) -> UserStore:
    return load(DataConfig(**{"users": 200, "messages": 1200, **ALIKE, **values}))


def shares(store: UserStore) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The share of label 1 of each user."""
    return np.array([part.mean() for part in np.split(store.label, store.offsets[1:-1])])


def topics(store: UserStore) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The share of each user's most frequent topic."""
    cell = dict(zip(pool(1200, 0).texts, pool(1200, 0).cell, strict=True))
    topic = np.array([CELLS[cell[str(store.items[item])], 0] for item in store.item])
    parts = np.split(topic, store.offsets[1:-1])
    return np.array([np.bincount(part).max() / len(part) for part in parts])


def test_label_prior_spreads_how_often_users_want() -> None:
    none, half, full = (made(prior_heterogeneity=p) for p in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none.item, full.item)  # the same messages
    assert shares(none).std() < 0.08
    assert abs(shares(half).std() - 0.225 / np.sqrt(3)) < 0.04
    assert abs(shares(full).std() - 0.45 / np.sqrt(3)) < 0.03
    assert abs(shares(full).mean() - 0.5) < 0.08
    # Users who are otherwise alike agree on the order: who wants less wants a part of it.
    first, second = sorted(range(2), key=lambda u: shares(full)[u])
    less, more = (
        dict(zip(full.item[a:b].tolist(), full.label[a:b].tolist(), strict=True))
        for a, b in ((full.offsets[u], full.offsets[u + 1]) for u in (first, second))
    )
    assert all(more[item] >= less[item] for item in set(less) & set(more))


def test_features_concentrate_on_a_topic_and_mean_the_same() -> None:
    none, half, full = (made(feature_heterogeneity=f) for f in (0.0, 0.5, 1.0))
    assert topics(none).mean() < 0.35
    assert abs(topics(half).mean() - (0.5 + 0.5 / 6)) < 0.05
    assert (topics(full) == 1.0).mean() > 0.98  # few want more than their topic has
    assert sum(none.sizes()) == sum(full.sizes())
    label: dict[str, int] = {}
    for store in (none, half, full):  # one function of the message, whatever a user sees
        for item, value in zip(store.item, store.label, strict=True):
            assert label.setdefault(str(store.items[item]), value) == value


def test_a_topic_too_small_is_filled_up() -> None:
    store = made(feature_heterogeneity=1.0, messages=120, examples=60, examples_spread=0.0)
    assert set(store.sizes().tolist()) == {60}
    for a, b in zip(store.offsets, store.offsets[1:], strict=False):
        assert len(set(store.item[a:b].tolist())) == 60


@pytest.mark.parametrize("key", ["prior_heterogeneity", "feature_heterogeneity"])
def test_adding_users_changes_nobody(key: str) -> None:
    few, many = made(**{key: 0.7}), made(**{key: 0.7}, users=230)
    size = int(few.offsets[-1])
    texts = [few.items[i] for i in few.item], [many.items[i] for i in many.item[:size]]
    assert texts[0] == texts[1]
    np.testing.assert_array_equal(few.label, many.label[:size])


@pytest.mark.parametrize("values", [{"prior_heterogeneity": 1.0}, {"feature_heterogeneity": 1.0}])
def test_the_best_possible_is_the_noise(values: dict[str, float]) -> None:
    store = made(**values, label_noise=0.1)
    assert store.bayes is not None
    np.testing.assert_allclose(store.bayes, 0.9, atol=1e-12)


def test_share_of_a_threshold() -> None:
    scores, mass = np.arange(10.0)[None, :], np.full(10, 0.1)
    for share in (0.1, 0.3, 0.5, 0.9):
        assert wanted_cells(scores, mass, np.array([[share]])).mean() == pytest.approx(share)
