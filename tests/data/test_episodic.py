"""Episodes: N classes, K examples of each, and no class, item or example on two sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta import seeding, tasks, unseen
from fedmeta.data import DataError, UserStore, load, wrap
from fedmeta.population import populate
from fedmeta.sections.data import DataConfig
from tests.data.rows import write

CLASSES, EACH = 24, 12


def rows() -> list[dict[str, Any]]:
    """Texts that name their class; no users."""
    numbers = range(CLASSES * EACH)
    return [{"text": f"c{n % CLASSES} says {n}", "label": f"c{n % CLASSES}"} for n in numbers]


def made(tmp_path: Path, table: list[dict[str, Any]] | None = None, **values: Any) -> UserStore:
    path = write(tmp_path / "data.jsonl", rows() if table is None else table)
    given = {"source": str(path), "tasks": "episodic", "users": 60, "way": 3, "support": 6}
    return load(DataConfig.model_validate({**given, "query": 9, **values}))


def episode(store: UserStore, user: int) -> tuple[list[str], list[str], list[int], list[int]]:
    """Texts and labels of support and query."""
    assert store.query is not None
    a, b = store.offsets[user : user + 2]
    at = np.arange(a, b)
    given, asked = at[~store.query[a:b]], at[store.query[a:b]]
    texts = [[str(store.items[store.item[i]]) for i in side] for side in (given, asked)]
    return texts[0], texts[1], store.label[given].tolist(), store.label[asked].tolist()


def check_leaks(store: UserStore, true: dict[str, str]) -> None:
    seen: list[set[str]] = [set(), set(), set()]
    for user, split in enumerate(store.split.tolist()):
        given, asked, given_y, asked_y = episode(store, user)
        assert not set(given) & set(asked)
        assert len(set(given + asked)) == len(given + asked)
        names: dict[int, str] = {}
        for text, label in zip(given + asked, given_y + asked_y, strict=True):
            assert names.setdefault(label, true[text]) == true[text]
        assert len(set(names.values())) == len(names)
        assert set(given_y) == set(asked_y) == set(range(len(names)))
        seen[split] |= set(names.values())
    assert all(seen)
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def truth(table: list[dict[str, Any]]) -> dict[str, str]:
    return {str(row["text"]): str(row["label"]) for row in table}


def test_way_and_shots(tmp_path: Path) -> None:
    store = made(tmp_path)
    check_leaks(store, truth(rows()))
    assert store.classes == ("1", "2", "3")
    assert np.bincount(store.split).tolist() == [36, 9, 15]
    for user in range(60):
        _, _, given, asked = episode(store, user)
        assert given == [0, 1, 2, 0, 1, 2]  # in turn, so that every prefix is balanced
        assert np.bincount(asked).tolist() == [3, 3, 3]


def test_episodes_are_seeded_each_by_itself(tmp_path: Path) -> None:
    store, again = made(tmp_path), made(tmp_path)
    more, other = made(tmp_path, users=90), made(tmp_path, seed=1)
    assert all(episode(store, u) == episode(again, u) for u in range(60))
    same = np.flatnonzero(store.split == more.split[:60]).tolist()
    assert len(same) > 20
    assert all(episode(store, u) == episode(more, u) for u in same)
    assert any(episode(store, u) != episode(other, u) for u in range(60))
    texts = {frozenset(episode(store, u)[0]) for u in range(60)}
    assert len(texts) == 60


def test_classes_are_numbered_anew_in_each_episode(tmp_path: Path) -> None:
    store, true = made(tmp_path), truth(rows())
    numbers: dict[str, set[int]] = {}
    for user in range(60):
        given, _, labels, _ = episode(store, user)
        for text, label in zip(given, labels, strict=True):
            numbers.setdefault(true[text], set()).add(label)
    assert np.mean([len(found) for found in numbers.values()]) > 2.5


def test_variable_episodes_differ_in_everything(tmp_path: Path) -> None:
    store = made(tmp_path, variable=True, way=3, support=12)
    check_leaks(store, truth(rows()))
    ways, sizes, uneven = set(), set(), 0
    for user in range(60):
        _, _, given, asked = episode(store, user)
        shots = np.bincount(given)
        ways.add(len(shots))
        sizes.add(len(given))
        uneven += shots.max() > shots.min() + 1
        assert shots.min() >= 1
        assert len(given) <= 12
        assert len(set(np.bincount(asked).tolist())) == 1  # scored evenly
    assert ways == {2, 3}
    assert len(sizes) > 5
    assert uneven > 10


def test_a_given_division_of_the_classes_is_kept(tmp_path: Path) -> None:
    side = {f"c{n}": ["train", "valid", "test", "oos"][n % 4] for n in range(CLASSES)}
    table = [{**row, "class_split": side[row["label"]]} for row in rows()]
    store, true = made(tmp_path, table), truth(table)
    check_leaks(store, true)
    for user, split in enumerate(store.split.tolist()):
        for text in episode(store, user)[0]:
            assert side[true[text]] == ("train", "valid", "test")[split]
    assert store.dropped["examples of classes for no split"] == CLASSES // 4 * EACH
    table[0] = {**table[0], "class_split": "test"}
    with pytest.raises(DataError, match=r"class 'c0' is in several splits"):
        made(tmp_path, table)


def test_a_text_that_stands_twice_is_on_one_side_only(tmp_path: Path) -> None:
    table = rows() + [dict(row) for row in rows()[:100]]
    store = made(tmp_path, table)
    check_leaks(store, truth(table))
    assert store.dropped == {"repeated items": 100}


def test_the_engine_meets_an_episode_as_it_is(tmp_path: Path) -> None:
    store = made(tmp_path)
    number = np.arange(len(store.items), dtype=np.float32)[:, None]
    people = populate(store, number, DataConfig(standardize="none"))
    users = np.arange(60)
    for task in (
        tasks.training(people, users, seeding.key(1), 6, 9, True),
        unseen.judging(people, users, seeding.key(2), 6),
    ):
        for user in users:
            given, asked, *_ = episode(store, int(user))
            for side, texts in ((task.support, given), (task.query, asked)):
                items = side.x[user, side.weight[user] > 0, 0].int().tolist()
                assert [store.items[i] for i in items] == texts
    whole = tasks.training(people, users, seeding.key(1), 6, 9, False)
    assert (whole.support.weight > 0).sum(-1).tolist() == store.sizes().tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"support": 7}, r"data.support = 7: the 3 classes .*such as 6 or 9"),
        ({"support": 2}, r"data.support = 2: .*such as 3, or"),
        ({"way": 6}, r"4 valid classes with more than 1 examples, and data.way = 6"),
        ({"support": 36}, r"0 train classes with more than 12 examples"),
        ({"unseen_items": True}, r"set data.unseen-items=false"),
    ],
)
def test_episodes_that_cannot_be(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(tmp_path, **values)


def test_targets_make_no_episodes(tmp_path: Path) -> None:
    table = [{**row, "label": i / 7} for i, row in enumerate(rows())]
    with pytest.raises(DataError, match=r"needs classes.*data.task=classification"):
        made(tmp_path, table)


def test_a_store_with_users_can_be_wrapped() -> None:
    digits = load(DataConfig(source="digits", users=40))
    settings = DataConfig(tasks="episodic", way=2, support=4, users=30)
    store = wrap(digits, settings)
    assert store.sizes().min() > 4
    assert store.query is not None
    assert isinstance(store.items, np.ndarray)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("banking77.jsonl.gz", {}),
        ("clinc150.jsonl.gz", {}),
        ("omniglot28.npz", {"label_column": "character", "way": 20, "support": 20, "query": 60}),
    ],
)
def test_shared_data(name: str, values: dict[str, Any], shared_data: Path) -> None:
    given = {"source": str(shared_data / name), "tasks": "episodic", "users": 50, **values}
    store = load(DataConfig.model_validate(given))
    assert store.query is not None
    way = values.get("way", 5)
    assert store.classes == tuple(str(n + 1) for n in range(way))
    for user in range(50):
        a, b = store.offsets[user : user + 2]
        assert np.bincount(store.label[a:b][~store.query[a:b]]).tolist() == [20 // way] * way
        items = store.item[a:b]
        assert len(set(items.tolist())) == len(items)
