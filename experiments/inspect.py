"""What is in a data set, and what a config for it would be."""

import shlex
import tomllib
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from experiments.verdict import FEWEST
from fedmeta.config import Config, flatten
from fedmeta.data.labels import quantities
from fedmeta.data.sources import load, read
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.sections.data import DataConfig


def inspect(config: Config) -> dict[str, Any]:
    """Users, examples, labels and items of a data set, and a config for it.

    The smallest support is used for looking, so that few users are dropped; the config says
    only what differs from the embedded default.

    Raises:
        DataError: data that cannot be used.
    """
    numbers = _numbers(config.data)
    task = "regression" if numbers else config.data.task
    data = config.data.model_copy(update={"task": task})
    store = load(data.model_copy(update={"support": 1, "min_examples": 0}))
    sizes = store.sizes()
    return {
        "source": config.data.source,
        "task": store.task,
        "items": {"kind": store.modality, "count": len(store.items)},
        "examples": {
            "count": int(sizes.sum()),
            "per_user": {
                name: int(np.percentile(sizes, q))
                for name, q in (("min", 0), ("p10", 10), ("median", 50), ("p90", 90), ("max", 100))
            },
        },
        "users": {split: len(store.users(split)) for split in SPLITS},
        "users_with_more_than": {str(k): int((sizes > k).sum()) for k in (5, 10, 20, 50)},
        "labels": _labels(store),
        "item_folds": store.fold is not None,
        "domains": _shares(store.domain, store.domains),
        "dropped": store.dropped,
        "numbers": numbers,
        "config": _config(data, int(np.median(sizes))),
    }


def _numbers(data: DataConfig) -> str:
    """Why whole numbers are taken for something to predict here, or ""."""
    if data.task != "auto" or data.tasks != "user":
        return ""
    label = read(data).label
    if not quantities(label):
        return ""
    low, high = label.min(), label.max()
    return f"{len(np.unique(label))} whole numbers, {low:g} to {high:g}"


def _labels(store: UserStore) -> dict[str, float]:
    """Share of each class, or mean and standard deviation of the target."""
    if store.task == "regression":
        return {"mean": float(store.label.mean()), "sd": float(store.label.std())}
    return _shares(store.label.astype(np.int64), store.classes)


def _shares(code: NDArray[np.int64] | None, names: tuple[str, ...]) -> dict[str, float]:
    if code is None:
        return {}
    shares = np.bincount(code, minlength=len(names)) / len(code)
    return {name: float(share) for name, share in zip(names, shares, strict=True)}


def _most(shares: dict[str, float]) -> str:
    """The eight most frequent of some names, with their shares."""
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    more = f", and {len(ranked) - 8} more" if len(ranked) > 8 else ""
    return escape(", ".join(f"{name} {value:.3g}" for name, value in ranked[:8])) + more


def _config(data: DataConfig, median: int) -> str:
    """A config file for the data: K is the largest usual one that half of the users have twice."""
    support = max([k for k in (1, 2, 5, 10, 20) if 2 * k <= median], default=1)
    wanted = Config(data=data.model_copy(update={"support": support}))
    default = flatten(Config())
    tables: dict[str, dict[str, Any]] = {}
    for key, value in flatten(wanted).items():
        if value != default[key] or key in ("data.source", "data.support"):
            section, name = key.split(".", 1)
            tables.setdefault(section, {})[name] = value
    return tomli_w.dumps(tables)


def table(found: dict[str, Any]) -> RenderableType:
    """What :func:`inspect` found, to read."""
    out = Table(title=f"{escape(found['source'])}: {found['task']}", show_header=False)
    users, per_user = found["users"], found["examples"]["per_user"]
    out.add_row("users", ", ".join(f"{count} {split}" for split, count in users.items()))
    out.add_row("examples", f"{found['examples']['count']:,}")
    out.add_row("per user", ", ".join(f"{name} {value}" for name, value in per_user.items()))
    more = ", ".join(f"> {k}: {n}" for k, n in found["users_with_more_than"].items())
    out.add_row("users by examples", more)
    out.add_row("items", f"{found['items']['count']:,} {found['items']['kind']}")
    out.add_row("labels", _most(found["labels"]))
    if found["numbers"]:
        taken = "taken for numbers to predict, not for classes; if they are classes, say"
        out.add_row("", f"{found['numbers']}: {taken}\n--set data.task=classification")
    out.add_row("item folds", "yes" if found["item_folds"] else "no")
    if found["domains"]:
        out.add_row("domains", _most(found["domains"]))
    if users["test"] < FEWEST:
        out.add_row("too few users", f"a verdict needs at least {FEWEST} test users")
    for reason, count in found["dropped"].items():
        out.add_row("left out", f"{count} {reason}")
    said = "A config to start from; save it, and `fedmeta compare FILE.toml` runs it:\n"
    command = f"The same without a file:\n\n{_command(found)}\n"
    return Group(out, Text(said), Text(found["config"]), Text(command))


def _command(found: dict[str, Any]) -> str:
    """The comparison that the config asks for, for a shell; its lines are too short to be cut."""
    tables = tomllib.loads(found["config"])
    lines = ["fedmeta compare"]
    for section, keys in tables.items():
        for name, value in keys.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            lines.append(f"  --set {shlex.quote(f'{section}.{name}={text}')}")
    return " \\\n".join(lines)
