"""What users of a message contribute: computed together, and where that fails one by one.

It runs on one thread, so that a result never depends on the machine's other load or on how many
workers share it.
"""

import traceback
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clients import memory, wire
from fedmeta import cohort, loop, tasks
from fedmeta.privacy import example, rounds
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.clip import Clip
from fedmeta.problem import Problem
from fedmeta.types import Params, Update


def contribution(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    order: wire.Order,
    store: Path,
    made: Params | None = None,
    chance: Chance | None = None,
) -> wire.Sum:
    """The sum over a chunk's users; users that fail are left out and named.

    What users own is read from the folder ``store`` and written back to it. ``made`` is what the
    server made for each of them, if it did; ``chance`` is where noise comes from, None: the seed.
    Where the server needs them one by one
    (:func:`fedmeta.loop.apart`), contributions are not added up.

    When the batched program raises, the users are run one by one to find whose data it was; that it
    did is counted, also where all of them then succeed. Where every user protects himself, those
    who fail send their noise, and nobody is named.
    """
    failed: list[int] = []
    reasons: list[str] = []
    updates: list[Update] = []
    apart = loop.apart(problem)
    again: list[str] = []
    given = problem.config.data
    pending = tasks.batches(problem.population, users, given.support + given.query)
    if example.applies(problem.config):
        pending = example.batches(problem, users, theta)
    while pending:
        group = pending.pop(0)
        try:
            mine = {name: value[np.isin(users, group)] for name, value in (made or {}).items()}
            update = _update(problem, theta, group, order, store, mine, chance)
        except Exception:
            if len(group) > 1:
                again.append(traceback.format_exc())
                pending = [group[i : i + 1] for i in range(len(group))] + pending
            else:
                failed.append(int(group[0]))
                reasons.append(traceback.format_exc())
            continue
        if bool(update.finite.any()):  # else it has the server's names, all of them zero
            updates.append(update)
        for user in group[~update.finite.cpu().numpy()].tolist():
            failed.append(user)
            reasons.append("its contribution is not finite: it diverged; lower method.rate")
    if example.applies(problem.config):
        again = []  # that a batch raised is of data; of one who fails the epsilon is withdrawn
    total = wire.Sum(
        chunk=order.chunk,
        total={
            name: _together([update.total[name] for update in updates], apart).cpu().numpy()
            for name in (updates[0].total if updates else ())
        },
        weight=float(sum(update.weight for update in updates)),
        users=len(users) - len(failed),
        failed=failed,
        reason=next(iter(reasons + again), ""),
        again=len(again),
    )
    noise = rounds.added_by(problem, theta, users, order.round, chance)
    return _noised(total, noise, len(users)) if noise else total


def _noised(total: wire.Sum, noise: Params, users: int) -> wire.Sum:
    """The sum with what the users add to it; who failed cannot be seen in it."""
    summed = {
        name: value.numpy() + total.total.get(name, np.float64(0.0))
        for name, value in noise.items()
    }
    # Nor that anything was computed again, which happens where somebody's data raise.
    return wire.Sum(total.chunk, summed, float(users), users, [], "")


def _together(parts: list[torch.Tensor], apart: bool) -> torch.Tensor:
    return torch.cat(parts) if apart else torch.stack(parts).sum(0)


def _update(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    order: wire.Order,
    store: Path,
    made: Params,
    chance: Chance | None,
) -> Update:
    if example.applies(problem.config):
        return example.contribute(problem, theta, users, order.round, chance)
    method, ids = problem.method, [problem.population.store.ids[user] for user in users]
    task, gram = loop.prepared(problem, users, order.round)
    weight = loop.weights_of(problem, task)
    own = memory.load(store, ids, order.round, method.own(theta)) if method.own else {}
    own |= {**loop.facts_of(problem, users), **made}
    inner = loop.inner_of(problem, order.round)
    with torch.no_grad():
        update = cohort.contribute(
            method,
            problem.model,
            theta,
            task,
            inner,
            weight,
            gram,
            memory=own,
            apart=loop.apart(problem),
            clip=_clip(problem, order),
        )
    if update.kept:
        there = [name for name, finite in zip(ids, update.finite.tolist(), strict=True) if finite]
        memory.save(store, there, order.round, update.kept)
    return update


def _clip(problem: Problem, order: wire.Order) -> Clip | None:
    """The bound on what each user sends.

    Only one that adapts is the server's to tell; one that does not is in the settings, to which
    the noise belongs, and no order widens it.
    """
    privacy = problem.privacy
    if not privacy.guards_users:
        return None
    return Clip(order.clip, counts=True) if privacy.quantile else Clip(privacy.clip)
