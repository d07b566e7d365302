"""A pool of distinct short messages, each composed from four latent attributes."""

import itertools
import re
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.phrases import (
    CLOSERS,
    CORES,
    OPENERS,
    SENDERS,
    TONES,
    TOPICS,
    URGENCIES,
    WHEN,
)
from fedmeta.data.raw import DataError
from fedmeta.seeding import generator

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "topic": TOPICS,
    "tone": TONES,
    "urgency": URGENCIES,
    "sender": SENDERS,
}
CELLS = np.array(list(itertools.product(*(range(len(v)) for v in ATTRIBUTES.values()))))
"""Values of the four attributes in each of the 144 combinations, ``(144, 4)``."""


class Pool(NamedTuple):
    """Messages: texts ``M``, cell of each (a row of `CELLS`), item fold of each (0 to 4)."""

    texts: tuple[str, ...]
    cell: NDArray[np.int64]
    fold: NDArray[np.int64]


def pool(messages: int, seed: int) -> Pool:
    """``messages`` distinct texts, as many (but one) of each combination of attributes.

    It depends on its arguments only, and a smaller pool of a seed begins a larger one.

    Raises:
        DataError: more messages than the phrases can make.
    """
    variants = [_variants(c) for c in range(len(CELLS))]
    most = len(CELLS) * min(len(texts) for texts in variants)
    if messages > most:
        raise DataError(f"data.messages = {messages}: the phrases make at most {most} messages")
    sequence = generator(seed, "pool-cells").permutation(len(CELLS))
    orders = [
        generator(seed, "pool-variants", c).permutation(len(texts))
        for c, texts in enumerate(variants)
    ]
    cell = sequence[np.arange(messages) % len(CELLS)]
    texts = tuple(variants[c][orders[c][i // len(CELLS)]] for i, c in enumerate(cell.tolist()))
    fold = generator(seed, "pool-folds").integers(0, 5, size=messages)
    return Pool(texts, cell.astype(np.int64), fold.astype(np.int64))


@cache
def _variants(cell: int) -> tuple[str, ...]:
    topic, tone, urgency, sender = (
        values[index] for values, index in zip(ATTRIBUTES.values(), CELLS[cell], strict=True)
    )
    cores = [core for template in CORES[sender, topic] for core in expand(template)]
    parts = itertools.product(OPENERS[sender, tone], cores, WHEN[urgency], CLOSERS[tone])
    return tuple(_join(*part) for part in parts)


def expand(template: str) -> list[str]:
    """A template with each of its alternatives.

    >>> expand("buy {coffee|tea} please")
    ['buy coffee please', 'buy tea please']
    """
    found = re.search(r"\{(.*?)\}", template)
    if not found:
        return [template]
    before, after = template[: found.start()], template[found.end() :]
    return [before + choice + after for choice in found.group(1).split("|")]


def _join(opener: str, core: str, when: str, closer: str) -> str:
    core = core if opener.endswith(":") else core[0].upper() + core[1:]
    return f"{opener} {core}. {when} {closer}"
