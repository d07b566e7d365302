"""What a frontier is to run: the ``[frontier]`` table of a config, or flags."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedmeta.config import ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy.plan import MECHANISMS

FILE = "plan.json"
NAMED = tuple("/".join(pair) for pair in MECHANISMS)
"""Unit and mechanism as this command names them."""
LEAST = 20
"""Fewer canaries show nothing."""
ALWAYS = ("local", "fedavg")
"""What costs no privacy at all, and one model for all: gains are over these."""


class Asked(NamedTuple):
    """The axes of a frontier.

    Attributes:
        methods: those that are always shown first.
        mechanisms: out of :data:`NAMED`.
        epsilons: finite ones, falling; infinity, the run without privacy, is always there.
        seeds: number of seeds, from `run.seed` on.
        canaries: of an audit of each mechanism at each epsilon; 0: none.
    """

    methods: tuple[str, ...] = ("local", "fedavg", "fedavg-ft", "reptile", "fomaml")
    mechanisms: tuple[str, ...] = ("user/gaussian", "example/gaussian")
    epsilons: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0, 0.5)
    seeds: int = 1
    canaries: int = 1000


def asked_for(table: Mapping[str, Any], **flags: Any) -> Asked:
    """The axes, checked: a table's values, and over them those of flags that are given.

    Args:
        table: lists `methods`, `mechanisms`, `epsilons`, and numbers `seeds` and `canaries`.
        flags: the same; None or empty: not given. Texts are lists with commas.

    Raises:
        ConfigError: an unknown key or name, an epsilon that is none, no seed.
    """
    if unknown := [key for key in table if key not in Asked._fields]:
        raise ConfigError(f"frontier.{unknown[0]}: expected one of {', '.join(Asked._fields)}")
    given = dict(table) | {key: value for key, value in flags.items() if value not in (None, "")}
    usual = Asked()
    methods = _listed("methods", given.get("methods", usual.methods))
    mechanisms = _listed("mechanisms", given.get("mechanisms", usual.mechanisms))
    for key, names, known in (("methods", methods, METHODS), ("mechanisms", mechanisms, NAMED)):
        wrong = [name for name in names if name not in known]
        if wrong or not names:
            raise ConfigError(
                f"frontier.{key} = {', '.join(map(str, wrong or names))!r}: expected some of"
                f" {', '.join(known)}"
            )
    seeds = given.get("seeds", usual.seeds)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"frontier.seeds = {seeds!r}: expected a whole number of 1 or more")
    count = given.get("canaries", usual.canaries)
    if isinstance(count, bool) or not isinstance(count, int) or (count and count < LEAST):
        raise ConfigError(
            f"frontier.canaries = {count!r}: expected {LEAST} or more, 1000 for example, or 0 for"
            " no audit"
        )
    epsilons = {_epsilon(one) for one in _listed("epsilons", given.get("epsilons", usual.epsilons))}
    finite = sorted(epsilons - {math.inf}, reverse=True)
    if not finite:
        raise ConfigError("frontier.epsilons: expected at least one finite one, as in 1,2,4,8")
    named = tuple(dict.fromkeys([*ALWAYS, *methods]))
    return Asked(named, tuple(mechanisms), tuple(finite), seeds, count)


def _listed(key: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"frontier.{key} = {value!r}: expected a list")
    return list(dict.fromkeys(value))


def _epsilon(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number > 0:
        raise ConfigError(
            f"frontier.epsilons: {value!r} is none; expected numbers above 0, or infinity"
        )
    return number


def label(epsilon: float) -> str:
    """An epsilon in tables, files and names of folders.

    >>> label(0.5), label(8.0), label(math.inf)
    ('0.5', '8', 'infinity')
    """
    return "infinity" if math.isinf(epsilon) else f"{epsilon:.10g}"


def left(folder: Path) -> dict[str, Any]:
    """The axes of a frontier that was left, as a table.

    Raises:
        ConfigError: no frontier was begun in the folder.
    """
    try:
        table: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {key: table[key] for key in Asked._fields if key in table or key != "canaries"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--resume {str(folder)!r}: {FILE} cannot be read ({error}); expected the folder of a"
            " frontier"
        ) from None


def same(before: Mapping[str, Any], asked: Asked, folder: Path) -> None:
    """Refuse to go on with fewer or other axes than a frontier was begun with.

    More are fine: cells that are there stay, the others are run.
    """
    for key in ("methods", "mechanisms", "epsilons"):
        gone: Sequence[Any] = [one for one in before[key] if one not in getattr(asked, key)]
        if gone:
            raise ConfigError(
                f"--resume {str(folder)!r}: {key} {', '.join(map(str, gone))} were asked for when"
                " it was begun; ask for them again, or take another --out"
            )
