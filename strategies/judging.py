"""Asking the clients how well users do, and collecting their answers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType
from flwr.serverapp import Grid
from numpy.typing import NDArray

from clients import wire
from fedmeta import generation, tasks
from fedmeta.cohort import Trial
from fedmeta.evaluation import NUMBERS
from fedmeta.metrics import METRICS
from fedmeta.problem import Problem
from fedmeta.statistics import worst_decile
from fedmeta.types import Params
from strategies.errors import ClientError, message_error
from strategies.nodes import SIMULATED, Reach
from strategies.validation import Asked, RefusedError, is_failure, numbers_of, records


class Judged(NamedTuple):
    """Scores ``(trials, columns)`` by user, and why the first bad reply is not among them."""

    scores: dict[int, NDArray[np.floating]]
    why: str


class Scored(NamedTuple):
    """The users that were judged, their scores ``(trials, columns, users)``, and whom it lacks."""

    users: NDArray[np.int64]
    scores: NDArray[np.float64]
    lost: str = ""


def messages(
    problem: Problem,
    record: ArrayRecord,
    users: NDArray[np.int64],
    trials: Sequence[Trial],
    asked: dict[int, Asked],
    grid: Grid,
    round_number: int = 0,
    reach: Reach = SIMULATED,
) -> Iterator[Message]:
    """One message for each chunk of the users; what was asked is noted in ``asked``."""
    node_of = reach.route(grid)
    population, size = problem.population, problem.config.federation.chunk
    cells = NUMBERS // population.features.shape[1]
    for number, chunk in enumerate(tasks.chunks(population, users, size, cells)):
        order = wire.Order(round_number, number, chunk.tolist())
        node = node_of(number, chunk)
        if node is None:
            continue
        asked[number] = Asked(node, order.users)
        kind = MessageType.EVALUATE
        yield wire.order_message(record, order, node, kind, trials, told=reach.told)


def collect(
    problem: Problem,
    trials: int,
    replies: Iterable[Message],
    asked: dict[int, Asked],
    round_number: int = 0,
    real: bool = False,
) -> Judged:
    """What the clients have answered; a bad reply is left out, and a failure of a ``real`` one.

    Raises:
        ClientError: a client failed, and `run.on-client-error` is `fail`.
    """
    scores: dict[int, NDArray[np.floating]] = {}
    why = ""
    for reply in replies:
        try:
            if is_failure(reply):
                if problem.config.run.on_client_error == "fail" and not real:
                    raise ClientError(message_error(reply))
                why = why or message_error(reply)
                continue
            users, values = check_scores(problem, trials, reply, asked, str(round_number), real)
        except RefusedError as error:
            why = why or str(error)
            continue
        scores |= {user: values[:, :, i] for i, user in enumerate(users)}
    return Judged(scores, why)


def measure(
    problem: Problem, judged: Judged, round_number: int, real: bool = False
) -> float | None:
    """The mean measure of the validation users; None: they were not asked, or too few are good.

    Raises:
        ClientError: users gave no scores, and no bad reply accounts for them.
    """
    users = problem.population.store.users("valid").tolist()
    there = [user for user in users if user in judged.scores]
    few = len(there) < problem.config.validation.quorum * len(users)
    lenient = real or bool(judged.why)
    if not there or (lenient and few):
        return None
    if len(there) < len(users) and not lenient:
        first = next(user for user in users if user not in judged.scores)
        raise ClientError(
            f"round {round_number}: {len(users) - len(there)} of {len(users)} validation users gave"
            f" no scores, {problem.population.store.ids[first]!r} first"
        )
    return mean_of([judged.scores[user][0, 0] for user in there])


def mean_of(values: Iterable[float]) -> float:
    """The mean, whatever the order: its last bit can decide between two rounds."""
    given = [float(value) for value in values]
    return math.fsum(given) / len(given)


def worst(problem: Problem, judged: Judged, mean: float | None) -> float | None:
    """The mean measure of the tenth of the users who are worst off; None where there is no mean."""
    if mean is None:
        return None
    values = np.array([scores[0, 0] for scores in judged.scores.values()], dtype=np.float64)
    return worst_decile(METRICS[problem.population.store.task], values)


def check_scores(
    problem: Problem,
    trials: int,
    reply: Message,
    asked: dict[int, Asked],
    group: str,
    real: bool = False,
) -> tuple[list[int], NDArray[np.floating]]:
    """Users and their scores ``(trials, columns, users)``, of the node that was asked for them.

    The error of a simulated user who diverges is no number, and tells of him. A ``real`` node's
    has to be one: it would be the mean of all.

    Raises:
        RefusedError: it is not what was asked for.
    """
    try:
        fields = records(reply, wire.SCORES, group)
        users, node = fields.get("users"), reply.metadata.src_node_id
        if set(fields) != {"users"} or type(users) is not list:
            raise RefusedError("report", f"fields {sorted(fields)!r:.200}; expected users")
        chunk = next((n for n, one in asked.items() if one == (node, users)), None)
        if chunk is None:
            raise RefusedError("users", f"node {node!r:.40} was not asked for them, or answered")
        metric = METRICS[problem.population.store.task]
        columns = len(metric.columns) + len(problem.method.reports)
        shape = (trials, columns, len(users))
        _, values = wire.read_scores(
            reply, lambda name, array: numbers_of(name, array, "float64", shape)
        )
    except RefusedError:
        raise
    except Exception as error:  # a foreign message may hold what nobody foresaw
        raise RefusedError("unreadable", f"{type(error).__name__}: {error}"[:300]) from error
    # What decides between rounds: an accuracy is never NaN, an error is where a user diverges.
    measure = values[:, 0]
    inside = (measure >= 0) & (measure <= 1) if metric.name == "accuracy" else ~(measure < 0)
    if not inside.all() or (real and not np.isfinite(measure).all()):
        raise RefusedError("score", f"{metric.name} out of range")
    del asked[chunk]
    return users, values


def judge(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    trials: Sequence[Trial],
    grid: Grid,
    reach: Reach = SIMULATED,
) -> Scored:
    """Scores of users, in the order given.

    Real users may be away; they, and with `run.on-client-error = "skip"` all without a good reply,
    are left out, and it is said.

    Raises:
        ClientError: users gave no good reply in time, and they may not be left out, or those who
            are left are fewer than `validation.quorum` of all.
    """
    record = wire.arrays(generation.public(problem.method, theta))
    asked: dict[int, Asked] = {}
    sent = messages(problem, record, users, trials, asked, grid, 0, reach)
    replies = grid.send_and_receive(sent, timeout=reach.timeout)
    scores, why = collect(problem, len(trials), replies, asked, 0, reach.real)
    there = np.array([user for user in users.tolist() if user in scores], dtype=np.int64)
    lost = ""
    if len(there) < len(users):
        first = next(user for user in users.tolist() if user not in scores)
        lost = (
            f"{len(users) - len(there)} of {len(users)} users gave no scores within"
            f" {reach.timeout:.0f} s, {problem.population.store.ids[first]!r} first"
            f"{why and '; refused: ' + why}"
        )
        if problem.config.run.on_client_error == "fail" and not reach.real:
            raise ClientError(
                f"{lost}; go on with --resume, which judges once more, or set"
                " run.on-client-error = 'skip' to judge the others alone"
            )
        quorum = problem.config.validation.quorum
        if not len(there) or len(there) < quorum * len(users):
            raise ClientError(f"{lost}; expected validation.quorum = {quorum:g} of them at least")
    return Scored(there, np.stack([scores[user] for user in there.tolist()], axis=-1), lost)
