"""Windows of characters, and images turned by quarters."""

from pathlib import Path

import numpy as np
import pytest

from fedmeta.data.raw import DataError
from fedmeta.data.sources import load
from fedmeta.data.windows import windows
from fedmeta.sections.data import DataConfig
from tests.data.rows import write


def frame_of(*texts: str):  # type: ignore[no-untyped-def]
    import pandas as pd

    return pd.DataFrame({"user": ["u"] * len(texts), "text": texts})


def test_what_stands_before_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmeta.data.windows.FEWEST", 1)
    found = windows(frame_of("abcdefg", "x", "hé!"), DataConfig(window=4, stride=3), "t")
    codes = found[[f"code{at}" for at in range(4)]].to_numpy()
    assert found["label"].tolist() == ["g", "d", "!"]
    assert codes[0].tolist() == [ord(c) for c in "cdef"]
    assert codes[1].tolist() == [-1, ord("a"), ord("b"), ord("c")]
    assert codes[2].tolist() == [-1, -1, ord("h"), 127]


def test_seldom_characters_are_one_class() -> None:
    found = windows(frame_of(*["ab"] * 12, *["ac"] * 9, "aé"), DataConfig(window=2), "t")
    assert sorted(found["label"].unique()) == ["b", "rare"]
    assert (found["label"] == "rare").sum() == 10


def test_users_of_windows(tmp_path: Path) -> None:
    rows = [
        {"user": f"u{u}", "text": "to be or not to be " * 9, "n": 3, "label": 7} for u in range(9)
    ]
    config = DataConfig(source=str(write(tmp_path / "a.csv", rows)), window=6, support=4)
    store = load(config)
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape[1] == 6
    assert store.items.max() == ord("t")
    assert set(store.classes) <= set("tobern rare".replace("rare", "")) | {"rare"}
    without = [{key: row[key] for key in ("user", "label", "n")} for row in rows]
    source = str(write(tmp_path / "b.csv", without))
    with pytest.raises(DataError, match=r"data\.window = 6 cuts texts, and there is no text col"):
        load(config.model_copy(update={"source": source}))


def test_turned_images_are_further_training_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.random((40, 3, 3)).astype(np.float32)
    label, test = np.repeat(np.arange(10), 4), np.repeat(np.arange(10) >= 7, 4)
    np.savez(tmp_path / "a.npz", images=images, y=label, evaluation=test)
    config = DataConfig(
        source=str(tmp_path / "a.npz"), tasks="episodic", way=2, support=2, query=2, users=400,
        class_split_column="evaluation", min_examples=1,
    )  # fmt: skip
    plain, more = load(config), load(config.model_copy(update={"rotations": True}))
    assert isinstance(more.items, np.ndarray)
    assert isinstance(plain.items, np.ndarray)
    code = np.repeat(more.split, more.sizes())
    seen = {split: np.unique(more.item[code == number]) for number, split in enumerate("tve")}
    assert (seen["v"] < 40).all()
    assert (label[seen["e"]] >= 7).all()
    assert (label[seen["v"]] < 7).all()
    turned = seen["t"][seen["t"] >= 40]
    training = np.setdiff1d(np.arange(28), np.flatnonzero(np.isin(label, label[seen["v"]])))
    assert len(turned) == 3 * len(training)
    rows = more.items[40:].reshape(3, len(training), 3, 3)
    for quarter in range(3):
        for row, at in zip(rows[quarter], training, strict=True):
            assert np.array_equal(row, np.rot90(images[at], quarter + 1))
    texts = write(tmp_path / "t.csv", [{"text": f"w{i}", "label": i % 20} for i in range(200)])
    with pytest.raises(DataError, match=r"turns square images, and the items are none"):
        load(DataConfig(source=str(texts), tasks="episodic", way=2, support=2, rotations=True))
