"""The shared real data, where they are: the counts that their README states."""

from pathlib import Path

import numpy as np
import pytest

from fedmeta.data import SPLITS, DataError, UserStore, load
from fedmeta.sections.data import DataConfig

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")


def shared(name: str, **values: object) -> UserStore:
    return load(DataConfig.model_validate({"source": str(SHARED / name), **values}))


def splits(store: UserStore) -> list[int]:
    return [len(store.users(split)) for split in SPLITS]


def test_politeness() -> None:
    name = "stanford_politeness.jsonl.gz"
    store = shared(name, support=5)
    assert splits(store) == [234, 58, 98]
    assert store.dropped == {"repeated examples of a user": 20}
    assert len(store.label) == 55180 - 20
    assert len(store.items) == 10936
    sizes = store.sizes()
    assert [sizes.min(), np.median(sizes), sizes.max()] == [
        13,
        39,
        4038,
    ]  # 4040 with two repetitions
    assert store.label.mean() == pytest.approx(0.484, abs=5e-4)
    thirty = shared(name, min_examples=30)
    assert len(thirty.ids) == 213
    assert thirty.dropped["users with fewer than 30 examples"] == 177


def test_politeness_of_unseen_items() -> None:
    store = shared("stanford_politeness.jsonl.gz", support=5, unseen_items=True)
    assert store.fold is not None
    unseen = set(store.item[store.fold == 4].tolist())
    assert len(unseen) > 1000
    assert not unseen & set(store.item[store.fold != 4].tolist())
    assert not (np.repeat(store.split, store.sizes())[store.fold == 4] == 0).any()


def test_irony() -> None:
    store = shared("multipico_irony.jsonl.gz", support=5)
    assert splits(store) == [304, 76, 126]
    assert len(store.label) == 33871 - store.dropped["repeated examples of a user"]
    assert store.label.mean() == pytest.approx(0.329, abs=5e-4)


def test_parkinsons() -> None:
    store = shared("parkinsons_updrs.npz", label_column="motor_updrs")
    assert store.task == "regression"
    assert splits(store) == [25, 6, 11]
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape == (5875, 19)
    assert float(store.label.mean()) == pytest.approx(21.3, abs=0.05)
    total = shared("parkinsons_updrs.npz", label_column="total_updrs")
    assert float(total.label.mean()) == pytest.approx(29.0, abs=0.05)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clinc150.jsonl.gz", "no user column 'user'.*--set data.user-column="),
        ("omniglot28.npz", "no user column 'user'.*drawer"),
        ("shakespeare_speakers.jsonl.gz", "no label column 'label'"),
        ("parkinsons_updrs.npz", "no label column .*motor_updrs"),
    ],
)
def test_what_is_missing_is_named(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        shared(name)
