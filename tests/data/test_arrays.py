"""Numpy archives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta.data import DataError, load
from tests.data.rows import config

USER = np.repeat(np.arange(12), 4)
PLAIN: dict[str, Any] = {
    "X": np.arange(96).reshape(48, 2),
    "y": np.arange(48) % 2,
    "user": USER,
}


def archive(tmp_path: Path, **changes: Any) -> Path:
    arrays = {key: value for key, value in {**PLAIN, **changes}.items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


@pytest.mark.parametrize("name", ["y", "label", "labels"])
def test_features(tmp_path: Path, name: str) -> None:
    store = load(config(archive(tmp_path, **{"y": None, name: PLAIN["y"]})))
    assert store.ids[:3] == ("0", "1", "10")  # sorted as texts
    assert isinstance(store.items, np.ndarray)
    assert store.items.dtype == np.float32
    np.testing.assert_array_equal(store.items[store.item[8]], [80, 81])  # first of user 10
    assert store.classes == ("0", "1")


def test_images_are_scaled(tmp_path: Path) -> None:
    images = np.full((48, 2, 3), 51, dtype=np.uint8)
    store = load(config(archive(tmp_path, X=None, images=images)))
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (48, 6)
    np.testing.assert_allclose(store.items, 0.2, rtol=1e-6)


def test_label_column_comes_first(tmp_path: Path) -> None:
    score = np.linspace(0, 1, 48)
    store = load(config(archive(tmp_path, score=score), label_column="score"))
    assert store.task == "regression"
    np.testing.assert_allclose(store.label[:4], score[:4], rtol=1e-6)


def test_user_split_is_indexed_by_user_number(tmp_path: Path) -> None:
    split = np.arange(25) % 3  # of numbers that nobody has, too
    path = archive(tmp_path, user=USER * 2, user_split=split)
    store = load(config(path))
    assert store.split.tolist() == [int(name) % 3 for name in store.ids]
    ignored = load(config(path, split_column=""))
    assert np.bincount(ignored.split).tolist() == [7, 2, 3]


def test_split_and_fold_of_examples(tmp_path: Path) -> None:
    split = np.array(["train", "valid", "test"])[USER % 3]
    store = load(config(archive(tmp_path, split=split, item_fold=np.tile(np.arange(4), 12))))
    assert store.split.tolist() == [int(name) % 3 for name in store.ids]
    assert store.fold is not None
    assert store.fold[:5].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "no input column"),
        ({"y": None}, "no label column 'label | y | labels'"),
        ({"user": None}, "no user column 'user'; columns found: X, y; .*data.user-column"),
        ({"y": np.zeros(47)}, r"'y' has shape \(47,\).*48 examples"),
        ({"user": np.zeros((48, 1))}, r"'user' has shape \(48, 1\)"),
        ({"X": np.zeros(())}, "'X' has shape"),
        ({"X": np.array(["a"] * 48)}, "'X' has dtype <U1"),
        ({"X": np.full((48, 1), np.nan)}, "row 1, feature 0 is nan"),
        ({"X": np.array([[None]] * 48)}, "pickled objects are never loaded"),
        ({"user_split": np.array([0, 1, 2])}, "'user_split'"),
        ({"user_split": np.full(12, 3)}, "'user_split'"),
        ({"item_fold": np.full(48, 0.5)}, "'item_fold' has dtype float64"),
        (
            {"X": np.where(np.eye(48, 2, k=-5) > 0, np.inf, 0), "feature_names": ["p", "q"]},
            "row 6, feature 'p' is inf",
        ),
    ],
)
def test_errors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(config(archive(tmp_path, **changes)))


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not an archive of plain arrays"):
        load(config(tmp_path / "a.npz"))
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        load(config(tmp_path / "a.npz"))


def test_examples_may_share_items(tmp_path: Path) -> None:
    item = np.arange(48) % 5
    shared: dict[str, Any] = {"X": None, "items": np.arange(10).reshape(5, 2), "item": item}
    store = load(config(archive(tmp_path, **shared)))
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (5, 2)
    assert store.item[:4].tolist() == [0, 1, 2, 3]
    for wrong in (None, item + 1, item - 1, item.astype(float), item[1:]):
        with pytest.raises(DataError, match="item"):
            load(config(archive(tmp_path, **{**shared, "item": wrong})))
