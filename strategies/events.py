"""What a run tells while it goes on; progress displays and logs listen."""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class RoundDone(NamedTuple):
    """A round is over.

    Attributes:
        round, rounds: number of the round and of all rounds.
        users: users whose contributions were taken.
        failed: users that were asked and are not among them.
        seconds: wall time of the round's training.
        valid: measure on validation users after adaptation, in rounds that are evaluated.
        refused: bad replies by the code of what was wrong; of replies that hold users one by one,
            bad users.
        why: what was wrong with the first of them.
        quarantined: users that were not asked, for bad replies before.
        counted: whether there was a quorum; else the model is what it was.
        clock: simulated seconds since the run began; None: no devices are simulated.
        selected, dropped, late: of simulated devices: how many users were asked, how many of these
            left in mid-round, and how many would have replied after the round was over.
        again: batches that raised and were computed again user by user.
        spent: users who took no part since their privacy budget is spent.
        valid_worst: mean measure of the worst tenth of the validation users, beside `valid`.
        bytes_down, bytes_up: of the parameters that the users asked were sent, and of what those
            taken sent back, each user by a client of his own; evaluation, headers and reports of
            a few bytes are not counted.
    """

    round: int
    rounds: int
    users: int
    failed: int
    seconds: float
    valid: float | None
    refused: Mapping[str, int] = {}
    why: str = ""
    quarantined: int = 0
    counted: bool = True
    clock: float | None = None
    selected: int = 0
    dropped: int = 0
    late: int = 0
    again: int = 0
    spent: int = 0
    valid_worst: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0


class Phase(NamedTuple):
    """Another part of the run begins (`tuning`, `judging`)."""

    name: str


class Resumed(NamedTuple):
    """A run goes on where it was left, after these rounds."""

    history: list[RoundDone]


Event = RoundDone | Phase | Resumed
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener for those who want none."""
