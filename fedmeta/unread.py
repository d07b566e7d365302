"""Settings that were given and that nobody reads: each would promise what does not happen."""

import re
from collections.abc import Sequence

from fedmeta.config import Config, ConfigError, Scalar
from fedmeta.methods import METHODS
from fedmeta.problem import resolve
from fedmeta.sections.method import MethodConfig

LEARNED = "adapt_rate"
"""What a method that learns its rates does not read."""
WITH = {"difference": "hessian_free"}
"""Settings that count only where another one is on."""


def owners(description: str) -> list[str]:
    """The methods that a setting is of, which its description begins with; none: of all.

    >>> owners("`fedrep`, `fedrecon`: steps of the output layer")
    ['fedrep', 'fedrecon']
    >>> owners("inner minibatch; 0: full batch")
    []
    """
    found = re.match(r"((?:`[\w-]+`(?:, )?)+): ", description)
    return re.findall(r"`([\w-]+)`", found[1]) if found else []


def reads(name: str, field: str, settings: MethodConfig) -> bool:
    """Whether a method reads a setting of the section `method`."""
    mine = owners(MethodConfig.model_fields[field].description or "")
    if mine:
        return name in mine
    if name == "maml-pp" and field == LEARNED:
        return not settings.learned_rates
    return field not in METHODS[name].ignores


def given(config: Config, task: str) -> dict[str, Scalar]:
    """Fields of the section `method` that are not what they would be if they were left open.

    So what a resolved config holds counts as left open, and so does a default that was spelt out.

    Args:
        config: resolved or not; its method is known.
        task: `classification` or `regression`.
    """
    found = {}
    for name, info in MethodConfig.model_fields.items():
        value = getattr(config.method, name)
        if name == "name" or value == info.default:
            continue
        left_open = config.method.model_copy(update={name: info.default})
        usual = resolve(config.model_copy(update={"method": left_open}), task).method
        if value != getattr(usual, name):
            found[name] = value
    return found


def check(config: Config, methods: Sequence[str], task: str) -> dict[str, list[str]]:
    """Refuse settings that none of the methods reads.

    Args:
        config: as it was given.
        methods: those that are run with it.
        task: `classification` or `regression`.

    Returns:
        Of the settings that some read and some do not, by key: those that do.

    Raises:
        ConfigError: a setting that none reads, and who would.
    """
    shared: dict[str, list[str]] = {}
    for field, value in given(config, task).items():
        key = f"method.{field.replace('_', '-')}"
        if field in WITH and not getattr(config.method, WITH[field]):
            other = f"method.{WITH[field].replace('_', '-')}"
            raise ConfigError(f"{key} = {value!r} counts only with {other} = true: set it too")
        able = [name for name in METHODS if reads(name, field, config.method)]
        mine = [name for name in methods if name in able]
        if not mine:
            who = ", ".join(methods)
            raise ConfigError(
                f"{key} = {value!r}: method.name = {who!r} does not read it; leave it out, or use"
                f" a method that does: {', '.join(able[:6])}{' ...' if len(able) > 6 else ''}"
            )
        if len(mine) < len(methods):
            shared[key] = mine
    return shared
