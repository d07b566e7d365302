"""One user's own file gives what he has in the table of all users."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmeta.data import own
from fedmeta.data.files import read_table
from fedmeta.data.prepare import prepare
from fedmeta.data.raw import DataError
from fedmeta.facts import Facts
from fedmeta.sections.data import DataConfig

CONFIG = DataConfig(support=3, domain_column="lang")


def everybody() -> pd.DataFrame:
    """Eight users, each with two of five classes and some of three languages; texts come twice."""
    draw = np.random.default_rng(4)
    user = draw.permutation(np.repeat(np.arange(8), 9))
    return pd.DataFrame(
        {
            "user": [f"u{one}" for one in user],
            "text": [f"text {draw.integers(40)}" for _ in user],
            "label": (user + draw.integers(0, 2, len(user))) % 5 + 8,
            "lang": [("de", "en", "pt")[(one + draw.integers(2)) % 3] for one in user],
            "split": ["valid" if one == 6 else "test" if one == 7 else "train" for one in user],
        }
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_own_files_hold_what_the_table_holds(ending: str, tmp_path: Path) -> None:
    frame = everybody()

    def write(rows: pd.DataFrame, name: str) -> Path:
        path = tmp_path / f"{name}.{ending}"
        if ending == "csv":
            rows.to_csv(path, index=False)
        elif ending == "jsonl":
            rows.to_json(path, orient="records", lines=True)
        else:
            rows.to_parquet(path)
        return path

    store = prepare(read_table(write(frame, "all"), CONFIG), CONFIG)
    facts = Facts("classification", store.classes, 4, "hashing", domains=store.domains)
    assert len(store.classes) == 5
    assert store.domain is not None
    for number, name in enumerate(store.ids):
        rows = frame[frame["user"] == name]
        raw = own.read(write(rows.drop(columns="user"), name), name, CONFIG)
        assert own.split_of(raw) == rows["split"].iloc[0]
        mine = own.own(raw, CONFIG, facts, 0)
        assert mine is not None
        assert mine.domain is not None
        his = slice(store.offsets[number], store.offsets[number + 1])
        assert [mine.items[i] for i in mine.item] == [store.items[i] for i in store.item[his]]
        assert mine.label.tolist() == store.label[his].tolist()
        assert mine.domain.tolist() == store.domain[his].tolist()
        # Of a table of all users he takes his own rows.
        same = own.own(own.read(tmp_path / f"all.{ending}", name, CONFIG), CONFIG, facts, 0)
        assert same is not None
        assert same.label.tolist() == mine.label.tolist()


def test_archives_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, user = draw.normal(size=(12, 2)).astype(np.float32), np.arange(12) % 3
    np.savez(tmp_path / "all.npz", X=x, y=user, user=user)
    config = DataConfig(support=2)
    facts = Facts("classification", ("0", "1", "2"), 2, "identity")
    mine = own.own(own.read(tmp_path / "all.npz", "2", config), config, facts, 0)
    assert mine is not None
    assert np.array_equal(np.asarray(mine.items)[mine.item], x[user == 2])
    assert mine.label.tolist() == [2] * 4
    with pytest.raises(DataError, match="no examples of the user '7'"):
        own.read(tmp_path / "all.npz", "7", config)


def test_a_class_that_the_run_does_not_know_is_named(tmp_path: Path) -> None:
    frame = everybody()
    frame[frame["user"] == "u0"].to_csv(tmp_path / "mine.csv", index=False)
    raw = own.read(tmp_path, "u0", CONFIG)
    with pytest.raises(DataError, match="none of the 2 classes of the run"):
        own.own(raw, CONFIG, Facts("classification", ("8", "11"), 4, "hashing"), 0)
