"""The privacy ledger: what every user has been charged, on disk before anything of it leaves.

One SQLite file per participant, beside what users own. A charge is one transaction, synced when
:func:`charge` returns, and a value is released after that: a crash at any point leaves a charge
without a release, never a release without a charge. Users are known by their own id, so that
another node, process or registration finds what was charged before. Nothing is ever taken back: a
reply that came too late or was thrown away has been paid for.

A release that is made again is charged once only if it is the same, bit for bit: the same run,
round and fingerprint of all that decides it. The same noise on anything else would give the
difference away, and is refused.
"""

import hashlib
import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.privacy.accounting import epsilon, merged
from fedmeta.privacy.calibration import times_within
from fedmeta.privacy.event import Charge, Event
from fedmeta.types import Params

FILE = "privacy.sqlite"
EVERYBODY = ""
"""Who is charged for a release that concerns all users of a run alike."""
FRESH = "fresh/"
"""Begins the fingerprint of a release whose noise nobody can draw again."""
PATIENCE = 60.0
"""Seconds to wait for another process that is charging."""
SPLITS = 5
"""Runs whose parts are set against each other one by one."""
MOST = 2**20
"""Charges of one kind after which a user stops, whatever is left of his budget."""

History = Mapping[tuple[str, Charge], int]
"""How often a user was charged what, by run: fixed splits of two runs need not be the same."""

_TABLE = """
CREATE TABLE IF NOT EXISTS charges (
  user TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, fingerprint TEXT NOT NULL,
  charge TEXT NOT NULL, PRIMARY KEY (user, run, round, fingerprint)
) WITHOUT ROWID
"""


class LedgerError(ValueError):
    """A charge that cannot be written down, so that nothing may be released."""


class Release(NamedTuple):
    """What is going to leave.

    Attributes:
        run: whose draws and noise it is made of.
        round: of that run.
        fingerprint: of everything that decides the value (:func:`fingerprint`); empty where
            noise is fresh every time, as from the operating system: then all releases count.
        charge: what it costs a user.
    """

    run: str
    round: int
    fingerprint: str
    charge: Charge


class Budget(NamedTuple):
    """Largest epsilon at ``delta``; 0: none."""

    epsilon: float
    delta: float


def charge(
    folder: Path, users: Sequence[str], release: Release, budget: Budget
) -> NDArray[np.bool_]:
    """Charge users for a release, except those whom it would take past their budget.

    Args:
        folder: of the participant; made if need be.
        users: ids.
        release: what is going to leave.
        budget: of each of them.

    Returns:
        Who takes part, ``(U,)``. Their charges are on disk; the others have none and may send
        nothing. It depends on charges alone, never on data.

    Raises:
        LedgerError: the ledger cannot be read or written, or the noise was used before.
    """
    where = f"user IN ({','.join('?' * len(users))})"
    # A round may be released more than once with fresh noise, each time at its price.
    sign = release.fingerprint or FRESH + secrets.token_hex(16)
    takes_part, new = [], []
    with _open(folder) as ledger:
        made = dict(
            ledger.execute(
                f"SELECT user, fingerprint FROM charges WHERE {where} AND run = ? AND round = ?"
                " AND fingerprint NOT LIKE ? || '%'",
                (*users, release.run, release.round, FRESH),
            )
        )
        past = _history(ledger, where, users) if budget.epsilon else {}
        text = json.dumps(release.charge)
        for user in users:
            if release.fingerprint and made.get(user, sign) != sign:
                raise LedgerError(
                    f"round {release.round} was released before from other parameters or settings,"
                    " and its noise may not be used again, since the difference of the two would"
                    " be bare; start anew with another run.seed"
                )
            paid = made.get(user) == sign  # the same bits once more tell nothing new
            takes_part.append(paid or _fits(past.get(user, {}), release, budget))
            if takes_part[-1] and not paid:
                new.append((user, release.run, release.round, sign, text))
        ledger.executemany("INSERT INTO charges VALUES (?, ?, ?, ?, ?)", new)
    return np.array(takes_part, dtype=bool)


def history(folder: Path, user: str) -> dict[tuple[str, Charge], int]:
    """What a user has been charged so far; nothing where there is no ledger."""
    if not (folder / FILE).exists():
        return {}
    with _open(folder) as ledger:
        return _history(ledger, "user = ?", [user]).get(user, {})


