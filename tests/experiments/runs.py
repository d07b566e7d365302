"""The command run in this process, and what its folders hold."""

import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

TINY = {
    "data.users": 60,
    "data.messages": 300,
    "backbone.name": "hashing",
    "federation.rounds": 3,
    "federation.users-per-round": 8,
    "evaluation.every": 2,
    "evaluation.bootstrap": 200,
    "evaluation.tune": False,
    "run.backend": "inline",
    "run.canaries": 0,
    "run.report": False,
}
"""A run of about a second."""


class Result(NamedTuple):
    """What a command left in the hands of its caller."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, all of it, as one JSON document as the standard has it."""
        assert self.code == 0, self.err
        return strict(self.out)


def strict(text: str) -> Any:
    """JSON without NaN and infinities, which Python writes but others cannot read."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def sets(**values: Any) -> list[str]:
    """``--set`` arguments of a tiny run; ``data__support=5`` is ``data.support``."""
    given = {key.replace("__", ".").replace("_", "-"): v for key, v in values.items()}
    pairs = TINY | given
    return [part for k, v in pairs.items() for part in ("--set", f"{k}={_text(v)}")]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def summary_of(folder: Path) -> Any:
    return strict((folder / "summary.json").read_text(encoding="utf-8"))


def rounds_of(folder: Path) -> list[Any]:
    return [strict(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def users_of(folder: Path, split: str, k: int) -> pd.DataFrame:
    """Scores of the users of a split after adaptation on k examples, by user."""
    frame = pd.read_parquet(folder / "users.parquet")
    rows = frame[(frame["split"] == split) & (frame["k"] == k)]
    assert rows["user"].is_unique
    return rows.set_index("user").sort_index()


def offset_rows(users: int = 30, each: int = 12, spread: float = 10.0) -> list[dict[str, Any]]:
    """Targets that differ by user far more than features explain."""
    random = np.random.default_rng(3)
    rows = []
    for number in range(users):
        offset = random.normal() * spread
        for a, b, noise in random.normal(size=(each, 3)).tolist():
            label = 50 + offset + a - b + 0.1 * noise
            rows.append({"user": f"u{number:02d}", "a": a, "b": b, "label": label})
    return rows
