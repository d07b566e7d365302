"""Runs read back from their folders, the same way for one, for a comparison and for several."""

import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.report.parts import Unit, unit_of
from fedmeta.config import ConfigError

Values = NDArray[np.float64]

KINDS = ("compare", "frontier", "attack", "sweep", "audit", "summary")
"""Names of the files that hold what a command found; the first that is there says what it was."""


class Member(NamedTuple):
    """One method over its seeds, or one run among several.

    Attributes:
        label: its name in tables and legends.
        method: the method.
        summary: figures, averaged over the seeds.
        shots: support sizes; the first is 0, the last is K.
        scores: the measure of test users ``(seeds, users, shots)``.
        valid: the measure of validation users after adaptation on K, their mean.
        users: the ids of the test users.
        examples: that each test user is scored on ``(seeds, users)``.
        rounds: the lines of ``rounds.jsonl``, seed by seed.
    """

    label: str
    method: str
    summary: dict[str, Any]
    shots: list[int]
    scores: Values
    valid: float
    users: tuple[str, ...]
    examples: Values
    rounds: list[list[dict[str, Any]]]


class Runs(NamedTuple):
    """What is shown together.

    Attributes:
        title: a name for the whole.
        unit: of the measure.
        members: at least one.
        content: of ``compare.json``; empty for other runs.
        config: the TOML text; of several runs "".
        seeds: of all members.
        resamples: bootstrap resamples of intervals that are made here.
    """

    title: str
    unit: Unit
    members: list[Member]
    content: dict[str, Any]
    config: str
    seeds: list[int]
    resamples: int


def kind_of(folder: Path) -> str:
    """What a folder holds, out of :data:`KINDS`.

    Raises:
        ConfigError: nothing that a command has finished.
    """
    found = next((kind for kind in KINDS if (folder / f"{kind}.json").is_file()), None)
    if found is None:
        raise ConfigError(
            f"{str(folder)!r} holds no finished run: expected one of"
            f" {', '.join(f'{kind}.json' for kind in KINDS)} in it; if it was stopped, go on with"
            " --resume"
        )
    return found


def content_of(folder: Path, kind: str) -> dict[str, Any]:
    """The JSON file of a kind."""
    found: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    return found


def config_text(folder: Path) -> str:
    """The resolved config of a folder; "" where it has none."""
    path = folder / "config.toml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def one(folder: Path) -> Runs:
    """A run of one method."""
    summary, config = content_of(folder, "summary"), config_text(folder)
    member = _member(str(summary["name"]), summary, [folder])
    title, seeds = f"{summary['name']}", [int(summary["seed"])]
    unit = unit_of(summary["measure"])
    return Runs(title, unit, [member], {}, config, seeds, _resamples(config))


def compared(folder: Path) -> Runs:
    """A comparison of methods."""
    content, config = content_of(folder, "compare"), config_text(folder)
    members = [
        _member(name, row, [folder / f"{name}-seed{seed}" for seed in content["seeds"]])
        for name, row in content["methods"].items()
    ]
    unit, seeds = unit_of(content["measure"]), content["seeds"]
    return Runs("comparison", unit, members, content, config, seeds, _resamples(config))


def several(folders: list[Path]) -> Runs:
    """Runs side by side; each method of a comparison is one of them.

    Raises:
        ConfigError: a folder of another kind, or measures that cannot stand on one axis.
    """
    members: list[Member] = []
    found = []
    for folder in folders:
        kind = kind_of(folder)
        if kind not in ("summary", "compare"):
            raise ConfigError(
                f"{str(folder)!r} is of `fedmeta {kind}`: several reports are made of runs of"
                " simulate and compare; give it alone"
            )
        mine = one(folder) if kind == "summary" else compared(folder)
        found.append(mine)
        name = folder.resolve().name
        labels = [name if kind == "summary" else f"{name}/{one.label}" for one in mine.members]
        for label, member in zip(labels, mine.members, strict=True):
            taken = sum(other.label.split(" #")[0] == label for other in members)
            members.append(member._replace(label=f"{label} #{taken + 1}" if taken else label))
    if len({runs.unit.metric.name for runs in found}) > 1:
        names = ", ".join(f"{runs.unit.metric.name} ({f})" for runs, f in zip(found, folders))  # noqa: B905
        raise ConfigError(f"runs of different measures cannot be compared: {names}")
    seeds = sorted({seed for runs in found for seed in runs.seeds})
    resamples = max(runs.resamples for runs in found)
    return Runs(f"{len(members)} runs", found[0].unit, members, {}, "", seeds, resamples)


def _resamples(config: str) -> int:
    return int(tomllib.loads(config).get("evaluation", {}).get("bootstrap", 2000))


def _member(label: str, summary: dict[str, Any], folders: list[Path]) -> Member:
    frames = [pd.read_parquet(folder / "users.parquet") for folder in folders]
    frame = pd.concat(frames) if len(frames) > 1 else frames[0]
    measure = summary["measure"]
    test = frame[frame["split"] == "test"]
    table = test.pivot(index=["seed", "user"], columns="k", values=measure).sort_index()
    shots = [int(k) for k in table.columns]
    users = tuple(dict.fromkeys(table.index.get_level_values("user")))
    shape = (len(folders), len(users))
    last = test[test["k"] == shots[-1]].set_index(["seed", "user"]).sort_index()
    valid = frame[(frame["split"] == "valid") & (frame["k"] == frame["k"].max())]
    return Member(
        label,
        summary["method"],
        summary,
        shots,
        table.to_numpy(dtype=np.float64).reshape(*shape, len(shots)),
        float(valid[measure].mean()),
        users,
        last["examples"].to_numpy(dtype=np.float64).reshape(shape),
        [_rounds(folder) for folder in folders],
    )


def _rounds(folder: Path) -> list[dict[str, Any]]:
    path = folder / "rounds.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
