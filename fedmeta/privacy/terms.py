"""The public constants of DP-SGD on the client, the same for every user, whatever his data.

A record's chance to be in a step, the number that sums are divided by, clip, noise and number of
steps come from the config alone. An engine that took them from the data would tell with its noise
how many records a user has.
"""

from typing import NamedTuple

from fedmeta.config import Config
from fedmeta.methods import Method


class Terms(NamedTuple):
    """On what terms the records of a user are met in one round.

    Attributes:
        rate: chance of a record of the support to be in an inner step (Poisson sampling).
        steps: inner steps.
        divisor: what the noised sum of an inner step is divided by.
        query_divisor: what that of the outer gradient is divided by, in which every record of the
            query is; None: the method has no query.
        share: chance of a record to be for the support; 1 where there is no query.
        fixed: whether a record is for the same set in every round.
        clip: largest norm of a record's gradient.
        multiplier: standard deviation of the noise over the clip.
    """

    rate: float
    steps: int
    divisor: float
    query_divisor: float | None
    share: float
    fixed: bool
    clip: float
    multiplier: float


def terms(config: Config, method: Method) -> Terms:
    """The terms of a config, which need not be resolved."""
    given, data = config.privacy, config.data
    expected = given.expected_batch or (given.sampling_rate or 1.0) * shots(config, method)
    return Terms(
        rate=given.sampling_rate or expected / shots(config, method),
        steps=config.method.steps or method.defaults.steps,
        divisor=float(expected),
        query_divisor=float(data.query) if method.splits else None,
        share=data.support / (data.support + data.query) if method.splits else 1.0,
        fixed=given.split == "fixed" or data.tasks == "episodic",
        clip=given.clip,
        multiplier=given.noise_multiplier,
    )


def shots(config: Config, method: Method) -> int:
    """Records that a user is taken to have in his inner loop: a public number, not his own."""
    return config.data.support + (0 if method.splits else config.data.query)
