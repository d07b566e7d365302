"""Devices and traces that make no sense, or that nobody could take part with."""

from pathlib import Path
from typing import Any

import pytest

from fedmeta.config import ConfigError
from fedmeta.data.raw import DataError
from fedmeta.traces import read_trace
from fedmeta.turns import check_turns
from tests.data.rows import write
from tests.engine.test_devices import run, trace_file

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"deadline": 5.0}, "devices.deadline = 5 has no effect with devices.latency = 'off'"),
    ({"bandwidth": 5.0}, "devices.bandwidth = 5 has no effect"),
    ({"availability": "diurnal"}, "the clock stands still"),
    ({"latency": "trace"}, "devices.trace is empty"),
    ({"trace": "x.csv"}, "is not read"),
    ({"over_selection": 1.5}, "everybody replies in no time"),
    ({"latency": "trace", "trace": "x", "example_seconds": 1.0}, "devices.example-seconds = 1"),
    ({"failure": 1.5}, "devices.failure = 1.5"),
    ({"over_selection": 0.5, "failure": 0.1}, "devices.over-selection = 0.5"),
    ({"latency_sigma": 50.0}, "devices.latency-sigma = 50"),
    ({"failure": 0.1, "privacy__unit": "user"}, "cohorts that the server draws at random"),
    ({"latency": "constant", "deadline": 9.0, "privacy__unit": "example"}, "charges a late reply"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        run(**values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"availability": "constant", "available_share": 0.0}, "0 are available"),
        ({"failure": 1.0}, "21 are available and selected, 21 drop, 0 are late"),
        ({"latency": "constant", "deadline": 9.0}, "0 drop, 21 are late"),
    ],
)
def test_a_run_that_nobody_takes_part_in_is_refused(values: dict[str, Any], count: str) -> None:
    with pytest.raises(ConfigError, match="in none of 3 rounds") as error:
        check_turns(run(**values))
    assert count in str(error.value)


BAD: list[tuple[list[dict[str, Any]], str]] = [
    ([{"user": "u", "begin": 0, "end": 1}], "has no column 'start', but user, begin, end"),
    ([{"name": "u", "start": 0, "end": 1}], "has no column 'user'"),
    ([{"user": "a", "start": 3, "end": 3}], "row 1: start 3 is not before end 3"),
    (
        [{"user": "a", "start": 0, "end": 9}, {"user": "a", "start": -1, "end": 9}],
        "row 2: start is",
    ),
    ([{"user": "a", "start": 0, "end": "noon"}], "row 1: end is 'noon'"),
    ([{"user": "z", "start": 0, "end": 9}], "names none of the 2 users"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_bad_traces(rows: list[dict[str, Any]], message: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"t.{kind}", rows)
    with pytest.raises(DataError) as error:
        read_trace(path, ("a", "b"), ("start", "end"))
    assert message in str(error.value)
    assert "devices.trace = " in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ending in \.jsonl, \.csv, \.parquet"):
        read_trace(tmp_path / "t.npz", ("a",), ("seconds",))
    with pytest.raises(DataError, match="no such file"):
        read_trace(tmp_path / "t.csv", ("a",), ("seconds",))
    made = run()
    some = [{"user": made.population.store.ids[0], "seconds": 3}]
    path = trace_file(tmp_path / "some.csv", some)
    with pytest.raises(DataError, match="no seconds for"):
        check_turns(run(latency="trace", trace=path))
