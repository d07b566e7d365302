"""What the server remembers of its users' conduct from round to round."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fedmeta.sections.validation import ValidationConfig
from strategies.norms import WINDOW

EVER = 2**53
"""A round that no run comes to."""


class Trust(NamedTuple):
    """It is saved with the rounds.

    Attributes:
        first, norms: of the first contributions of the run and of the last, by which those of the
            next round are judged.
        strikes: bad replies of users that are still asked, by user.
        until: the last round of a user's quarantine, by user.
    """

    norms: tuple[float, ...] = ()
    strikes: dict[int, int] = {}  # noqa: RUF012
    until: dict[int, int] = {}  # noqa: RUF012
    first: tuple[float, ...] = ()


def written(trust: Trust) -> dict[str, Any]:
    """As JSON can hold it."""
    return trust._asdict()


def read_back(body: Mapping[str, Any]) -> Trust:
    """The inverse; in JSON the keys of a table are texts."""
    strikes, until = ({int(u): int(n) for u, n in body[k].items()} for k in ("strikes", "until"))
    norms, first = (tuple(float(norm) for norm in body[k]) for k in ("norms", "first"))
    return Trust(norms, strikes, until, first)


def quarantined(trust: Trust, round_number: int) -> list[int]:
    """Users that are not asked in a round, sorted."""
    return sorted(user for user, last in trust.until.items() if last >= round_number)


def after(
    trust: Trust,
    norms: Sequence[float],
    bad: Iterable[int],
    round_number: int,
    settings: ValidationConfig,
) -> Trust:
    """The memory after a round with these norms and these users' bad replies, one entry each."""
    strikes = dict(trust.strikes)
    until = {user: last for user, last in trust.until.items() if last > round_number}
    for user in bad:
        strikes[user] = strikes.get(user, 0) + 1
        if settings.strikes and strikes[user] >= settings.strikes:
            until[user] = round_number + settings.quarantine if settings.quarantine else EVER
            del strikes[user]
    last, first = (*trust.norms, *norms)[-WINDOW:], (*trust.first, *norms)[:WINDOW]
    return Trust(last, strikes, until, first)
