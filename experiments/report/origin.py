"""Where a result comes from: config, versions, digests, and the command that repeats it."""

import json
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.report.runs import Runs
from experiments.settings import read
from experiments.sweep.points import SWEEPS
from fedmeta.config import Config, flatten


def command(kind: str, folder: Path, content: Mapping[str, Any]) -> str:
    """What repeats a result, given its ``config.toml``."""
    plan = _plan(folder)
    found: dict[str, Callable[[], list[str]]] = {
        "summary": lambda: ["simulate", "config.toml"],
        "compare": lambda: _compare(plan, content),
        "frontier": lambda: ["frontier", "config.toml", *_listed(plan)],
        "attack": lambda: _attack(plan, content),
        "audit": lambda: ["audit", "config.toml", *content.get("asked", [])],
        "sweep": lambda: _sweep(folder, content),
    }
    words = found[kind]()
    return shlex.join(["fedmeta", *words])


def _compare(plan: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    """As it was asked for; older folders have no plan, but all that was run."""
    methods = plan.get("methods", list(content["methods"]))
    seeds = plan.get("seeds", len(content["seeds"]))
    more = [] if plan.get("baselines") else ["--no-baselines"]
    words = ["compare", "config.toml", "--methods", ",".join(methods), "--seeds", str(seeds)]
    return words + more


def _attack(plan: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    runs = content["runs"]
    names = [",".join(dict.fromkeys(row[key] for row in runs)) for key in ("attack", "rule")]
    who = plan or content["attackers"]
    words = ["attack", "config.toml", "--attacks", names[0], "--rules", names[1]]
    return [*words, "--share", f"{who['share']:g}", *(["--exact"] if who["exact"] else [])]


def _sweep(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """A shipped sweep by its name and what was set beside, another one by its axes."""
    panels = content["panels"]
    shown = [(panel["key"], panel["title"]) for panel in panels]
    known = {name: [(p.key, p.title) for p in made] for name, made in SWEEPS.items()}
    name = next((name for name, axes in known.items() if axes == shown), "")
    if name:
        default, given = flatten(Config()), flatten(read(folder / "config.toml"))
        changed = [f"{key}={value}" for key, value in given.items() if value != default[key]]
        words = ["sweep", name, *(part for text in changed for part in ("--set", text))]
    else:
        words = ["sweep", "config.toml"]
        for panel in panels:
            values = ",".join(point["value"] for point in panel["points"])
            words += ["--over", f"{panel['key']}={values}"]
    methods = ",".join(panels[0]["points"][0]["methods"])
    return [*words, "--methods", methods, "--seeds", str(content["seeds"])]


def _listed(plan: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ("methods", "mechanisms", "epsilons"):
        found += [f"--{key}", ",".join(f"{v:g}" if isinstance(v, float) else v for v in plan[key])]
    more = ["--canaries", str(plan["canaries"])] if "canaries" in plan else []  # older plans
    return [*found, "--seeds", str(plan["seeds"]), *more]


def _plan(folder: Path) -> dict[str, Any]:
    path = folder / "plan.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def of_runs(runs: Runs) -> list[tuple[str, str]]:
    """Seeds, versions and digests of runs."""
    rows = [("seeds", ", ".join(map(str, runs.seeds)))]
    rows += versions([member.summary for member in runs.members])
    for member in runs.members:
        for key, words in (("weights_sha256", "weights"), ("model_sha256", "model")):
            digests = member.summary[key]
            listed = digests if isinstance(digests, list) else [digests]
            seeds = member.summary["seed"]
            named = seeds if isinstance(seeds, list) else [seeds]
            for seed, digest in zip(named, listed, strict=True):
                rows.append((f"{member.label}, seed {seed}: {words} sha256", str(digest)))
    return rows


def versions(summaries: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Versions, those of all summaries together where they differ."""
    found: dict[str, dict[str, None]] = {}
    for summary in summaries:
        for name, version in summary.get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
        found.setdefault("backend", {})[str(summary.get("backend", "?"))] = None
    return [(name, ", ".join(all_of)) for name, all_of in found.items()]


def own_versions() -> list[tuple[str, str]]:
    """Versions of this process, for what was found by it just now."""
    from experiments.summary import versions as here

    return list(here().items())


def seeds_of(config: str) -> list[tuple[str, str]]:
    """The seeds in a config."""
    tables = tomllib.loads(config)
    return [
        (f"{table}.seed", str(tables[table]["seed"]))
        for table in ("run", "data")
        if "seed" in tables.get(table, {})
    ]
