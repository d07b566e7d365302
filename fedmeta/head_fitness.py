"""Which heads fit data, backbone and method, and what `head.adapt` names; the remedy where not."""

from fedmeta.config import Config, ConfigError
from fedmeta.heads import HEADS, MADE, TAKES, Head
from fedmeta.methods import METHODS, Method
from fedmeta.methods.method import INNER_LOOP
from fedmeta.params import matched
from fedmeta.population import Population
from fedmeta.types import Params

WORDS = ("auto", "head", "all")
"""What `head.adapt` can be beside patterns."""


def check_kind(method: Method, population: Population, config: Config) -> None:
    """Refuse a head that does not take what the backbone gives, before it is made.

    Raises:
        ConfigError: what does not fit, and what would.
    """
    name, store, tokens = config.head.name, population.store, population.tokens
    takes = TAKES.get(name, "vector")
    if tokens > 1 and takes != "tokens":
        fitting = ", ".join(head for head, what in TAKES.items() if what == "tokens")
        raise ConfigError(
            f"head.name = {name!r} takes one vector for each example, and backbone.output ="
            f" {config.backbone.output!r} gives up to {tokens}; use backbone.output = 'mean', or"
            f" head.name = {fitting!r}"
        )
    if takes == "numbers" and store.modality == "text":
        raise ConfigError(
            f"head.name = {name!r} is a whole model of"
            f" {'images' if name == 'conv4' else 'windows of characters'}, and the items of"
            f" {store.name!r} are texts; use head.name = 'mlp'"
            + ("" if name == "conv4" else ", or cut them into windows with data.window = 80")
        )
    makers = [one.name for one in METHODS.values() if one.makes == name]
    if name in MADE and method.name not in makers:
        raise ConfigError(
            f"head.name = {name!r} has no output layer to descend on: it is made of each user's"
            f" support set, which method.name = {method.name!r} does not do; use method.name ="
            f" {makers[0]!r}"
            + (f" (or {', '.join(makers[1:])})" if makers[1:] else "")
            + ", or head.name = 'mlp'"
        )
    slow = TAKES.get(name) == "ids"
    if slow and (config.privacy.unit == "example" or method.name in ("knn-per", "fedmd")):
        why = "example-level privacy" if config.privacy.unit == "example" else repr(method.name)
        raise ConfigError(
            f"head.name = {name!r} has the encoder in the loop, which {why} does not go with; use"
            " a head over cached features: " + ", ".join(n for n in HEADS if n not in TAKES)
        )


def moves(method: Method, head: Head, start: Params, config: Config) -> frozenset[str] | None:
    """The names of the parameters that the inner loop may move; None: all that the method moves.

    Raises:
        ConfigError: a pattern that no parameter fits, or a method whose inner loop has no parts.
    """
    wanted = config.head.adapt
    if wanted in ("auto", "all") or (wanted == "head" and not head.body):
        return None
    key = f"head.adapt = {wanted!r}"
    if wanted == "head":
        found = frozenset(name for name in start if not name.startswith(head.body))
    else:
        found = matched(start, wanted)
    if not found:
        raise ConfigError(
            f"{key} fits no parameter of head.name = {config.head.name!r}; it has"
            f" {_named(start)}: use a pattern such as 'output.*', or one of {', '.join(WORDS)}"
        )
    if not method.moves or method.ignores >= INNER_LOOP:
        why = (
            "has no inner loop" if method.ignores >= INNER_LOOP else "is defined for all parameters"
        )
        raise ConfigError(
            f"{key}: method.name = {method.name!r} {why}; leave it at 'auto', or use a method such"
            " as maml, fomaml or reptile"
        )
    if method.block is not None and not any(method.block(name) for name in found):
        able = [name for name in start if method.block(name)]
        raise ConfigError(
            f"{key}: method.name = {method.name!r} moves {', '.join(able[:4])} alone, so that"
            " nothing would move; leave it at 'auto', or use maml"
        )
    if config.privacy.unit == "example":
        raise ConfigError(
            f"{key} with privacy.unit = 'example': noise would be spent on what does not move; use"
            " head.adapt = 'auto', with a method such as anil"
        )
    return None if found == frozenset(start) else found


def _named(start: Params) -> str:
    names = list(start)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
