"""The table of methods is what the registry says, and says something of each."""

import pytest

from experiments.listing import rows
from experiments.methods_page import BEGIN, PAGE, placed, render
from fedmeta.methods import METHODS


def test_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert placed(page) == page, "run `python -m experiments.methods_page`"


def test_every_method_has_a_row() -> None:
    for name, method in METHODS.items():
        row = next(line for line in render().splitlines() if line.startswith(f"| `{name}` |"))
        assert row.replace("\\|", "").count("|") == 11
        for text in (method.source, method.communicates, method.keeps, method.cost):
            assert text
            assert text in row


def test_what_is_written_by_hand_stays() -> None:
    assert placed(f"# Title\n{BEGIN}old\n<!-- end -->\nafter\n") == f"# Title\n{render()}after\n"
    with pytest.raises(ValueError, match="expected one line"):
        placed("# Title\n")


def test_listing_says_the_same() -> None:
    for row, method in zip(rows("methods"), METHODS.values(), strict=True):
        assert row["name"] == method.name
        assert row["communicates"] == method.communicates
        assert row["keeps"] == method.keeps
        if method.personalizes:
            assert row["newcomer"] == method.newcomer
        assert list(row) == [
            *("name", "family", "source", "communicates", "keeps", "newcomer", "cost")
        ]
