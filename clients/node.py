"""The ClientApp of one real user: the simulated client's arithmetic, on his data, by his rules.

Every message starts a process of its own, so that all that has to last is in the node's folder
(:mod:`clients.home`). A message is first held against the owner's policy; then the data are read,
the privacy ledger is charged, the answer is computed and kept, and only then does it leave. What
goes wrong is told to the server in a fixed text (:mod:`clients.refused`), and in full to the log.
"""

import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from flwr.app import Context, Message

from clients import answers, charging, limits, memory, own_model, policy, scores, wire
from clients.contribution import contribution
from clients.home import Home, alone, home_of, note, run_folder
from clients.ledger import Budget, LedgerError
from clients.own_data import population_of, raw_of
from clients.policy import Policy
from clients.refused import RefusedError, error_reply
from fedmeta import cohort, config, evaluation, facts, generation, seeding
from fedmeta.backbones import BackboneError
from fedmeta.config import Config, ConfigError
from fedmeta.data import own
from fedmeta.data.raw import DataError
from fedmeta.facts import Facts
from fedmeta.privacy.chance import Chance, source
from fedmeta.problem import Problem, assemble, initial
from fedmeta.threads import one_thread
from fedmeta.types import Params

ME = np.zeros(1, dtype=np.int64)
"""The users of a node's population."""
TRAIN, TEST = 0, 2


class Asked(NamedTuple):
    """A message that the policy lets pass.

    Attributes:
        policy: of the owner.
        config: of the run.
        facts: of the run.
        run: what the server calls it.
    """

    policy: Policy
    config: Config
    facts: Facts
    run: str


Work = Callable[[Message, Home, Asked], Message]


def answer(message: Message, context: Context, work: Work) -> Message:
    """The reply of a node; whatever happens, it is one, and tells nothing of the data."""
    home: Home | None = None
    try:
        home = home_of(context)
        with alone(home), one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Flower passes on what is printed
            return work(message, home, _asked(message, context, home))
    except RefusedError as error:
        note(home, f"{message.metadata.message_type}: {error}")
        return error_reply(message, error.code, error.rule)
    except Exception as error:
        code, rule = _kind(error)
        note(home, f"{message.metadata.message_type}: {traceback.format_exc()}")
        return error_reply(message, code, rule)


def hello(message: Message, home: Home, asked: Asked) -> Message:
    """Who is here, and as much of his data as he lets everybody know."""
    raw = raw_of(home, asked.config)
    code = raw.split[0] if raw.split is not None else TRAIN
    store = own.own(raw, asked.config.data, asked.facts, int(code))
    if store is not None:
        population_of(store, home, asked.config, asked.facts)  # so that what is wrong is told now
    told = asked.policy.tell_size and asked.config.privacy.unit == "off"
    me = wire.Hello(
        user=f"{seeding.key('user', home.name):016x}",
        rank=f"{seeding.key(asked.config.data.seed, 'user-split', home.name):016x}",
        split=own.split_of(raw),
        examples=len(store.item) if store is not None and told else 0,
        enough=store is not None,
    )
    return wire.hello_reply(message, me)


def train(message: Message, home: Home, asked: Asked) -> Message:
    """The contribution of the user, charged before it is made and kept before it leaves."""
    order, theta, made = _order(message, asked)
    problem, chance = _problem(home, asked, TRAIN), chance_of(asked)
    _check_shapes(problem, theta, made, training=True)
    folder = run_folder(home, asked.run)
    request = charging.request(problem, {**theta, **made}, order.round, order.clip)
    before = answers.look_up(folder / "answers", order.round, request)
    if before is not None:
        return wire.sum_reply(message, _to(order, before))
    scores.check_untold(home, asked.policy, asked.config.privacy.unit)
    budget = _budget(asked)
    fresh = chance is not None
    there = charging.admitted(problem, theta, ME, order.round, home.folder, fresh, budget)
    if not len(there):
        note(home, f"round {order.round}: the privacy budget is spent; nothing is sent")
        return wire.sum_reply(message, wire.Sum(order.chunk, {}, 0.0, 0, [], "", spent=1))
    mine = order._replace(users=[0])
    reply = contribution(problem, theta, ME, mine, folder / "own", made, chance)
    if reply.reason:
        note(home, f"round {order.round}: {reply.reason}")
        reply = reply._replace(reason="refused: failed")
    answers.keep(folder / "answers", order.round, request, reply, asked.policy.keep_answers)
    return wire.sum_reply(message, _to(order, reply))


def evaluate(message: Message, home: Home, asked: Asked) -> Message:
    """The scores of the user after each of the order's trials."""
    scores.tell(home, asked.policy, asked.config.privacy.unit, asked.run)
    order, theta, _ = _order(message, asked)
    problem = _problem(home, asked, TEST)
    _check_shapes(problem, theta, {}, training=False)
    trials = [
        cohort.Trial(replace(problem.adapt, rate=rate, steps=steps), shots)
        for rate, steps, shots in zip(order.rates, order.steps, order.shots, strict=True)
    ]
    found = evaluation.evaluate(problem, theta, ME, trials)
    return wire.scores_reply(message, order.users, found)


