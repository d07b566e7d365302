"""Generated users with private tastes in messages: the default data of the tool.

The model. A message has four attributes (topic, tone, urgency, sender). A taste gives each
value of each attribute a weight: the attributes' strengths are Dirichlet(1/2), so that one or
two dominate, times balanced signs (+1 and -1; a middle value 0) with normal jitter of 0.3. A
user's weights are ``sqrt(1 - h) * shared + sqrt(h) * private`` with h = ``heterogeneity``; the
score of a message is the sum over its attributes. The user wants (label 1) the messages above
the threshold that divides the pool most nearly in half; each label is then flipped with
probability ``label_noise``. So h is how much users differ in what a message means to them. They can
also differ in how often they want: the share wanted is uniform between ``0.5 - 0.45 p`` and
``0.5 + 0.45 p``, p = ``prior_heterogeneity``. And in what they see: a message is of the
user's own topic with probability f = ``feature_heterogeneity`` and else of any; what he thinks of
it stays the same. Tastes are symmetric in sign, so at h = 1 nothing can be predicted without labels
of the user. With ``domains`` above 1 the users fall into groups at random, and one
more taste, the group's, is added to those of its users.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.domains import without_domains
from fedmeta.data.messages import ATTRIBUTES, CELLS, Pool, pool
from fedmeta.data.raw import DataError, Raw
from fedmeta.sections.data import DataConfig
from fedmeta.seeding import Part, generator, keys

JITTER = 0.3
SPREAD = 0.45
"""How far from one half the share that a user wants can be, where users differ most."""
CONCENTRATION = (0.5,) * len(ATTRIBUTES)
Draw = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""A taste before it is put together: strengths ``(4,)``, uniform and normal numbers ``(15,)``."""


def preferences(config: DataConfig) -> Raw:
    """``data.users`` users, each with labels for messages drawn without repetition.

    A user has ``examples * exp(examples_spread * normal)`` examples. Taste and examples are
    streams of the user's own: adding users changes neither, and ``heterogeneity`` changes the
    labels but not the messages that a user sees.

    Raises:
        DataError: a pool too small for the support set, or larger than the phrases can make.
    """
    least = max(config.support + 1, config.min_examples)
    if config.messages < least:
        raise DataError(
            f"data.messages = {config.messages}: a user needs {least} different messages "
            "(data.support + 1, or data.min-examples); raise it or lower data.support"
        )
    messages = pool(config.messages, config.seed)
    ids = tuple(f"u{number:05d}" for number in range(config.users))
    # The probability of label 1 for each user and combination of attributes, (U, 144).
    mass = np.bincount(messages.cell, minlength=len(CELLS)) / config.messages
    wanted = wanted_cells(tastes(ids, config), mass, _shares(ids, config))
    chance = np.where(wanted, 1 - config.label_noise, config.label_noise)

    drawn = [_draw(name, least, messages, config) for name in ids]
    user = np.repeat(np.arange(len(ids), dtype=np.int64), [len(items) for items, _ in drawn])
    item = np.concatenate([items for items, _ in drawn])
    uniform = np.concatenate([luck for _, luck in drawn])
    # A flip is decided by the user's luck alone, whatever the label.
    label = wanted[user, messages.cell[item]] ^ (uniform < config.label_noise)
    raw = Raw(
        name="preferences",
        ids=ids,
        user=user,
        items=messages.texts,
        item=item,
        label=label.astype(np.int64),
        fold=messages.fold[item],
        bayes=np.maximum(chance, 1 - chance) @ mass,
    )
    return _with_domains(raw, messages, config)


def _with_domains(raw: Raw, messages: Pool, config: DataConfig) -> Raw:
    """The columns with the users' groups as domains, or with an attribute of the messages."""
    column, attributes = config.domain_column, tuple(ATTRIBUTES)
    if not column:
        if config.domains == 1:
            return raw
        names = tuple(f"group {number}" for number in range(config.domains))
        return raw._replace(domain=groups(raw.ids, config)[raw.user], domains=names)
    if column not in attributes:
        raise without_domains(raw, column, attributes)
    if config.domains > 1:
        raise DataError(
            f"preferences: data.domain-column = {column!r} and data.domains = {config.domains}:"
            " an example has one domain; leave out one of the two"
        )
    at = attributes.index(column)
    value = CELLS[messages.cell[raw.item], at].astype(np.int64)
    return raw._replace(domain=value, domains=ATTRIBUTES[column])


