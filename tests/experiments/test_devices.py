"""Simulated devices from the command: artefacts, resume, and two methods to one target."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.clock import reached
from experiments.running import simulate
from fedmeta.config import parse
from fedmeta.turns import turns
from strategies.events import Event, RoundDone
from tests.experiments.runs import TINY, Result, rounds_of, sets, strict, summary_of

Call = Callable[..., Result]
DEVICES: dict[str, Any] = {
    "devices.latency": "lognormal",
    "devices.latency-sigma": 1.0,
    "devices.availability": "constant",
    "devices.over-selection": 1.5,
    "devices.failure": 0.1,
    "devices.deadline": 12.0,
    "evaluation.target": 0.55,
    "evaluation.every": 1,
}


def flags(**more: Any) -> list[str]:
    return sets(
        **{key.replace("-", "_").replace(".", "__"): v for key, v in (DEVICES | more).items()}
    )


class StoppedError(Exception):
    """The process is gone."""


def stripped(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in rounds_of(folder)]


@pytest.mark.parametrize(
    "backend",
    [
        "inline",
        pytest.param(
            "ray",
            marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")],
        ),
    ],
)
def test_a_run_that_was_stopped_goes_on_with_its_clock(backend: str, tmp_path: Path) -> None:
    config = parse(TINY | DEVICES | {"federation.rounds": 5})
    whole = simulate(config, tmp_path / "whole")
    again = parse(TINY | DEVICES | {"federation.rounds": 5, "run.backend": backend,
                                    "run.workers": 2})  # fmt: skip

    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.round == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        simulate(config, tmp_path / "half", stop)
    resumed = simulate(again, listener=lambda event: None, resume=tmp_path / "half")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert stripped(tmp_path / "half") == stripped(tmp_path / "whole")
    assert resumed.summary["clock"] == whole.summary["clock"]
    assert resumed.summary["target"] == whole.summary["target"]
    gc.collect()  # what Ray leaves open is closed here, where its warnings are expected
    assert whole.outcome.before == 0
    assert resumed.outcome.before > 0


def test_artefacts_add_up(fedmeta: Call) -> None:
    result = fedmeta("simulate", *flags(), "--out", "here")
    assert result.code == 0, result.err
    rounds, summary = rounds_of(Path("here")), summary_of(Path("here"))
    clock = summary["clock"]
    assert clock["simulated_s"] == rounds[-1]["clock"]
    for key in ("selected", "dropped", "late"):
        assert clock[key] == sum(line[key] for line in rounds)
    used = sum(line["users"] for line in rounds)
    assert clock["wasted_user_updates"] == clock["selected"] - used > 0
    quarters = clock["by_speed"]
    assert sum(part["update_share"] for part in quarters) == pytest.approx(1.0)
    for key in ("train_seconds", "test_seconds"):
        values = [part[key] for part in quarters]
        assert values == sorted(values)
        assert len(set(values)) == 4
    # Of those who take more than the deadline nobody ever takes part.
    assert quarters[0]["update_share"] > 0.3
    assert quarters[3]["update_share"] == 0.0
    after = [part["test_after"] for part in quarters]
    test = summary["test"]["after"]["accuracy_macro"]
    assert min(after) <= test <= max(after)
    good = [line for line in rounds if line["valid"] >= 0.55]
    assert summary["target"] == {
        "measure": 0.55,
        "rounds_to_target": good[0]["round"],
        "time_to_target_s": good[0]["clock"],
    }
    assert "simulated time" in result.out
    assert f"after {good[0]['round']} rounds" in result.out


def test_without_devices_nothing_is_said_of_them(fedmeta: Call) -> None:
    result = fedmeta("simulate", *sets(), "--out", "here")
    assert result.code == 0
    assert {"clock", "target"}.isdisjoint(summary_of(Path("here")))
    assert {"clock", "selected", "dropped", "late"}.isdisjoint(rounds_of(Path("here"))[0])
    assert "simulated" not in result.out


def test_a_comparison_has_one_target_for_all(fedmeta: Call) -> None:
    given = flags(**{"evaluation.target": 0.0})
    methods = ["--no-baselines", "--methods", "local,fedavg-ft,maml,reptile"]
    result = fedmeta("compare", *given, *methods, "--seeds", "2", "--out", "here")
    assert result.code == 0, result.err
    content = strict(Path("here/compare.json").read_text(encoding="utf-8"))
    assert "target" not in content["methods"]["local"]
    found = {n: content["methods"][n]["target"] for n in ("fedavg-ft", "maml", "reptile")}
    assert [len(seeds) for seeds in found.values()] == [2, 2, 2]
    (measure,) = {target["measure"] for seeds in found.values() for target in seeds}
    best = sorted(
        max(line["valid"] for line in rounds_of(Path("here") / f"{name}-seed{seed}"))
        for name in found
        for seed in (0, 1)
    )
    assert measure == best[2]  # of six runs four reach it
    reached_ = [t["rounds_to_target"] for seeds in found.values() for t in seeds]
    assert sum(r is not None for r in reached_) == sum(value >= measure for value in best)
    assert f"valid {100 * measure:.1f}" in result.out


def test_the_first_evaluated_round_counts_and_less_can_be_better() -> None:
    history = [
        RoundDone(r, 4, 5, 0, 0.1, valid, clock=10.0 * r)
        for r, valid in enumerate([None, 3.0, 1.0, 2.0], start=1)
    ]
    assert reached(history, 1, 2.5) is history[1]
    assert reached(history, -1, 2.5) is history[2]
    assert reached(history, -1, 0.5) is None


def test_a_trace_is_part_of_a_run(tmp_path: Path, fedmeta: Call) -> None:
    """Its path is kept in full, and another file there is refused when the run goes on."""
    ids = parse(TINY)
    from fedmeta.problem import build

    store = build(ids).population.store
    lines = [f"{name},0,{20 + 5 * (n % 5)},{1 + n % 7}" for n, name in enumerate(store.ids)]
    Path("t.csv").write_text("\n".join(["user,start,end,seconds", *lines]))
    given = sets(devices__trace="t.csv", devices__latency="trace", devices__availability="trace")
    result = fedmeta("simulate", *given, "--out", "here")
    assert result.code == 0, result.err
    assert f'trace = "{Path("t.csv").resolve()}"' in Path("here/config.toml").read_text()
    config = parse(TINY | {"devices.trace": "t.csv", "devices.latency": "trace",
                           "devices.availability": "trace"})  # fmt: skip
    expected = [turn.clock for turn in turns(build(config))]
    assert [line["clock"] for line in rounds_of(Path("here"))] == expected
    assert fedmeta("simulate", "--resume", "here").code == 0
    Path("t.csv").write_text(Path("t.csv").read_text() + "\nstranger,0,1,1")
    refused = fedmeta("simulate", "--resume", "here")
    assert refused.code != 0
    assert "devices.trace (sha256)" in refused.err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"devices.availability": "constant", "devices.available-share": 0.0},
            "in none of 3 rounds",
        ),
        ({"devices.latency": "trace", "devices.trace": "no.csv"}, "no such file"),
        ({"devices.deadline": 3.0}, "has no effect"),
    ],
)
@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_bad_devices_leave_nothing_behind(
    command: str, values: dict[str, Any], message: str, fedmeta: Call
) -> None:
    pairs = [part for k, v in values.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    result = fedmeta(command, *sets(), *pairs, "--out", "here")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not Path("here").exists()
