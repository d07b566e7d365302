"""The contributions of a round's users, one by one, for a robust rule."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from clients.wire import Sum
from fedmeta import robust
from fedmeta.params import SHARE
from fedmeta.sections.robust import RobustConfig
from strategies.errors import ClientError
from strategies.ordered import OrderedSum

Rows = dict[str, NDArray[np.float64]]


class Stack:
    """Keeps what users have sent and makes one contribution of it, whatever order it came in.

    It stands where :class:`strategies.ordered.OrderedSum` stands for a mean: what it gives counts
    as the sum of users of weight 1 together. Memory grows with users per round.
    """

    def __init__(self, settings: RobustConfig, there: Callable[[Sum], NDArray[np.int64]]) -> None:
        """``there`` gives the users of a reply, in the order of its rows."""
        self._settings, self._there = settings, there
        self._rows: dict[int, Rows] = {}
        self._chunks: set[int] = set()
        self.spent = 0

    @property
    def users(self) -> int:
        """Users so far."""
        return len(self._rows)

    @property
    def weight(self) -> float:
        """1 once there is anybody."""
        return float(bool(self._rows))

    def add(self, term: Sum) -> None:
        """Take one reply; a chunk that was added before is refused.

        Raises:
            ValueError: a second reply for the same chunk, or not one row for each of its users.
        """
        if term.chunk in self._chunks:
            raise ValueError(f"chunk {term.chunk} replied twice in one round")
        self._chunks.add(term.chunk)
        self.spent += term.spent
        users = self._there(term)
        for name, value in term.total.items():
            if len(value) != len(users):
                raise ValueError(
                    f"chunk {term.chunk}: {name!r} has {len(value)} rows for {len(users)} users"
                )
        for row, user in enumerate(users.tolist()):
            self._rows[user] = {n: v[row] for n, v in term.total.items() if n != SHARE}

    def finish(self) -> Rows:
        """What the rule makes of them, in the order of the users.

        Raises:
            ValueError: fewer users than the rule needs.
        """
        if not self._rows:
            return {}
        order = sorted(self._rows)
        rows = {
            name: torch.from_numpy(np.stack([self._rows[user][name] for user in order]))
            for name in self._rows[order[0]]
        }
        return {
            name: value.numpy() for name, value in robust.aggregate(self._settings, rows).items()
        }


def total_of(terms: OrderedSum | Stack, round_number: int) -> Rows:
    """What has been gathered in a round.

    Raises:
        ClientError: fewer users are left than the rule needs.
    """
    try:
        return terms.finish()
    except ValueError as error:
        raise ClientError(f"round {round_number}: {error}") from None
