"""Table files: JSON lines, CSV and Parquet, plain or gzip-compressed."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmeta.data.raw import DataError, Raw
from fedmeta.data.tables import from_frame
from fedmeta.data.windows import windows
from fedmeta.sections.data import DataConfig

if TYPE_CHECKING:
    import pandas as pd

_NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "null")


def read_table(path: Path, config: DataConfig) -> Raw:
    """Raw columns of a ``.jsonl``, ``.csv`` or ``.parquet`` file, each also with ``.gz``.

    Raises:
        DataError: a file that cannot be read (with the line where there is one), or whatever
            `fedmeta.data.tables.from_frame` finds wrong with the table.
    """
    frame = read_frame(path, config)
    if config.window:
        frame = windows(frame, config, path.name)
    return from_frame(frame, config, path.name)


def read_frame(path: Path, config: DataConfig) -> pd.DataFrame:
    """The table in a file as it is, without any check of its columns.

    Raises:
        DataError: a file that cannot be read.
    """
    suffixes = path.name.lower().removesuffix(".gz").rsplit(".", 1)
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it a whole file?") from None
    if not content.strip():
        raise DataError(f"{path}: the file is empty; one example per line or row is needed")
    return TABLES["." + suffixes[-1]](content, path, config)


def _json_lines(content: bytes, path: Path, config: DataConfig) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:  # of the JSON or of its UTF-8
            raise DataError(
                f"{path}, line {number}: not JSON ({error}); one object per line is needed"
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: {str(row)[:40]} is not an object; a line must look like "
                '{"user": "u1", "text": "...", "label": 1}'
            )
        rows.append(row)
    return pd.DataFrame.from_records(rows)


def _csv(content: bytes, path: Path, config: DataConfig) -> pd.DataFrame:
    import pandas as pd

    # Everything is read as text: ids keep their zeros, and the text "null" stays a text.
    try:
        frame = pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (ValueError, UnicodeDecodeError) as error:  # parser errors name the line themselves
        raise DataError(f"{path}: not a CSV table in UTF-8 ({str(error).strip()})") from None
    texts = {config.user_column, config.text_column, config.split_column}
    for column in frame.columns.difference(list(texts)):
        known = frame[column].where(~frame[column].isin(_NO_NUMBER))
        numbers = pd.to_numeric(known, errors="coerce")
        if numbers.notna().equals(known.notna()):
            frame[column] = numbers
    return frame


def _parquet(content: bytes, path: Path, config: DataConfig) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error})") from None


TABLES: dict[str, Callable[[bytes, Path, DataConfig], pd.DataFrame]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
