"""The points of a sweep: one comparison for each value of each setting, all resumable."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments import artifacts, settings
from experiments.comparison import Listeners, compare
from experiments.running import Encoded
from fedmeta.config import Config, ConfigError, known_keys
from fedmeta.data.sources import load
from fedmeta.methods import METHODS
from strategies import checkpoint
from strategies.events import ignore

METHODS_SHOWN = (
    "local", "bias", "fedavg-ft", "reptile", "maml", "fedrep", "ditto", "protonet",
)  # fmt: skip
"""One or two of each family that says something of its own; eight colours can be told apart."""
STEPS = ("0.0", "0.25", "0.5", "0.75", "1.0")


@dataclass(frozen=True)
class Panel:
    """One setting in steps, everything else fixed.

    Attributes:
        key: the setting.
        values: its values, as after ``--set``.
        title: what it means, for the picture.
        sets: what else is fixed, as after ``--set``.
    """

    key: str
    values: tuple[str, ...]
    title: str
    sets: tuple[str, ...] = ()


SWEEPS = {
    "heterogeneity": (
        Panel(
            "data.prior-heterogeneity",
            STEPS,
            "label prior: how often users want",
            ("data.heterogeneity=0.0",),
        ),
        Panel("data.heterogeneity", STEPS, "label meaning: what users want"),
        Panel(
            "data.feature-heterogeneity",
            STEPS,
            "features: which messages users see",
            ("data.heterogeneity=0.0",),
        ),
    )
}
"""The sweeps that are shipped; in each panel users are alike in all but one way."""


class Point(NamedTuple):
    """One comparison of a sweep: its panel, the value, and the config that they make."""

    panel: int
    value: str
    config: Config


class Planned(NamedTuple):
    """A sweep before it is run."""

    config: Config
    panels: tuple[Panel, ...]
    points: tuple[Point, ...]


class Swept(NamedTuple):
    """A sweep that was run: its folder and the content of its ``sweep.json``."""

    folder: Path
    content: dict[str, Any]


def usual() -> list[str]:
    """The methods of a sweep where none are named."""
    return [name for name in METHODS_SHOWN if name in METHODS]


def plan(
    path: Path | None,
    over: Sequence[str],
    sets: Sequence[str],
    flags: Mapping[str, Any],
    resume: Path | None = None,
) -> Planned:
    """What is to be compared, with every config checked.

    Args:
        path: a TOML file, or the name of a sweep that is shipped; None: the embedded default.
        over: texts ``key=value,value,...``.
        sets: texts ``key=value``.
        flags: dotted keys from flags.
        resume: folder of a sweep that was left, whose config it goes on with.

    Raises:
        ConfigError: nothing to sweep over, an unknown key, a value that the key does not take.
    """
    panels: tuple[Panel, ...] = SWEEPS.get(str(path), ()) if not over else ()
    file = None if str(path) in SWEEPS else path
    if resume is not None:
        file = artifacts.reopen(resume) / "config.toml"
    panels += tuple(_panel(text) for text in over)
    if not panels:
        raise ConfigError(
            f"sweep: no values; say --over data.heterogeneity=0,0.5,1, or one of {list(SWEEPS)}"
        )
    points = []
    for number, panel in enumerate(panels):
        for value in panel.values:
            given = [*panel.sets, *sets, f"{panel.key}={value}"]
            points.append(Point(number, value, settings.read(file, given, flags)))
    return Planned(settings.read(file, sets, flags), panels, tuple(points))


def run(
    planned: Planned,
    methods: Sequence[str],
    seeds: int = 1,
    out: Path | None = None,
    resume: Path | None = None,
    listeners: Listeners = lambda label: ignore,
    encoded: Encoded | None = None,
    finished: Callable[[int, int], None] = lambda done, total: None,
) -> Swept:
    """Compare the methods at every point; what a resumed sweep has already found stays.

    Raises:
        ConfigError, ValueError, ClientError: as :func:`experiments.comparison.compare`.
    """
    if not methods:
        raise ConfigError(f"--methods: expected methods out of {', '.join(METHODS)}")
    # Gains are over one model for all, and FedAvg trains it.
    names = list(dict.fromkeys(["fedavg", *methods]))
    if resume is None:
        folder = artifacts.make_folder(out or planned.config.run.out, "sweep")
        artifacts.write_config(folder, planned.config)
    else:
        folder = artifacts.reopen(resume)
    total = len(planned.points) * len(names) * seeds
    found = []
    before: list[tuple[Config, dict[str, Any]]] = []
    for number, point in enumerate(planned.points):
        key = planned.panels[point.panel].key
        label = f"{key}={point.value}"

        def tell(done: int, _: int, earlier: int = number * len(names) * seeds) -> None:
            finished(earlier + done, total)

        def listen(name: str, label: str = label) -> Any:
            return listeners(f"{label} {name}")

        home = folder / f"{key}-{point.value}"
        # Panels meet where users are alike in every way: such a point is run once.
        done = next((content for config, content in before if config == point.config), None)
        done = done or _found(home, names, seeds, point.config)
        if done is None:
            again = home if home.exists() else None
            place = None if again else home
            done = compare(
                point.config, names, seeds, place, listen, encoded, again, finished=tell
            ).content
        before.append((point.config, done))
        found.append(_figures(point, done))
    content = {
        "measure": found[0]["measure"],
        "seeds": seeds,
        "panels": [
            {
                "key": panel.key,
                "title": panel.title,
                "points": [f for f, p in zip(found, planned.points, strict=True) if p.panel == n],
            }
            for n, panel in enumerate(planned.panels)
        ],
    }
    artifacts.write_json(folder / "sweep.json", content)
    return Swept(folder, content)


def _panel(text: str) -> Panel:
    key, equals, values = text.partition("=")
    key, parts = key.strip(), tuple(v.strip() for v in values.split(",") if v.strip())
    if not equals or not parts or len(set(parts)) < len(parts):
        raise ConfigError(f"--over {text!r}: expected a key and different values, key=a,b,c")
    default = known_keys().get(key, (None, ""))[0]
    if isinstance(default, float):  # a whole number is a number too
        parts = tuple(v if "." in v or not v.lstrip("-").isdigit() else f"{v}.0" for v in parts)
    return Panel(key, parts, key)


def _found(home: Path, methods: Sequence[str], seeds: int, config: Config) -> dict[str, Any] | None:
    """What a point that was run before has found; None where it must be run, or run on."""
    path = home / "compare.json"
    if not path.is_file():
        return None
    before = checkpoint.decisive(settings.read(home / "config.toml"))
    checkpoint.same(before, checkpoint.decisive(config), home)
    artifacts.pin(home, config, load(config.data), True)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if list(content["methods"]) != list(methods) or len(content["seeds"]) != seeds:
        raise ConfigError(
            f"{str(home)!r} holds {len(content['seeds'])} seed(s) of"
            f" {','.join(content['methods'])}, not {seeds} of {','.join(methods)}; resume with"
            " the same --methods and --seeds, or take another --out"
        )
    return content


def _figures(point: Point, content: dict[str, Any]) -> dict[str, Any]:
    """What the picture and the table need of a comparison."""
    rows = {}
    for name, row in content["methods"].items():
        held = row["test"]["against_reference"] or {}
        gain = held.get("gain") or {"mean": None, "ci95": [None, None]}
        low = gain["ci95"][0]
        rows[name] = {
            "family": METHODS[name].family,
            "after": row["test"]["after"][f"{content['measure']}_macro"],
            "gain": gain["mean"],
            "ci95": gain["ci95"],
            "hurt_share": held.get("hurt_share"),
            "pays": METHODS[name].personalizes and low is not None and low > 0,
        }
    return {
        "value": point.value,
        "measure": content["measure"],
        "reference": content["decision"]["reference"],
        "verdict": content["verdict"],
        "methods": rows,
    }
