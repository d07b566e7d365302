"""What every source passes: labels, splits, enough examples, unseen items."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta.data import SPLITS, DataError, UserStore
from fedmeta.data.splits import hashed
from tests.data.rows import Row, feature_rows, load_rows, text_rows

Values = dict[str, Any]


def relabelled(labels: list[Any]) -> list[Row]:
    return [{**row, "label": labels[i % len(labels)]} for i, row in enumerate(text_rows())]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9], ("9", "10")),
        (["10", "9"], ("9", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
        ([2.0, 1.0], ("1", "2")),
        ([True, False], ("False", "True")),
    ],
)
def test_classes_are_sorted(tmp_path: Path, labels: list[Any], classes: tuple[str, ...]) -> None:
    store = load_rows(tmp_path, relabelled(labels))
    assert store.classes == classes
    assert store.label.dtype == np.int64
    name = labels[0] if not isinstance(labels[0], float) else int(labels[0])
    assert store.classes[int(store.label[0])] == str(name)


def test_fractions_mean_regression_unless_told_otherwise(tmp_path: Path) -> None:
    store = load_rows(tmp_path, relabelled([0.5, 2.0]))
    assert store.task == "regression"
    assert store.label.dtype == np.float64  # float32 only once they are centred
    np.testing.assert_array_equal(store.label[:2], [0.5, 2.0])
    store = load_rows(tmp_path, relabelled([0.5, 2.0]), task="classification")
    assert store.classes == ("0.5", "2.0")
    store = load_rows(tmp_path, relabelled([1, 2]), task="regression")
    assert store.task == "regression"
    assert store.label[:2].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        (["a"], {}, r"one class only \(a\)"),
        ([0.5], {}, "all labels are 0.5"),
        (["a", "b"], {"task": "regression"}, "a label is not a number.*'a'"),
        ([0.5, float("inf")], {}, "row 2 has the label inf"),
        ([0.5, 1e300], {}, "row 2 has the label 1e\\+300"),
    ],
)
def test_unusable_labels(tmp_path: Path, labels: list[Any], values: Values, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_rows(tmp_path, relabelled(labels), **values)


@pytest.mark.parametrize("users", [3, 4, 5, 7, 20, 400])
def test_split_fractions(users: int) -> None:
    ids = tuple(f"u{u}" for u in range(users))
    split = hashed(ids, 0, "data")
    counts = np.bincount(split, minlength=3)
    assert counts.min() >= 1
    assert counts.sum() == users
    assert np.abs(counts - np.array([0.6, 0.15, 0.25]) * users).max() <= 1
    shuffled = hashed(ids[::-1], 0, "data")
    np.testing.assert_array_equal(shuffled[::-1], split)  # of the ids, not of their order
    if users == 400:
        assert counts.tolist() == [240, 60, 100]
        assert (hashed(ids, 1, "data") != split).any()


def test_two_users_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 user\(s\)"):
        load_rows(tmp_path, text_rows(users=2))


def splits_of(store: UserStore) -> dict[str, str]:
    return {name: SPLITS[code] for name, code in zip(store.ids, store.split, strict=True)}


def test_given_split_is_kept(tmp_path: Path) -> None:
    rows = [{**row, "split": SPLITS[int(row["user"][1:]) % 3]} for row in text_rows()]
    store = load_rows(tmp_path, rows)
    assert splits_of(store) == {row["user"]: row["split"] for row in rows}
    assert store.ids[int(store.users("valid")[0])] == "u01"
    ignored = load_rows(tmp_path, rows, split_column="")
    assert Counter(splits_of(ignored).values()) == {"train": 12, "valid": 3, "test": 5}


def test_bad_splits(tmp_path: Path) -> None:
    rows = [{**row, "split": SPLITS[int(row["user"][1:]) % 3]} for row in text_rows()]
    with pytest.raises(DataError, match="user 'u19' has examples in several splits"):
        load_rows(tmp_path, [{**rows[0], "split": "test"}, *rows[1:]])
    with pytest.raises(DataError, match="contains 'dev'; it must be train / valid / test"):
        load_rows(tmp_path, [{**rows[0], "split": "dev"}, *rows[1:]])
    with pytest.raises(DataError, match=r"no valid user among 13 users; .*column 'split'"):
        load_rows(tmp_path, [row for row in rows if row["split"] != "valid"])


def test_small_users_are_dropped_and_counted(tmp_path: Path) -> None:
    small = [{"user": "zz", "text": f"private {n}", "label": "yes"} for n in range(3)]
    rows = small + text_rows()
    kept = load_rows(tmp_path, rows)  # support 2: three examples suffice
    assert "zz" in kept.ids
    assert kept.dropped == {}
    for values in ({"support": 3}, {"min_examples": 4}):
        store = load_rows(tmp_path, rows, **values)
        assert store.dropped == {"users with fewer than 4 examples": 1}
        assert "zz" not in store.ids
        assert len(store.items) == 6
        assert {text for text in store.items if "private" in str(text)} == set()
        assert splits_of(store).items() < splits_of(kept).items()  # nobody changed the split
        whole = [(store.items[i], label) for i, label in zip(store.item, store.label, strict=True)]
        assert whole[:2] == [("message 0", 0), ("message 1", 1)]


def test_split_without_users_left(tmp_path: Path) -> None:
    message = "no train and no valid and no test user among 20 users .dropped 20 users with fewer"
    with pytest.raises(DataError, match=f"{message} than 10 examples.*lower data.support .now 9."):
        load_rows(tmp_path, text_rows(), support=9)


def test_a_class_that_no_train_user_has(tmp_path: Path) -> None:
    rows = [{**row, "split": SPLITS[int(row["user"][1:]) % 3]} for row in text_rows()]
    rows = [{**row, "label": "odd"} if row["split"] == "test" else row for row in rows]
    with pytest.raises(DataError, match="labels in test never seen in train: odd;"):
        load_rows(tmp_path, rows)


def test_classes_of_dropped_users_are_forgotten(tmp_path: Path) -> None:
    rows = [*text_rows(), {"user": "zz", "text": "x", "label": "maybe"}]
    store = load_rows(tmp_path, rows)
    assert store.classes == ("no", "yes")
    assert set(store.label.tolist()) == {0, 1}


def folded(users: int = 20) -> list[Row]:
    rows = [{**row, "split": SPLITS[int(row["user"][1:]) % 3]} for row in text_rows(users)]
    return [{**row, "item_fold": int(row["text"][-1]) % 5} for row in rows]


def test_unseen_items(tmp_path: Path) -> None:
    store = load_rows(tmp_path, folded(), unseen_items=True)
    assert store.fold is not None
    for user in range(len(store.ids)):
        rows = slice(store.offsets[user], store.offsets[user + 1])
        wanted = [0, 1, 2, 3, 0] if store.split[user] == 0 else [0, 1, 2, 3, 4, 0]
        assert store.fold[rows].tolist() == wanted
    assert store.dropped == {"examples of item fold 4 of train users": 7}
    seen = load_rows(tmp_path, folded())
    assert len(seen.label) == 120
    assert seen.dropped == {}


@pytest.mark.parametrize("fold", [0, 4])
def test_unseen_items_need_examples_on_both_sides(tmp_path: Path, fold: int) -> None:
    rows = folded()
    lonely = [{**rows[0], "user": "zz", "split": "test", "item_fold": fold} for _ in range(6)]
    lonely = [{**row, "text": f"own {n}"} for n, row in enumerate(lonely)]
    store = load_rows(tmp_path, rows + lonely, unseen_items=True)
    assert "zz" not in store.ids
    reason = "users with fewer than 3 examples, or too few in or outside item fold 4"
    assert store.dropped[reason] == 1


def test_a_text_in_two_folds_is_not_unseen(tmp_path: Path) -> None:
    rows = folded()
    for row in rows:  # so that u01 has message 0 in one fold only
        if row["user"] == "u01" and row["text"] == rows[0]["text"]:
            row["text"] = "another message"
    rows.append({**rows[0], "user": "u01", "split": "valid", "item_fold": 4})  # message 0
    store = load_rows(tmp_path, rows, unseen_items=True)
    assert store.dropped["examples of item fold 4 that stand in another fold too"] == 1
    assert store.fold is not None
    unseen = set(store.item[store.fold == 4].tolist())
    assert unseen
    assert not unseen & set(store.item[store.fold != 4].tolist())


def test_unseen_items_without_folds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'item_fold'.*--set data.fold-column="):
        load_rows(tmp_path, feature_rows(), unseen_items=True)


def test_a_text_that_a_user_has_twice_counts_once(tmp_path: Path) -> None:
    """Or it could be in his support and in his query, and be remembered rather than learned."""
    rows = text_rows()
    repeated = [row for row in rows if row["user"] == "u00"]
    store = load_rows(tmp_path, rows + repeated)
    assert store.dropped == {"repeated examples of a user": len(repeated)}
    assert len(store.label) == len(rows)
    for first, last in pairwise(store.offsets.tolist()):
        assert len(set(store.item[first:last].tolist())) == last - first


def test_large_targets_keep_their_precision(tmp_path: Path) -> None:
    shifted = relabelled([1.7e9 + 0.5, 1.7e9 + 3.0])
    np.testing.assert_array_equal(load_rows(tmp_path, shifted).label[:2] - 1.7e9, [0.5, 3.0])
