"""The honest ClientApp with attackers among its users.

Attackers run the honest code too, on data of their own making, and then change what leaves them.
Which users attack is fixed by the seed, so every worker knows it without being told.
"""

from typing import NamedTuple

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import Tensor

import clients.app as honest
from clients import memory, wire
from clients.contribution import contribution
from experiments.attack.attacks import Attack, Rows
from experiments.attack.poison import poisoned
from fedmeta import config, loop, seeding
from fedmeta.params import SHARE
from fedmeta.problem import Problem, build
from fedmeta.sections.robust import RobustConfig

Users = NDArray[np.int64]


class Plan(NamedTuple):
    """Who attacks and how.

    Attributes:
        attack: what they do.
        share: of the training users, or in every round of its users.
        exact: the share holds in every round, of whose users the first by the seeded order attack;
            False: a fixed subset of the training users attacks, and a round has more or fewer.
        marked: features of the items with the trigger, for a backdoor.
    """

    attack: Attack
    share: float
    exact: bool
    marked: Tensor | None = None


def attackers(problem: Problem, plan: Plan, cohort: Users) -> Users:
    """The attackers among the users of a round, in the order of the cohort."""
    if not plan.attack.data and plan.attack.sends is None:
        return cohort[:0]
    among = cohort if plan.exact else problem.population.store.users("train")
    stream = seeding.key(problem.config.run.seed, "attackers")
    none = np.zeros(len(among), dtype=np.int64)
    order = np.argsort(seeding.scores(stream, problem.population.keys[among], none), kind="stable")
    chosen = among[order[: round(plan.share * len(among))]]
    found: Users = cohort[np.isin(cohort, chosen)]
    return found


def app_of(plan: Plan) -> ClientApp:
    """The app of all users, some of whom attack in training; judging is as it is."""
    app = ClientApp()
    app.evaluate()(honest.evaluate)
    made: dict[int, Problem] = {}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        problem = build(config.parse(context.run_config))
        if id(problem.population) not in made:
            made.clear()
            made[id(problem.population)] = poisoned(problem, plan.attack, plan.marked)
        theirs = _apart(made[id(problem.population)])
        record, order = wire.read_order(message)
        theta, store = wire.params(record), memory.folder_of(context)
        users = np.array(order.users, dtype=np.int64)
        cohort = loop.cohort_of(problem.population, problem.config, order.round)
        bad = attackers(problem, plan, cohort)
        if not np.isin(bad, users).any():
            return honest.train(message, context)
        others = users[~np.isin(users, bad)]
        good = wire.Sum(order.chunk, {}, 0.0, 0, [], "")
        if len(others):
            good = contribution(problem, theta, others, order, store)
        # Colluders know each other's updates, those of other chunks too.
        every = contribution(theirs, theta, bad, order, store)
        random = seeding.generator(problem.config.run.seed, "attack", order.round)
        sent = _sent(plan.attack, every.total, len(cohort), random)
        there = bad[~np.isin(bad, every.failed)]
        mine = np.isin(there, users)
        failed = good.failed + [user for user in every.failed if user in order.users]
        here = {name: value[mine] for name, value in sent.items()}
        total, weight = _joined(good, here, loop.apart(problem))
        if loop.apart(problem):
            known = [user for user in order.users if user not in bad and user not in good.failed]
            at = {user: row for row, user in enumerate([*known, *there[mine].tolist()])}
            rows = [at[user] for user in order.users if user in at]
            total = {name: value[rows] for name, value in total.items()}
        reason = good.reason or every.reason
        term = wire.Sum(order.chunk, total, weight, len(users) - len(failed), failed, reason)
        return wire.sum_reply(message, term)

    return app


def _apart(problem: Problem) -> Problem:
    """The problem with users' contributions one by one, whatever its rule needs."""
    settings = problem.config.model_copy(update={"robust": RobustConfig(rule="median")})
    return problem._replace(config=settings)


def _sent(
    attack: Attack, rows: dict[str, Rows], users: int, random: np.random.Generator
) -> dict[str, Rows]:
    """What colluders send, by name, from what they would have sent."""
    names = sorted(name for name in rows if name != SHARE)
    if attack.sends is None or not names:
        return rows
    flat = np.concatenate([rows[name].reshape(len(rows[name]), -1) for name in names], axis=1)
    ends = np.cumsum([rows[name][0].size for name in names])[:-1]
    parts = np.split(attack.sends(flat.astype(np.float64), users, random), ends, axis=1)
    found = {name: p.reshape(rows[name].shape) for name, p in zip(names, parts, strict=True)}
    return found | {SHARE: rows[SHARE]}


def _joined(good: wire.Sum, sent: dict[str, Rows], apart: bool) -> tuple[dict[str, Rows], float]:
    """Honest users and attackers together: rows one after the other, or one sum; its weight."""
    weight = good.weight + float(sent[SHARE].sum() if sent else 0.0)
    if apart:
        parts = [rows for rows in (good.total, sent) if rows]
        names = parts[0] if parts else {}
        return {name: np.concatenate([rows[name] for rows in parts]) for name in names}, weight
    sums = {name: value.sum(0) for name, value in sent.items() if name != SHARE}
    names = good.total or sums
    return {n: good.total.get(n, 0.0) + sums.get(n, 0.0) for n in names}, weight
