"""The domain of each example: read, carried through filters, and made by the generator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta.data import DataError, UserStore, load
from fedmeta.data.messages import ATTRIBUTES, CELLS, pool
from fedmeta.data.preferences import groups, tastes, wanted_cells
from fedmeta.sections.data import DataConfig
from tests.data.rows import config, feature_rows, load_rows, text_rows, with_column, write


def made(**values: Any) -> UserStore:
    return load(DataConfig(**{"users": 60, "messages": 600, **values}))


def names_of(store: UserStore) -> list[str]:
    assert store.domain is not None
    return [store.domains[code] for code in store.domain]


def test_domains_stay_with_their_examples(tmp_path: Path) -> None:
    rows = with_column(text_rows(), "lang", lambda i: ["pt", "de", "fr"][i % 3])
    rows += [{"user": "zz", "text": "x", "label": "yes", "lang": "it"}]  # too few: dropped
    rows.append(dict(rows[0]))  # a repetition: dropped
    store = load_rows(tmp_path, rows, domain_column="lang")
    assert store.domains == ("de", "fr", "pt")
    found = zip(np.repeat(store.ids, store.sizes()), store.item, names_of(store), strict=True)
    wanted = {(row["user"], row["text"], row["lang"]) for row in rows if row["user"] != "zz"}
    assert {(user, store.items[item], name) for user, item, name in found} == wanted


def test_without_the_key_there_are_none(tmp_path: Path) -> None:
    rows = with_column(text_rows(), "domain", lambda i: i % 3)
    assert load_rows(tmp_path, rows).domain is None
    assert made().domain is None
    assert made().domains == ()


def test_a_numeric_domain_is_no_feature(tmp_path: Path) -> None:
    store = load_rows(tmp_path, with_column(feature_rows(), "site", lambda i: i % 2))
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape[1] == 3
    store = load_rows(
        tmp_path, with_column(feature_rows(), "site", lambda i: i % 2), domain_column="site"
    )
    assert isinstance(store.items, np.ndarray)
    assert store.items.shape[1] == 2
    assert names_of(store) == ["0", "1"] * 60


def test_missing_domains_are_refused(tmp_path: Path) -> None:
    rows = with_column(text_rows(), "lang", lambda i: None if i == 4 else "de")
    with pytest.raises(DataError, match=r"row 5 has no domain \(column 'lang'\)"):
        load_rows(tmp_path, rows, domain_column="lang")
    with pytest.raises(DataError, match=r"no domain column 'language'.*did you mean 'lang'"):
        load_rows(tmp_path, rows, domain_column="language")
    with pytest.raises(DataError, match=r"digits: no domain column 'lang'"):
        load(DataConfig(source="digits", users=50, domain_column="lang"))
    with pytest.raises(DataError, match=r"preferences: no domain column 'lang'.*topic, tone"):
        made(domain_column="lang")


def test_archives_have_domains(tmp_path: Path) -> None:
    user = np.repeat(np.arange(12), 5)
    arrays = {"X": np.random.default_rng(0).random((60, 3)), "y": user % 2, "user": user}
    np.savez(tmp_path / "a.npz", site=np.arange(60) % 4, **arrays)  # type: ignore[arg-type]
    store = load(config(tmp_path / "a.npz", domain_column="site"))
    assert store.domains == ("0", "1", "2", "3")
    with pytest.raises(DataError, match=r"no domain column 'place'"):
        load(config(tmp_path / "a.npz", domain_column="place"))


def test_hub_folders_have_domains(tmp_path: Path) -> None:
    rows = with_column(text_rows(), "lang", lambda i: ["pt", "de"][i % 2])
    write(tmp_path / "rows.jsonl", rows)
    store = load(config(f"hf:{tmp_path}", domain_column="lang", hf_split="train"))
    assert store.domains == ("de", "pt")


def test_groups_of_generated_users_share_a_shift() -> None:
    alone, grouped = made(label_noise=0.0), made(label_noise=0.0, domains=2)
    np.testing.assert_array_equal(alone.item, grouped.item)  # labels change, messages do not
    assert grouped.domains == ("group 0", "group 1")
    assert grouped.domain is not None
    home = grouped.domain[grouped.offsets[:-1]]
    np.testing.assert_array_equal(np.repeat(home, grouped.sizes()), grouped.domain)
    assert 20 <= home.sum() <= 40  # about half of them
    np.testing.assert_array_equal(home, groups(grouped.ids, DataConfig(domains=2)))
    # Within a group people agree on more messages than across groups.
    wish = wanted_cells(tastes(grouped.ids, DataConfig(domains=2)), np.full(len(CELLS), 1 / 144))
    like = (wish[:, None] == wish[None, :]).mean(axis=-1)
    same = home[:, None] == home[None, :]
    other = ~same
    np.fill_diagonal(same, False)
    assert like[same].mean() > like[other].mean() + 0.08


def test_adding_users_moves_nobody_to_another_group() -> None:
    few, many = made(domains=3), made(users=90, domains=3)
    assert few.domain is not None
    assert many.domain is not None
    np.testing.assert_array_equal(few.domain, many.domain[: len(few.domain)])
    np.testing.assert_array_equal(few.label, many.label[: len(few.label)])


def test_attributes_of_messages_as_domains() -> None:
    store = made(domain_column="topic")
    assert store.domains == ATTRIBUTES["topic"]
    np.testing.assert_array_equal(store.label, made().label)
    cell = dict(zip(pool(600, 0).texts, pool(600, 0).cell, strict=True))
    for item, name in zip(store.item, names_of(store), strict=True):
        assert ATTRIBUTES["topic"][cell[store.items[item]] // 24] == name
    with pytest.raises(DataError, match=r"leave out one of the two"):
        made(domain_column="topic", domains=2)


@pytest.mark.parametrize(
    ("name", "column", "count"),
    [("stanford_politeness.jsonl.gz", "community", 26), ("multipico_irony.jsonl.gz", "lang", 9)],
)
def test_shared_data(name: str, column: str, count: int, shared_data: Path) -> None:
    store = load(DataConfig(source=str(shared_data / name), support=5, domain_column=column))
    assert len(store.domains) == count
    assert store.domain is not None
    assert len(store.domain) == len(store.label)