def personalize(message: Message, home: Home, asked: Asked) -> Message:
    """Make the user's own model of all his examples and keep it; the server hears that it is so."""
    order, theta, _ = _order(message, asked)
    if len(order.rates) != 1:
        raise RefusedError("order", f"{len(order.rates)} ways to personalize; expected one")
    problem = _problem(home, asked, TRAIN)
    _check_shapes(problem, theta, {}, training=False)
    inner = own_model.descent(problem, order.rates[0], order.steps[0])
    owned: Params = {}
    if problem.method.own is not None:
        mine, last = run_folder(home, asked.run) / "own", order.round + 1
        owned = memory.load(mine, [home.name], last, problem.method.own(theta))
    made = own_model.make(problem, theta, inner, owned)
    content = own_model.packed(problem, theta, made, asked.facts.backbone, home.name, inner)
    own_model.write(home.folder / own_model.FILE, content)
    return wire.done_reply(message)


def chance_of(asked: Asked) -> Chance | None:
    """Where noise and samples come from: the operating system, but in a test the seed (None)."""
    return None if asked.config.privacy.test_noise else source(None, deployed=True)


def _asked(message: Message, context: Context, home: Home) -> Asked:
    rules = policy.read(home.folder)
    given = config.parse(context.run_config)
    limits.check_config(rules, given)
    try:
        run, told = wire.read_told(message)
    except Exception as error:
        raise RefusedError("order", f"the message has no facts of the run ({error})") from None
    found = facts.read_fields(told)
    limits.check_facts(rules, given, found)
    return Asked(rules, given, found, run)


def _order(message: Message, asked: Asked) -> tuple[wire.Order, Params, Params]:
    try:
        record, order = wire.read_order(message)
        made = wire.read_made(message)
        limits.check_order(asked.policy, order, asked.config)
        limits.check_size(asked.policy, [record, made])
        return order, wire.params(record), wire.params(made)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("order", f"cannot be read ({type(error).__name__}: {error})") from None


def _problem(home: Home, asked: Asked, split: int) -> Problem:
    raw = raw_of(home, asked.config)
    store = own.own(raw, asked.config.data, asked.facts, split)
    if store is None:
        raise DataError(
            f"{raw.name}: too few examples: data.support = {asked.config.data.support} and one"
            " more at least"
        )
    return assemble(asked.config, population_of(store, home, asked.config, asked.facts))


def _check_shapes(problem: Problem, theta: Params, made: Params, training: bool) -> None:
    start, generator = initial(problem), problem.method.generator
    wanted: Params = generation.public(problem.method, start)
    each: Params = {}
    if generator is not None and training:
        wanted, each = {}, generator.issue(start, torch.zeros(1, dtype=torch.int64))
    for found, expected in ((theta, wanted), (made, each)):
        shapes = {name: (tuple(v.shape), v.dtype) for name, v in found.items()}
        if shapes != {name: (tuple(v.shape), v.dtype) for name, v in expected.items()}:
            raise RefusedError(
                "shape", f"parameters {_listed(found)}; expected {_listed(expected)}: it is the"
                " head of another run or encoder"
            )  # fmt: skip
        if not all(bool(v.isfinite().all()) for v in found.values() if v.is_floating_point()):
            raise RefusedError("shape", "parameters are not finite")


def _budget(asked: Asked) -> Budget:
    """The stricter of the owner's and the run's."""
    mine, theirs = asked.policy, asked.config.privacy
    least = [one for one in (mine.epsilon_budget, theirs.epsilon_budget) if one]
    return Budget(min(least, default=0.0), min(mine.max_delta, theirs.delta))


def _to(order: wire.Order, reply: wire.Sum) -> wire.Sum:
    """A reply under the numbers that the server gave."""
    return reply._replace(chunk=order.chunk, failed=order.users if reply.failed else [])


def _kind(error: Exception) -> tuple[str, str]:
    """The code of an error, and the name of its class where that says more."""
    kinds: list[tuple[type[Exception], str]] = [
        (LedgerError, "ledger"), (DataError, "data"), (BackboneError, "backbone"),
        (ConfigError, "config"), (OSError, "disk"),
    ]  # fmt: skip
    for kind, code in kinds:
        if isinstance(error, kind):
            return code, ""
    name = type(error).__name__
    return "failed", name if re.fullmatch(r"[A-Za-z]{1,40}", name) else ""


def _listed(params: Params) -> str:
    return ", ".join(f"{name} {tuple(v.shape)}" for name, v in sorted(params.items())) or "none"
