"""A trace file: when users are available, and how many seconds they take."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.files import TABLES, read_frame
from fedmeta.data.raw import DataError
from fedmeta.sections.data import DataConfig

Values = NDArray[np.float64]


class Trace(NamedTuple):
    """The rows of a file for the users of a population.

    Attributes:
        seconds: mean of a user's rows, ``(users,)``; NaN: the file has none.
        user, start, end: disjoint intervals by user and time, ``(intervals,)``.
        reach: when a user who is in the interval leaves it; later than its end where the first
            one of the next period follows without a gap.
        period: after which the file begins anew: its last end.
    """

    seconds: Values
    user: NDArray[np.int64]
    start: Values
    end: Values
    reach: Values
    period: float


def read_trace(path: Path, ids: tuple[str, ...], wanted: tuple[str, ...]) -> Trace:
    """Read a table with the columns ``user``, and ``start`` and ``end``, ``seconds`` or all three.

    Rows of users who are not among ``ids`` are passed over.

    Args:
        path: a ``.csv``, ``.jsonl`` or ``.parquet`` file, each also with ``.gz``.
        ids: the users of the population.
        wanted: columns that must be there beside ``user``.

    Raises:
        DataError: a file that cannot be read, a column that is missing, a value that is none.
    """
    where = f"devices.trace = {str(path)!r}"
    if "." + path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1] not in TABLES:
        raise DataError(
            f"{where}: expected a file ending in {', '.join(TABLES)}, or these with .gz"
        )
    if not path.is_file():
        raise DataError(f"{where}: there is no such file; check the path")
    frame = read_frame(path, DataConfig())
    found = [str(name) for name in frame.columns]
    if missing := [name for name in ("user", *wanted) if name not in found]:
        raise DataError(
            f"{where} has no column {missing[0]!r}, but {', '.join(found)}; the settings of"
            f" devices need {', '.join(('user', *wanted))}"
        )
    index = {name: at for at, name in enumerate(ids)}
    user = np.array([index.get(str(name), -1) for name in frame["user"]], dtype=np.int64)
    values = {name: _numbers(frame[name], name, where) for name in wanted}
    mine = user >= 0
    user = user[mine]
    if not len(user):
        raise DataError(
            f"{where} names none of the {len(ids)} users of the data; its first is"
            f" {str(frame['user'].iloc[0])!r}, that of the data {ids[0]!r}"
            if len(frame)
            else f"{where} has no rows"
        )
    seconds = np.full(len(ids), np.nan)
    if "seconds" in values:
        count = np.bincount(user, minlength=len(ids))
        total = np.bincount(user, values["seconds"][mine], minlength=len(ids))
        seconds[count > 0] = total[count > 0] / count[count > 0]
    if "start" not in values:
        none = np.empty(0)
        return Trace(seconds, np.empty(0, dtype=np.int64), none, none, none, np.inf)
    if (bad := values["start"] >= values["end"]).any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{where}, row {row + 1}: start {values['start'][row]:g} is not before end"
            f" {values['end'][row]:g}; an interval is from start up to, not including, end"
        )
    period = float(values["end"].max())
    intervals = _united(user, values["start"][mine], values["end"][mine])
    return Trace(seconds, *intervals, _reach(*intervals, period, len(ids)), period)


def leaving(trace: Trace, clock: float) -> Values:
    """When each user's interval ends that he is in at a time, ``(users,)``; -inf: he is in none."""
    time = clock % trace.period
    inside = (trace.start <= time) & (time < trace.end)
    until = np.full(len(trace.seconds), -np.inf)
    until[trace.user[inside]] = clock - time + trace.reach[inside]
    return until


def _numbers(column: Any, name: str, where: str) -> Values:
    import pandas as pd

    values: Values = pd.to_numeric(column, errors="coerce").to_numpy(
        dtype=np.float64, na_value=np.nan
    )
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{where}, row {row + 1}: {name} is {column.iloc[row]!r}; expected seconds, a number"
            " from 0 on"
        )
    return values


def _united(
    user: NDArray[np.int64], start: Values, end: Values
) -> tuple[NDArray[np.int64], Values, Values]:
    """Intervals by user and time; those that overlap or touch become one."""
    order = np.lexsort((start, user))
    user, start, end = user[order], start[order], end[order]
    last = end.copy()
    for at in range(1, len(user)):
        if user[at] == user[at - 1]:
            last[at] = max(last[at], last[at - 1])
    fresh = np.ones(len(user), dtype=bool)
    fresh[1:] = (user[1:] != user[:-1]) | (start[1:] > last[:-1])
    closing = np.append(np.flatnonzero(fresh)[1:] - 1, len(user) - 1)
    return user[fresh], start[fresh], last[closing]


def _reach(
    user: NDArray[np.int64], start: Values, end: Values, period: float, users: int
) -> Values:
    first = np.zeros(users)
    first[user[start == 0]] = end[start == 0]
    reach = end + np.where(end == period, first[user], 0.0)
    reach[(start == 0) & (end == period)] = np.inf
    return reach
