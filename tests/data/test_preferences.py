"""The generator: tastes, independence of paths, and what is exactly known about its data."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.data import DataError, UserStore, load
from fedmeta.data.messages import ATTRIBUTES, CELLS, pool
from fedmeta.data.preferences import preferences, tastes, wanted_cells
from fedmeta.sections.data import DataConfig


def made(**values: Any) -> UserStore:
    return load(DataConfig(**{"users": 40, "messages": 600, **values}))


def examples(store: UserStore, user: int) -> tuple[list[object], list[int]]:
    rows = slice(store.offsets[user], store.offsets[user + 1])
    return [store.items[i] for i in store.item[rows]], store.label[rows].tolist()


def test_pool_is_distinct_short_and_balanced() -> None:
    found = pool(2400, 0)
    assert len(set(found.texts)) == 2400
    words = [len(text.split()) for text in found.texts]
    assert min(words) >= 6
    assert max(words) <= 25
    counts = np.bincount(found.cell, minlength=len(CELLS))
    assert counts.max() - counts.min() <= 1
    assert np.bincount(found.fold).min() > 400
    assert found.fold.max() == 4
    assert all("{" not in text and "|" not in text for text in found.texts)


def test_pool_depends_on_seed_and_grows_at_the_end() -> None:
    small, large, other = pool(300, 0), pool(900, 0), pool(300, 1)
    assert large.texts[:300] == small.texts
    np.testing.assert_array_equal(large.fold[:300], small.fold)
    assert set(other.texts) != set(small.texts)


def test_all_messages_are_distinct() -> None:
    with pytest.raises(DataError, match=r"at most ([0-9]+) messages") as caught:
        pool(10**6, 0)
    most = int(str(caught.value).split()[-2])
    assert len(set(pool(most, 0).texts)) == most > 24000


def test_adding_users_changes_nobody() -> None:
    few, many = made(), made(users=90)
    assert few.items == many.items
    for user in range(40):
        assert few.ids[user] == many.ids[user]
        assert examples(few, user) == examples(many, user)


def test_heterogeneity_changes_labels_only() -> None:
    alike, mixed, different = (made(heterogeneity=h) for h in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(alike.item, different.item)
    np.testing.assert_array_equal(alike.item, mixed.item)
    assert 0.4 < np.mean(alike.label == different.label) < 0.6
    assert np.mean(alike.label == mixed.label) > 0.6


def test_seeds_differ_and_repeat() -> None:
    one, same, other = made(), made(), made(seed=1)
    np.testing.assert_array_equal(one.label, same.label)
    np.testing.assert_array_equal(one.item, same.item)
    assert one.sizes().tolist() != other.sizes().tolist()


def test_alike_users_agree_on_every_message() -> None:
    store = made(heterogeneity=0.0, label_noise=0.0)
    for item in range(600):
        assert len(set(store.label[store.item == item].tolist())) <= 1


def test_noise_is_the_rate_of_flips() -> None:
    clean, noisy = made(users=400, label_noise=0.0), made(users=400, label_noise=0.2)
    np.testing.assert_array_equal(clean.item, noisy.item)
    rate = np.mean(clean.label != noisy.label)
    assert abs(rate - 0.2) < 4 * np.sqrt(0.16 / len(clean.label))


def test_labels_are_balanced_and_unpredictable_for_strangers() -> None:
    store = made(users=2000, label_noise=0.0)
    assert abs(store.label.mean() - 0.5) < 0.01
    wish = wanted_cells(tastes(store.ids, DataConfig()), np.full(len(CELLS), 1 / len(CELLS)))
    assert (wish.sum(axis=1) == len(CELLS) // 2).all()
    # Over independent users no combination of attributes is liked more often: 4.5 sigma.
    assert np.abs(wish.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(2000)


def test_tastes_are_concentrated() -> None:
    scores = tastes(tuple(f"u{u}" for u in range(300)), DataConfig())
    explained = []
    for attribute in range(len(ATTRIBUTES)):
        groups = [scores[:, CELLS[:, attribute] == v] for v in np.unique(CELLS[:, attribute])]
        weight = np.array([group.shape[1] for group in groups]) / len(CELLS)
        means = np.stack([group.mean(axis=1) for group in groups])
        centred = means - (weight[:, None] * means).sum(axis=0)
        explained.append((weight[:, None] * centred**2).sum(axis=0))
    share = np.array(explained) / scores.var(axis=1)
    np.testing.assert_allclose(share.sum(axis=0), 1, rtol=1e-9)  # scores are additive
    assert np.sort(share, axis=0)[-2:].sum(axis=0).mean() > 0.9


@pytest.mark.parametrize(("h", "noise"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.3)])
def test_bayes_by_brute_force(h: float, noise: float) -> None:
    config = DataConfig(users=5, messages=30, heterogeneity=h, label_noise=noise, support=5)
    raw, found = preferences(config), pool(30, 0)
    mass = np.bincount(found.cell, minlength=len(CELLS)) / 30
    wish = wanted_cells(tastes(raw.ids, config), mass)
    assert raw.bayes is not None
    for user in range(5):
        accuracy = 0.0
        for cell in found.cell:  # the better guess of two, for each message of the pool
            chance = 1 - noise if wish[user, cell] else noise
            accuracy += max(chance, 1 - chance) / 30
        assert raw.bayes[user] == pytest.approx(accuracy, abs=1e-12)
        assert raw.bayes[user] == pytest.approx(1 - noise, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_threshold_divides_most_nearly_in_half(seed: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    scores, mass = rng.standard_normal((1, cells)), rng.dirichlet(np.ones(cells))
    liked = float(mass[wanted_cells(scores, mass)[0]].sum())
    every = [float(mass[scores[0] > score].sum()) for score in sorted(scores[0])[:-1]]
    assert abs(liked - 0.5) == pytest.approx(min(abs(part - 0.5) for part in every), abs=1e-9)


def test_sizes_follow_the_config() -> None:
    store = made(users=400, examples=60, examples_spread=0.4)
    assert store.sizes().min() >= 21
    assert 55 < np.median(store.sizes()) < 65
    assert 0.3 < np.log(store.sizes()).std() < 0.5
    equal = made(examples=30, examples_spread=0.0)
    assert set(equal.sizes().tolist()) == {30}
    assert made(min_examples=80, examples_spread=0.0).sizes().min() == 80
    assert made(examples=10**6, messages=500).sizes().max() == 500
    for user in range(40):
        texts, _ = examples(store, user)
        assert len(set(texts)) == len(texts)


def test_unseen_items_of_the_generator() -> None:
    store = made(unseen_items=True)
    assert store.fold is not None
    train = np.repeat(store.split, store.sizes()) == 0
    assert not (store.fold[train] == 4).any()
    assert (store.fold[~train] == 4).any()


def test_pool_smaller_than_a_user() -> None:
    with pytest.raises(DataError, match=r"data.messages = 20: a user needs 21"):
        made(messages=20)


def test_ten_thousand_users_are_quick() -> None:
    start = time.process_time()
    assert len(made(users=10_000, messages=2400).ids) == 10_000
    assert time.process_time() - start < 6  # about 1.6 s on an idle core