def groups(ids: tuple[str, ...], config: DataConfig) -> NDArray[np.int64]:
    """The group of each user, by a hash of his id alone, ``(U,)``."""
    found = keys(ids, config.seed, "group") % np.uint64(config.domains)
    return found.astype(np.int64)


def tastes(ids: tuple[str, ...], config: DataConfig) -> NDArray[np.float64]:
    """Scores of the 144 combinations of attributes for each user, ``(U, 144)``."""
    shared = _weights([_taste(config.seed, "shared-taste")])
    private = _weights([_taste(config.seed, "taste", name) for name in ids])
    h = config.heterogeneity
    weights = np.sqrt(1 - h) * shared + np.sqrt(h) * private
    if config.domains > 1:
        shifts = _weights([_taste(config.seed, "shift", n) for n in range(config.domains)])
        weights = weights + shifts[groups(ids, config)]
    first = np.cumsum([0, *(len(values) for values in ATTRIBUTES.values())])[:-1]
    scores = np.zeros((len(ids), len(CELLS)))
    for attribute, start in enumerate(first):  # in a fixed order: sums equal to the last bit
        scores += weights[:, start + CELLS[:, attribute]]
    return scores


def wanted_cells(
    scores: NDArray[np.float64], mass: NDArray[np.float64], share: NDArray[np.float64] | float = 0.5
) -> NDArray[np.bool_]:
    """Which combinations each user wants, bool ``(U, cells)``: those above the threshold.

    The threshold lies in the gap between neighbouring scores that leaves most nearly the wanted
    ``share`` (for all or for each, ``(U, 1)``) of the pool above it (``mass`` is its share of each
    combination); the first such gap from below. So no message scores exactly the threshold.

    >>> wanted_cells(np.array([[3.0, 1.0, 2.0]]), np.array([0.25, 0.25, 0.5]))
    array([[ True, False,  True]])
    """
    order = np.argsort(scores, axis=1, kind="stable")
    below = np.round(np.cumsum(mass[order], axis=1), 12)  # of each candidate: up to and with it
    cut = np.argmin(np.abs(below[:, :-1] - (1 - share)), axis=1)
    highest = np.take_along_axis(scores, np.take_along_axis(order, cut[:, None], 1), 1)
    return scores > highest


def _weights(draws: Sequence[Draw]) -> NDArray[np.float64]:
    """Weights of all values of all attributes, one attribute after the other, ``(U, 15)``."""
    strengths, uniform, normal = (np.stack(part) for part in zip(*draws, strict=True))
    parts, start = [], 0
    for attribute, values in enumerate(ATTRIBUTES.values()):
        columns = slice(start, start := start + len(values))
        rank = uniform[:, columns].argsort(axis=1, kind="stable")
        signs = np.sign(np.linspace(-1, 1, len(values)))[rank]  # a random permutation for each
        parts.append(strengths[:, [attribute]] * (signs + JITTER * normal[:, columns]))
    return np.concatenate(parts, axis=1)


def _taste(*path: Part) -> Draw:
    rng = generator(*path)
    values = sum(len(values) for values in ATTRIBUTES.values())
    return rng.dirichlet(CONCENTRATION), rng.random(values), rng.standard_normal(values)


def _shares(ids: tuple[str, ...], config: DataConfig) -> NDArray[np.float64]:
    """The share of the pool that each user wants, ``(U, 1)``."""
    if not config.prior_heterogeneity:
        return np.full((len(ids), 1), 0.5)
    uniform = np.array([[generator(config.seed, "prior", name).random()] for name in ids])
    return 0.5 + SPREAD * config.prior_heterogeneity * (2 * uniform - 1)


def _draw(
    name: str, least: int, messages: Pool, config: DataConfig
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Items of a user, without repetition, and a uniform number for each."""
    rng = generator(config.seed, "examples", name)
    size = config.examples * np.exp(config.examples_spread * rng.standard_normal())
    count = int(min(max(np.round(size), least), config.messages))
    if config.feature_heterogeneity:
        topics, other = len(ATTRIBUTES["topic"]), 1 - config.feature_heterogeneity
        mine = CELLS[messages.cell, 0] == rng.integers(topics)
        reach = np.where(mine, other + topics * config.feature_heterogeneity, other)
        # The count smallest exponential times are a weighted sample without repetition (Efraimidis
        # and Spirakis 2006); what never arrives comes last, for pools that are too small otherwise.
        with np.errstate(divide="ignore"):
            time = rng.exponential(size=config.messages) / reach
        items = np.lexsort((rng.random(config.messages), time))[:count]
    else:
        items = rng.choice(config.messages, size=count, replace=False)
    return items.astype(np.int64), rng.random(count)
