"""A server's config and order held against the owner's policy, before anything is loaded."""

import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from flwr.app import ArrayRecord

from clients.policy import Policy
from clients.refused import RefusedError
from clients.wire import Order
from fedmeta.config import Config, flatten
from fedmeta.facts import Facts
from fedmeta.methods import METHODS

PLACES = (
    "data.source", "data.public", "data.problems", "backbone.cache", "backbone.name", "run.out",
    "run.memory", "run.name", "devices.trace",
)  # fmt: skip
"""Keys that may name a place on a disk."""
KINDS = {"off": "off", "example": "example"}
MOST_ROUND = 2**31


def check_config(policy: Policy, config: Config) -> None:
    """Refuse a config that asks for more than the owner allows.

    Raises:
        RefusedError: with the rule that it breaks.
    """
    given, data, privacy = config.method, config.data, config.privacy
    if policy.methods and given.name not in policy.methods:
        _refuse("methods", "method.name", given.name)
    if given.name not in METHODS:
        raise RefusedError("config", f"method.name = {given.name!r:.60} is not known")
    if "public" in METHODS[given.name].needs or data.tasks != "user":
        raise RefusedError(
            "config", f"method.name = {given.name!r} with data.tasks = {data.tasks!r}: nodes have"
            " neither a public set nor other tasks than their one user's"
        )  # fmt: skip
    for part in config.backbone.name.split("+"):
        if part.strip() not in policy.backbones:
            _refuse("backbones", "backbone.name", config.backbone.name)
    if config.run.device not in policy.devices:
        _refuse("devices", "run.device", config.run.device)
    _check_privacy(policy, config)
    if privacy.test_noise and not policy.test_noise:
        _refuse("test-noise", "privacy.test-noise", True)
    _most("max-rounds", policy.max_rounds, {"federation.rounds": config.federation.rounds})
    sizes = {"data.support": data.support, "data.query": data.query}
    _most("max-examples", policy.max_examples, sizes | {"data.min-examples": data.min_examples})
    encoder = config.backbone
    widths = {"columns": encoder.columns, "batch": encoder.batch, "max-length": encoder.max_length}
    _most("max-width", policy.max_width, {f"backbone.{key}": n for key, n in widths.items()})
    _most("max-width", policy.max_width, {"data.window": data.window, "data.way": data.way})
    _check_head(policy, config)
    for name, value in given:
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        key = f"method.{name.replace('_', '-')}"
        if isinstance(value, float):
            _most("max-rate", policy.max_rate, {key: abs(value)})
        elif name.endswith(("steps", "rounds")):
            _most("max-steps", policy.max_steps, {key: value})
        else:
            _most("max-width", policy.max_width, {key: value})
    settings = flatten(config)
    for key in PLACES:
        _check_place(policy, key, str(settings[key]))


def _check_head(policy: Policy, config: Config) -> None:
    """Every size of every head: it is made before it is held against what was sent."""
    sizes = {f"head.{key}": n for key, n in config.head.model_dump(by_alias=True).items()
             if isinstance(n, int)}  # fmt: skip
    _most("max-width", policy.max_width, sizes)
    head = config.head
    products = {
        "head.filters, twice": 9 * head.filters * max(head.filters, head.channels),
        "head.vocabulary * head.embedding": head.vocabulary * head.embedding,
        "head.width * head.feed-forward": head.width * max(head.width, head.feed_forward),
        "head.hidden, twice, of a gru": 3 * head.hidden * max(head.hidden, head.embedding)
        if head.name == "gru"
        else 0,
    }
    _most("max-parameters", policy.max_parameters, products)


def _check_privacy(policy: Policy, config: Config) -> None:
    given = config.privacy
    local = "local" if given.mechanism == "local" else "central"
    kind = KINDS.get(given.unit, local)
    if kind not in policy.units:
        _refuse("units", "privacy.unit", f"{given.unit}, {given.mechanism}")
    if kind == "off":
        return
    _most("max-clip", policy.max_clip, {"privacy.clip": given.clip})
    _most("max-delta", policy.max_delta, {"privacy.delta": given.delta})
    if given.noise_multiplier < policy.min_noise:
        _refuse("min-noise", "privacy.noise-multiplier", given.noise_multiplier)


def check_facts(policy: Policy, config: Config, facts: Facts) -> None:
    """Refuse a model that is larger than the owner allows, before it is made.

    Raises:
        RefusedError: with the rule that it breaks.
    """
    outputs = len(facts.classes) or 1
    _most("max-width", policy.max_width, {"width": facts.width, "outputs": outputs})
    _most("max-width", policy.max_width, {"domains": len(facts.domains)})
    size = config.head.hidden * (facts.width + outputs + config.head.experts)
    _most("max-parameters", policy.max_parameters, {"parameters of the head": size})


def check_order(policy: Policy, order: Order, config: Config) -> None:
    """Refuse an order that is for anybody else, or asks for more than the owner allows.

    Raises:
        RefusedError: with the rule that it breaks.
    """
    whole = [order.round, order.chunk, *order.users, *order.steps, *order.shots]
    real = [order.clip, *order.rates]
    if not all(type(one) is int and 0 <= one < MOST_ROUND for one in whole):
        raise RefusedError("order", f"numbers out of range: {whole!r:.200}")
    if not all(type(one) is float and 0 <= one <= policy.max_rate for one in real):
        _refuse("max-rate", "rates or clip", f"{real!r:.200}")
    if len(order.users) != 1:
        raise RefusedError("order", f"{len(order.users)} users; a node has one")
    trials = len(order.rates)
    if not trials == len(order.steps) == len(order.shots):
        raise RefusedError("order", "trials of different lengths")
    _most("max-trials", policy.max_trials, {"trials": trials})
    _most("max-steps", policy.max_steps, {"steps": max(order.steps, default=0)})
    _most("max-examples", policy.max_examples, {"shots": max(order.shots, default=0)})
    if config.privacy.unit == "user":
        _most("max-clip", policy.max_clip, {"clip": order.clip})


def check_size(policy: Policy, records: Sequence[ArrayRecord]) -> None:
    """Refuse parameters that are more than the owner allows, by bytes and by what they announce.

    Raises:
        RefusedError: with the rule.
    """
    arrays = [array for record in records for array in record.values()]
    held = sum(len(array.data) for array in arrays) // 4
    said = sum(prod(int(side) for side in array.shape) for array in arrays)
    _most("max-parameters", policy.max_parameters, {"numbers": max(held - 64 * len(arrays), said)})


def _check_place(policy: Policy, key: str, value: str) -> None:
    if not value or value.startswith("hf:"):
        return
    away = value.startswith(("/", "~", "\\")) or ".." in re.split(r"[/\\,+]", value)
    if not away:
        return
    place = Path(value).expanduser().resolve()
    if not any(place.is_relative_to(Path(one).expanduser().resolve()) for one in policy.paths):
        _refuse("paths", key, value)


def _most(rule: str, most: float, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        if not value <= most:
            _refuse(rule, key, value)


def _refuse(rule: str, key: str, value: object) -> None:
    raise RefusedError("policy", f"{key} = {value!r:.100} breaks {rule} of the policy", rule)
