"""Small tables for the tests of the data layer."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from fedmeta.data import UserStore, load
from fedmeta.sections.data import DataConfig

Row = dict[str, Any]


def text_rows(users: int = 20, each: int = 6) -> list[Row]:
    """Rows of users in descending order; a text is shared by all users at its position."""
    return [
        {"user": f"u{u:02d}", "text": f"message {n}", "label": ["no", "yes"][(u + n) % 2]}
        for u in reversed(range(users))
        for n in range(each)
    ]


def feature_rows(users: int = 20, each: int = 6) -> list[Row]:
    """Rows with two numeric columns that identify user and position."""
    return [
        {"user": f"u{u:02d}", "a": float(u), "b": n + 0.5, "label": n % 2}
        for u in range(users)
        for n in range(each)
    ]


def with_column(rows: list[Row], name: str, values: Any) -> list[Row]:
    """The rows with a column more, ``values(row number)``."""
    return [{**row, name: values(index)} for index, row in enumerate(rows)]


def write(path: Path, rows: list[Row]) -> Path:
    """A table file in the format that the ending of its name tells."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif name.endswith(".csv"):
        content = pd.DataFrame(rows).to_csv(index=False).encode()
    else:
        buffer = io.BytesIO()
        pd.DataFrame(rows).to_parquet(buffer)
        content = buffer.getvalue()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def config(path: Path | str, **values: Any) -> DataConfig:
    """A config of a file whose users adapt on two examples, unless said otherwise."""
    return DataConfig(**{"source": str(path), "support": 2, **values})


def load_rows(tmp_path: Path, rows: list[Row], **values: Any) -> UserStore:
    """The store of rows that are written to a JSON lines file."""
    return load(config(write(tmp_path / "data.jsonl", rows), **values))
