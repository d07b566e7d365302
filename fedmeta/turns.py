"""The rounds of a run as simulated devices make them, without any training."""

from collections.abc import Iterator

from fedmeta import loop
from fedmeta.config import ConfigError
from fedmeta.devices import Turn, fleet_of
from fedmeta.problem import Problem


def turns(problem: Problem) -> Iterator[Turn]:
    """Who takes part in each round of a run."""
    fleet, clock = fleet_of(problem), 0.0
    for round_number in range(1, problem.config.federation.rounds + 1):
        turn = loop.turn_of(problem, fleet, round_number, clock)
        yield turn
        clock = turn.clock


def check_turns(problem: Problem) -> None:
    """Refuse a run in which no user ever replies in time.

    Raises:
        ConfigError: there is no such round; what became of the users.
        DataError: a trace that cannot be used.
    """
    if problem.privacy.guards_users:
        return  # a round in which nobody is drawn releases noise like any other
    selected = dropped = late = 0
    for turn in turns(problem):
        if len(turn.users):
            return
        selected, dropped, late = selected + turn.selected, dropped + turn.dropped, late + turn.late
    if rounds := problem.config.federation.rounds:
        raise ConfigError(
            f"devices: in none of {rounds} rounds does a user reply in time: {selected} are"
            f" available and selected, {dropped} drop, {late} are late; look at"
            " devices.availability and its trace, devices.failure and devices.deadline"
        )
