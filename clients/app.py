"""The Flower ClientApp: adapts a list of users and replies with their sum.

The same app serves simulation (a worker node plays the users of its chunk), Flower's own engine,
and the node of a single real user (:mod:`clients.node`).
"""

from dataclasses import replace

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients import charging, memory, node, wire
from clients.contribution import contribution
from clients.home import is_deployed
from fedmeta import cohort, config, evaluation
from fedmeta.problem import build
from fedmeta.threads import one_thread

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Who is here; only the node of a real user is asked."""
    return node.answer(message, context, node.hello)


@app.query("personalize")
def personalize(message: Message, context: Context) -> Message:
    """Leave the user with a model of his own; only the node of a real user is asked."""
    return node.answer(message, context, node.personalize)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Sum the contributions of the users of the order."""
    if is_deployed(context):
        return node.answer(message, context, node.train)
    problem = build(config.parse(context.run_config))
    record, order = wire.read_order(message)
    theta = wire.params(record, problem.population.features.device)
    users = np.array(order.users, dtype=np.int64)
    with one_thread():
        store = memory.folder_of(context)
        made = wire.params(wire.read_made(message), problem.population.features.device)
        # Before anything of them is drawn, so that no crash leaves a release without a charge.
        there = charging.admitted(problem, theta, users, order.round, store)
        if not len(there):
            nothing = wire.Sum(order.chunk, {}, 0.0, 0, [], "", spent=len(users))
            return wire.sum_reply(message, nothing)
        reply = contribution(problem, theta, there, order, store, made)
        return wire.sum_reply(message, reply._replace(spent=len(users) - len(there)))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the users of the order after each of its trials."""
    if is_deployed(context):
        return node.answer(message, context, node.evaluate)
    problem = build(config.parse(context.run_config))
    record, order = wire.read_order(message)
    theta = wire.params(record, problem.population.features.device)
    trials = [
        cohort.Trial(replace(problem.adapt, rate=rate, steps=steps), shots)
        for rate, steps, shots in zip(order.rates, order.steps, order.shots, strict=True)
    ]
    with one_thread():
        scores = evaluation.evaluate(problem, theta, np.array(order.users, dtype=np.int64), trials)
    return wire.scores_reply(message, order.users, scores)