def histories(folder: Path) -> dict[str, dict[tuple[str, Charge], int]]:
    """What each user has been charged so far; the ledger has to be there."""
    with _open(folder) as ledger:
        return _history(ledger, "1", [])


def total(past: History) -> Charge:
    """What charges add up to.

    Parts of one charge are disjoint parts of a user's data, fixed for a run. Of two runs every
    part of the one may overlap with every part of the other.
    """
    runs: dict[tuple[str, int], list[tuple[Charge, int]]] = {}
    for (run, once), times in past.items():
        # Two charges of a run share its split if they have as many parts.
        runs.setdefault((run, len(once)), []).append((once, times))
    each: list[list[tuple[Event, ...]]] = [
        [
            tuple(e._replace(count=e.count * n) for once, n in charges for e in once[part])
            for part in range(parts)
        ]
        for (_, parts), charges in sorted(runs.items(), key=lambda item: item[0])
        if parts
    ]
    # Every run doubles the mixes; where they are too many, both parts of the cheaper ones count.
    each.sort(key=_weight, reverse=True)
    whole = [[tuple(e for part in parts for e in part)] for parts in each[SPLITS:]]
    return tuple(
        tuple(e for part in mix for e in part) for mix in product(*each[:SPLITS], *whole) if mix
    )


def _weight(parts: list[tuple[Event, ...]]) -> float:
    """About what a run with several parts costs; nothing for one that has no choice of them."""
    if len(parts) == 1:
        return 0.0
    events = [event for part in parts for event in part]
    return sum(e.count * (e.sampling_rate / max(e.noise_multiplier, 1e-9)) ** 2 for e in events)


def fingerprint(params: Params, *path: str | int | float) -> str:
    """A digest of parameters, bit for bit, and of a path."""
    digest = hashlib.sha256(repr(path).encode())
    for name in sorted(params):
        array = np.ascontiguousarray(params[name].detach().cpu().numpy())
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _fits(past: History, release: Release, budget: Budget) -> bool:
    if not budget.epsilon:
        return True
    kind = (release.run, release.charge)
    after = dict(Counter(past) + Counter({kind: 1}))
    if len(after) == 1:  # the usual case: no loss distribution for every count there is
        return after[kind] <= _often(release.charge, budget)
    return epsilon(total(after), budget.delta) <= budget.epsilon


@lru_cache(maxsize=64)
def _often(once: Charge, budget: Budget) -> int:
    # Once may cost nothing at this delta, as where a record is hardly ever in, and often much.
    if not any(merged(part) for part in once):
        return 2**62
    return times_within(budget.epsilon, budget.delta, lambda n: total({("", once): n}), MOST)


def _history(
    ledger: sqlite3.Connection, where: str, users: Sequence[str]
) -> dict[str, dict[tuple[str, Charge], int]]:
    rows = ledger.execute(
        f"SELECT user, run, charge, COUNT(*) FROM charges WHERE {where} GROUP BY 1, 2, 3",
        tuple(users),
    )
    found: dict[str, dict[tuple[str, Charge], int]] = {}
    for user, run, text, count in rows:
        found.setdefault(user, {})[run, _read(text)] = count
    return found


@lru_cache(maxsize=256)
def _read(text: str) -> Charge:
    try:
        return tuple(tuple(Event(*event) for event in part) for part in json.loads(text))
    except (ValueError, TypeError):
        raise LedgerError(f"the privacy ledger holds no charge but {text!r}") from None


@contextmanager
def _open(folder: Path) -> Iterator[sqlite3.Connection]:
    """The ledger in a transaction that is synced at the end, and undone by an exception."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ledger = sqlite3.connect(folder / FILE, timeout=PATIENCE, isolation_level=None)
        try:
            # A commit survives a power cut, and no folder needs to be synced for it.
            ledger.execute("PRAGMA journal_mode = PERSIST")
            ledger.execute("PRAGMA synchronous = FULL")
            ledger.execute("BEGIN IMMEDIATE")
            ledger.execute(_TABLE)
            yield ledger
            ledger.execute("COMMIT")
        finally:
            ledger.close()  # undoes what was not committed
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"the privacy ledger {str(folder / FILE)!r} cannot be used: {error}; nothing is"
            " released. Make room, or bring the file back from a copy; a new one would forget"
            " what was charged"
        ) from None
