"""No domain on two sides: of the splits (cross-domain), of a training user (generalization)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta import seeding, tasks, unseen
from fedmeta.data import SPLITS, DataError, UserStore, load, wrap
from fedmeta.population import Population, populate
from fedmeta.sections.data import DataConfig
from tests.data.rows import config, load_rows, text_rows, with_column


def made(**values: Any) -> UserStore:
    return load(DataConfig(**{"users": 80, "messages": 600, "support": 5, **values}))


def domains_by_split(store: UserStore) -> list[set[str]]:
    assert store.domain is not None
    side = np.repeat(store.split, store.sizes())
    return [{store.domains[d] for d in store.domain[side == code]} for code in range(len(SPLITS))]


def check_disjoint(store: UserStore) -> None:
    train, valid, test = domains_by_split(store)
    assert train
    assert valid
    assert test
    assert not train & valid
    assert not train & test
    assert not valid & test


@pytest.mark.parametrize("values", [{"domains": 5}, {"domain_column": "topic"}])
def test_cross_domain(values: dict[str, Any]) -> None:
    store = made(tasks="cross-domain", **values)
    check_disjoint(store)
    again, other = (made(tasks="cross-domain", **values, seed=s) for s in (0, 1))
    assert domains_by_split(again) == domains_by_split(store)
    assert domains_by_split(other) != domains_by_split(store)


def test_a_users_other_domains_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = with_column(text_rows(each=8), "lang", lambda i: "abcd"[(i // 8 + (i % 8 > 5)) % 4])
    store = load_rows(tmp_path, rows, domain_column="lang", tasks="cross-domain")
    check_disjoint(store)
    left = store.dropped["examples of domains of another split than their user's"]
    assert 0 < left == len(rows) - len(store.label)
    # Six examples of eight are of one domain: nobody is moved to a split for two.
    assert store.sizes().min() >= 6


def test_a_split_of_the_users_is_not_looked_at(tmp_path: Path) -> None:
    rows = [
        {**row, "lang": "abc"[int(row["user"][1:]) % 3], "split": SPLITS[int(row["user"][1:]) % 2]}
        for row in text_rows()
    ]
    store = load_rows(tmp_path, rows, domain_column="lang", tasks="cross-domain")
    check_disjoint(store)


@pytest.mark.parametrize("kind", ["cross-domain", "domain-generalization"])
def test_too_few_domains_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"at least . domains.*--set data.domain-column="):
        made(tasks=kind)
    if kind == "cross-domain":
        with pytest.raises(DataError, match=r"at least 3 domains and there are 2"):
            made(tasks=kind, domains=2)


def test_users_with_one_domain_cannot_be_generalized_from() -> None:
    with pytest.raises(DataError, match=r"each of the .* has one only; use data.tasks = 'cross-d"):
        made(tasks="domain-generalization", domains=4)


def population(store: UserStore, config: DataConfig) -> Population:
    number = np.arange(len(store.items), dtype=np.float32)[:, None]
    return populate(store, number, config.model_copy(update={"standardize": "none"}))


def test_support_and_query_of_a_training_user_share_no_domain() -> None:
    settings = DataConfig(
        users=80, messages=600, support=5, tasks="domain-generalization", domain_column="topic"
    )
    store = load(settings)
    people, users = population(store, settings), store.users("train")
    assert store.domain is not None
    topic = dict(zip(store.item.tolist(), store.domain.tolist(), strict=True))
    sides = []
    for number in (1, 2, 1):
        task = tasks.training(people, users, seeding.key(number), 5, 30, True)
        found = []
        for user in range(len(users)):
            given, asked = (
                side.x[user, side.weight[user] > 0, 0].int().tolist()
                for side in (task.support, task.query)
            )
            assert given
            assert asked
            assert len(given) <= 5
            assert len(asked) <= 30
            assert not {topic[i] for i in given} & {topic[i] for i in asked}
            mine = store.item[store.offsets[users[user]] : store.offsets[users[user] + 1]]
            assert set(given + asked) <= set(mine.tolist())
            found.append(frozenset(topic[i] for i in given))
        sides.append(found)
    assert sides[0] == sides[2]
    assert sides[0] != sides[1]  # each round draws other domains
    # A method that does not part its examples, and users who are judged, have all of them.
    whole = tasks.training(people, users, seeding.key(1), 5, 30, False)
    assert whole.query.weight.shape[1] == 0
    judged = unseen.judging(people, store.users("test"), seeding.key(1), 5)
    both = (judged.support.weight > 0).sum() + (judged.query.weight > 0).sum()
    assert int(both) == store.sizes()[store.users("test")].sum()


def test_training_users_of_one_domain_are_left_out(tmp_path: Path) -> None:
    rows = with_column(text_rows(), "lang", lambda i: "ab"[i % 2 if i // 6 % 2 else 0])
    plain = load_rows(tmp_path, rows, domain_column="lang")
    store = load_rows(tmp_path, rows, domain_column="lang", tasks="domain-generalization")
    lonely = {f"u{n:02d}" for n in range(1, 20, 2)}
    train = {plain.ids[u] for u in plain.users("train")}
    assert {store.ids[u] for u in store.users("train")} == train - lonely
    assert store.dropped == {"train users with examples of one domain": len(train & lonely)}
    for split in ("valid", "test"):
        assert [store.ids[u] for u in store.users(split)] == [
            plain.ids[u] for u in plain.users(split)
        ]


def test_a_store_can_be_wrapped() -> None:
    store = made(domain_column="topic")
    settings = DataConfig(users=80, messages=600, support=5, tasks="cross-domain")
    found = wrap(store, settings)
    check_disjoint(found)
    expected = made(domain_column="topic", tasks="cross-domain")
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_array_equal(found.split, expected.split)


@pytest.mark.parametrize(
    ("name", "column"),
    [("multipico_irony.jsonl.gz", "lang"), ("stanford_politeness.jsonl.gz", "community")],
)
def test_shared_data(name: str, column: str, shared_data: Path) -> None:
    check_disjoint(
        load(config(shared_data / name, domain_column=column, tasks="cross-domain", support=5))
    )
