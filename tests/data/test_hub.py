"""Flower's partitioners, the digits, and Hugging Face data from a folder."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from flwr_datasets.partitioner import NaturalIdPartitioner
from numpy.typing import NDArray

from fedmeta.data import DataError, UserStore, load
from fedmeta.data.partition import partition
from fedmeta.sections.data import DataConfig
from tests.data.rows import text_rows


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def digits(**values: Any) -> UserStore:
    return load(DataConfig(source="digits", users=20, support=5, **values))


def shares(store: UserStore) -> NDArray[np.float64]:
    user = np.repeat(np.arange(len(store.ids)), store.sizes())
    per_class = [
        np.bincount(user[store.label == c], minlength=len(store.ids))
        for c in range(len(store.classes))
    ]
    return np.stack(per_class, axis=1) / store.sizes()[:, None]


def test_digits_iid() -> None:
    store = digits(partitioner="iid")
    assert store.classes == tuple("0123456789")
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (1797, 64)
    assert store.items.min() == 0
    assert store.items.max() == 1
    assert len(store.label) == 1797
    assert set(store.sizes().tolist()) == {89, 90}
    assert len(np.unique(store.item)) == 1797  # no image of two users
    assert shares(store).max() < 0.3


def test_digits_dirichlet_is_the_default_and_seeded() -> None:
    store = digits(alpha=0.3)
    again, other = digits(alpha=0.3, partitioner="dirichlet"), digits(alpha=0.3, seed=1)
    np.testing.assert_array_equal(store.label, again.label)
    np.testing.assert_array_equal(store.items, again.items)
    assert store.sizes().tolist() != other.sizes().tolist()
    assert shares(store).max(axis=1).mean() > shares(digits(alpha=100.0)).max(axis=1).mean() + 0.2
    first = store.label[: store.offsets[1]]
    assert (np.diff(first) < 0).any()  # the first rows are not all of one class


def test_digits_pathological() -> None:
    store = digits(partitioner="pathological", classes_per_user=3)
    assert ((shares(store) > 0).sum(axis=1) == 3).all()


def test_sorted_labels_are_shuffled_before_they_are_cut() -> None:
    label = np.repeat(np.arange(4), 50)
    rows = partition(label, DataConfig(users=4, support=5, partitioner="iid"), "data")
    assert sorted(np.concatenate(rows).tolist()) == list(range(200))
    assert all(len(set(label[part].tolist())) == 4 for part in rows)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"users": 300}, "1797 examples cannot give 300 users 6.*at most 299.*data.users"),
        ({"partitioner": "natural"}, "'natural' needs a column of user ids"),
        ({"partitioner": "pathological", "classes_per_user": 11}, "pathological cannot make"),
        (
            {"partitioner": "pathological", "users": 3, "classes_per_user": 1},
            "pathological cannot make .*will NOT be used",
        ),
        ({"task": "regression"}, "labels are numbers; use --set data.partitioner=iid"),
    ],
)
def test_partitioner_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataConfig(**{"source": "digits", "users": 20, "support": 5, **values}))


def save(tmp_path: Path, columns: dict[str, list[Any]], **features: Any) -> str:
    table = datasets.Dataset.from_dict(columns)
    for name, feature in features.items():
        table = table.cast_column(name, feature)
    table.save_to_disk(tmp_path / "saved")
    return f"hf:{tmp_path / 'saved'}"


def columns() -> dict[str, list[Any]]:
    rows = text_rows()
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_natural_users_are_those_of_flower(tmp_path: Path) -> None:
    store = load(DataConfig(source=save(tmp_path, columns()), support=2))
    assert store.ids == tuple(f"u{u:02d}" for u in range(20))
    assert store.modality == "text"
    theirs = NaturalIdPartitioner("user")
    theirs.dataset = datasets.Dataset.from_dict(columns())
    for number in range(theirs.num_partitions):
        part = theirs.load_partition(number)
        rows = slice(store.offsets[number], store.offsets[number + 1])
        assert [store.items[i] for i in store.item[rows]] == list(part["text"])
        assert [store.classes[i] for i in store.label[rows]] == list(part["label"])


def test_made_users_and_class_names(tmp_path: Path) -> None:
    data = columns()
    data["label"] = [int(value == "yes") for value in data["label"]]
    del data["user"]
    data["text"] = [f"text {n}" for n in range(120)]
    source = save(tmp_path, data, label=datasets.ClassLabel(names=["bad", "good"]))
    store = load(DataConfig(source=source, support=2, users=5, alpha=10.0))
    assert store.ids[0] == "u00000"
    assert store.classes == ("bad", "good")
    truth = dict(zip(data["text"], data["label"], strict=True))
    found = {store.items[i]: y for i, y in zip(store.item.tolist(), store.label, strict=True)}
    assert found.items() <= truth.items()
    assert len(found) > 60
    with pytest.raises(DataError, match="no user column 'user'"):
        load(DataConfig(source=source, support=2, partitioner="natural"))
    with pytest.raises(DataError, match=r"no label column 'lable'.*did you mean 'label'"):
        load(DataConfig(source=source, support=2, label_column="lable"))


def test_images(tmp_path: Path) -> None:
    data = columns()
    del data["text"]
    data["image"] = [PIL.Image.fromarray(np.full((2, 3), n, dtype=np.uint8)) for n in range(120)]
    store = load(DataConfig(source=save(tmp_path, data), support=2))
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (120, 6)
    np.testing.assert_allclose(store.items[:, 0], np.arange(120) / 255, rtol=1e-6)


def test_splits_of_a_saved_dictionary(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(columns())
    datasets.DatasetDict({"training": table}).save_to_disk(tmp_path / "saved")
    source = f"hf:{tmp_path / 'saved'}"
    assert len(load(DataConfig(source=source, support=2, hf_split="training")).ids) == 20
    with pytest.raises(DataError, match="no split 'train'; splits found: training"):
        load(DataConfig(source=source, support=2))


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"hf:org/name cannot be loaded \(ConnectionError.*FOLDER"):
        load(DataConfig(source="hf:org/name"))
