"""A running sum in a fixed order, whatever order the terms arrive in."""

import numpy as np
from numpy.typing import NDArray

from clients.wire import Sum


class OrderedSum:
    """Adds sums of chunks in the order of the chunks, as they arrive.

    Floating-point addition is not associative, so arrival order would show in the result. A
    term waits only for those before it; memory holds the running sum and the few that wait.
    """

    def __init__(self) -> None:
        """An empty sum."""
        self.total: dict[str, NDArray[np.float64]] = {}
        self.weight = 0.0
        self.users = 0
        self.spent = 0
        self._next = 0
        self._waiting: dict[int, Sum] = {}

    def add(self, term: Sum) -> None:
        """Take one term; a chunk that was added before is refused.

        Raises:
            ValueError: a second reply for the same chunk.
        """
        if term.chunk < self._next or term.chunk in self._waiting:
            raise ValueError(f"chunk {term.chunk} replied twice in one round")
        self._waiting[term.chunk] = term
        while self._next in self._waiting:
            self._take(self._waiting.pop(self._next))
            self._next += 1

    def finish(self) -> dict[str, NDArray[np.float64]]:
        """The sum, with the terms that waited for a chunk that never came, in their order."""
        for chunk in sorted(self._waiting):
            self._take(self._waiting.pop(chunk))
        return self.total

    def _take(self, term: Sum) -> None:
        for name, value in term.total.items():
            term_64 = value.astype(np.float64, copy=False)  # sums are new arrays
            self.total[name] = self.total[name] + term_64 if name in self.total else term_64
        self.weight += term.weight
        self.users += term.users
        self.spent += term.spent
