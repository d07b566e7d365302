"""The replies of one round, from the grid to the sum: who is let in, and who is not and why.

Replies go on as they come, one by one. How large a contribution may be is known before the round
from the replies before it. In the first round it is not: then the first few chunks are held back
until all of them are there, and are judged by their own median.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
from flwr.app import Message

from clients.refused import REFUSED, code_of
from fedmeta.sections.validation import ValidationConfig
from strategies import norms
from strategies.errors import message_error
from strategies.trust import Trust
from strategies.validation import (
    Asked,
    Checked,
    Expected,
    RefusedError,
    check_sum,
    is_failure,
    kept,
)


class Intake:
    """Takes replies; what is good goes to ``add``, by itself and whole.

    Attributes:
        asked: chunks that have no reply yet; a chunk may be added while replies come.
        refused: bad replies, or users in stacks of them, by code.
        bad: the users whose they were, where that is known: one entry for each.
        why: the first of the refusals in the order of the chunks.
        orphans: bad replies of which it is not known for which chunk they were.
    """

    def __init__(
        self,
        settings: ValidationConfig,
        asked: dict[int, Asked],
        expected: Expected,
        before: Trust,
        chunk: int,
        add: Callable[[Checked], None],
    ) -> None:
        """Nothing is taken yet.

        Args:
            settings: what is allowed.
            asked: the round's chunks.
            expected: what honest replies are.
            before: what is remembered of earlier replies.
            chunk: users in a full chunk.
            add: given every good reply once.
        """
        self.asked, self.refused = asked, Counter[str]()
        self.bad: list[int] = []
        self.why, self.orphans = "", 0
        self._settings, self._expected = settings, expected
        self._chunk, self._add = chunk, add
        self._norms: dict[int, list[float]] = {}
        self._held: dict[int, Checked] = {}
        self._first = (norms.EVERY, "")
        known = len(before.norms) >= norms.FEWEST
        self._limit = norms.largest(settings, before.norms, before.first) if known else None

    def take(self, reply: Message) -> Checked | str | None:
        """A reply that came: what is in it, the reason of a failure, or None if it is refused."""
        try:
            if is_failure(reply):
                if reply.error.code == REFUSED:
                    self.refused[code_of(reply.error.reason)] += 1
                return message_error(reply)
            checked = check_sum(reply, self.asked, self._expected)
        except RefusedError as error:
            self._refuse(error)
            self._settle(False)
            return None
        chunk = checked.term.chunk
        del self.asked[chunk]
        if len(checked.norms):
            self._norms[chunk] = checked.norms.tolist()
        for user, code in checked.bad:
            self._strike(code, chunk, f"{code}: in the row of a user of chunk {chunk}", user)
        self._held[chunk] = checked
        self._settle(False)
        return checked

    def finish(self) -> tuple[float, ...]:
        """Let in what is still held back; norms by which to judge the next rounds."""
        self._settle(True)
        found = [norm for chunk in sorted(self._norms) for norm in self._norms[chunk]]
        # Of many, some from all over: chunks are in the order of how much their users have.
        return tuple(found[:: -(-len(found) // norms.WINDOW) or 1])

    def _settle(self, last: bool) -> None:
        if self._limit is None:
            if not last and any(chunk < norms.WINDOW for chunk in self.asked):
                return
            mine = [n for chunk, some in self._norms.items() if chunk < norms.WINDOW for n in some]
            self._limit = norms.largest(self._settings, mine)
        for chunk in sorted(self._held):
            self._admit(self._held.pop(chunk), self._limit)

    def _admit(self, checked: Checked, limit: float) -> None:
        chunk, apart = checked.term.chunk, self._expected.apart
        users = self._chunk if apart else checked.term.users
        cap = self._settings.max_norm
        large = norms.too_large(checked.norms, users, self._chunk, limit, cap)
        if not large.any():
            self._add(checked)
            return
        most = f"{limit:.3g}" if users >= self._chunk else f"{limit:.3g}, more for so few users"
        longest = float(checked.norms[large].max())
        why = f"norm: {longest:.3g} of chunk {chunk}; expected at most {most}"
        if not apart:
            self._strike("norm", chunk, why, *checked.users.tolist())
            return
        for user in checked.users[large].tolist():
            self._strike("norm", chunk, why, user)
        self._add(kept(checked, np.logical_not(large)))

    def _refuse(self, error: RefusedError) -> None:
        if error.chunk is None:
            self.orphans += 1
            self._strike(error.code, norms.EVERY, str(error))
            return
        self._strike(error.code, error.chunk, str(error), *self.asked.pop(error.chunk).users)

    def _strike(self, code: str, chunk: int, why: str, *users: int) -> None:
        """Count it; it goes against a user where it can be nobody else's."""
        self.refused[code] += 1
        if len(users) == 1:
            self.bad.append(users[0])
        if not self.why or (chunk, why) < self._first:
            self._first, self.why = (chunk, why), why
