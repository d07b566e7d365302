"""Problems of different label spaces: the one that is met in test is in no other split."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta.data import SPLITS, DataError, UserStore, load
from fedmeta.population import populate
from fedmeta.sections.data import DataConfig
from tests.data.rows import feature_rows, text_rows, write


def labelled(classes: int, prefix: str, users: int = 24) -> list[dict[str, Any]]:
    rows = text_rows(users=users, each=8)
    return [
        {**row, "text": f"{prefix} {row['text']}", "label": f"{prefix}{i % classes}"}
        for i, row in enumerate(rows)
    ]


def files(tmp_path: Path) -> list[str]:
    sizes = {"a": 2, "b": 5, "c": 3}
    return [str(write(tmp_path / f"{n}.jsonl", labelled(c, n))) for n, c in sizes.items()]


def joined(names: list[str], **values: Any) -> UserStore:
    given = {"support": 2, "tasks": "cross-problem", "problems": ", ".join(names)}
    return load(DataConfig.model_validate({**given, **values}))


def test_the_last_problem_is_met_in_test_only(tmp_path: Path) -> None:
    names = files(tmp_path)
    for turn in range(3):
        order = names[turn:] + names[:turn]
        store = joined(order)
        assert store.domain is not None
        side = np.repeat(store.split, store.sizes())
        titles = [f"{n}:{Path(name).name}" for n, name in enumerate(order, start=1)]
        for code, expected in enumerate((titles[:2], titles[:2], titles[2:])):
            assert {store.domains[d] for d in store.domain[side == code]} == set(expected)
        # No text of the test problem is an item of another split.
        texts = [{store.items[i] for i in store.item[side == code]} for code in range(3)]
        assert not texts[2] & (texts[0] | texts[1])
        assert list(store.ids) == sorted(store.ids)


def test_labels_are_numbers_of_the_own_problem(tmp_path: Path) -> None:
    store = joined(files(tmp_path))
    assert store.domain is not None
    assert store.classes == ("0", "1", "2", "3", "4")  # the largest number of classes
    for code, classes in enumerate((2, 5, 3)):
        assert set(store.label[store.domain == code].tolist()) == set(range(classes))
    for label, item in zip(store.label, store.item, strict=True):
        # The rows' labels are their number modulo the classes, and so is that of equal texts.
        assert str(store.items[item])[0] in "abc"
        assert label < 5


def test_every_example_has_its_label(tmp_path: Path) -> None:
    names = files(tmp_path)
    store = joined(names)
    for n, (name, prefix) in enumerate(zip(names, "abc", strict=True), start=1):
        alone = load(DataConfig(source=name, support=2))
        for user in range(len(alone.ids)):
            at = store.ids.index(f"{n}:{prefix}.jsonl/{alone.ids[user]}")
            mine, his = (
                [(s.items[i], int(y)) for i, y in zip(s.item[a:b], s.label[a:b], strict=True)]
                for s, a, b in (
                    (store, *store.offsets[at : at + 2]),
                    (alone, *alone.offsets[user : user + 2]),
                )
            )
            assert mine == his


def test_a_file_without_users_is_divided(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "user"} for row in labelled(4, "d", 60)]
    plain = str(write(tmp_path / "d.jsonl", rows))
    store = joined([files(tmp_path)[0], plain], users=40, partitioner="iid")
    assert len(store.users("test")) == 40
    assert len(store.classes) == 4


def test_scores_and_features(tmp_path: Path) -> None:
    store = joined(files(tmp_path))
    features = np.ones((len(store.items), 2), dtype=np.float32)
    people = populate(store, features, DataConfig(support=2, tasks="cross-problem"))
    assert people.outputs == 5


def test_a_text_of_the_test_problem_trains_nobody(tmp_path: Path) -> None:
    """Where two problems ask different things of some of the same texts."""
    mine, last = labelled(2, "a"), labelled(3, "c")
    both = [{**row, "text": last[i]["text"]} if i % 4 == 0 else row for i, row in enumerate(mine)]
    names = [str(write(tmp_path / f"{n}.jsonl", rows)) for n, rows in (("a", both), ("c", last))]
    store = joined(names)
    side = np.repeat(store.split, store.sizes())
    texts = [{store.items[i] for i in store.item[side == code]} for code in range(3)]
    assert texts[0]
    assert texts[1]
    assert not texts[2] & (texts[0] | texts[1])
    assert store.dropped == {"texts of the test problem (1:a.jsonl)": len(mine) // 4}
    assert not joined([files(tmp_path)[0], names[1]]).dropped
    copy = [{**row, "label": f"other {row['label']}"} for row in last]
    again = str(write(tmp_path / "copy.jsonl", copy))
    with pytest.raises(DataError, match=r"all texts of copy.jsonl are in c.jsonl.*name another"):
        joined([again, names[1]])


def test_problems_that_do_not_go_together(tmp_path: Path) -> None:
    a, b, _ = files(tmp_path)
    for names in ([], [a], [a, a], [a, f"{tmp_path}/../{tmp_path.name}/a.jsonl"]):
        with pytest.raises(DataError, match=r"at least two different sources"):
            joined(names)
    numbers = str(write(tmp_path / "n.csv", feature_rows()))
    with pytest.raises(DataError, match=r"a.jsonl has texts and n.csv has 2 features"):
        joined([a, numbers])
    targets = [{**row, "label": 0.5 + i / 7} for i, row in enumerate(text_rows())]
    regression = str(write(tmp_path / "r.jsonl", targets))
    with pytest.raises(DataError, match=r"r.jsonl is a regression"):
        joined([a, regression])
    with pytest.raises(DataError, match=r"set data.unseen-items=false"):
        joined([a, b], unseen_items=True)
    assert SPLITS[2] == "test"
