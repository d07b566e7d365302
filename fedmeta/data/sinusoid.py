"""Sines: the regression on which MAML was shown first (Finn et al. 2017, section 5.1)."""

import numpy as np

from fedmeta.data.raw import Raw
from fedmeta.sections.data import DataConfig
from fedmeta.seeding import generator

AMPLITUDES, PHASES, REACH = (0.1, 5.0), (0.0, np.pi), 5.0


def sinusoid(config: DataConfig) -> Raw:
    """``data.users`` users, each with points of ``a sin(x - p)``, x in -5 to 5.

    Amplitude and phase are uniform, in 0.1 to 5 and in 0 to pi; the points are the support and the
    query together. What the best possible error is: 0, there is no noise.
    """
    rng = generator(config.seed, "sinusoid")
    users, each = config.users, config.support + config.query
    amplitude = rng.uniform(*AMPLITUDES, size=(users, 1))
    phase = rng.uniform(*PHASES, size=(users, 1))
    x = rng.uniform(-REACH, REACH, size=(users, each))
    width = len(str(users - 1))
    return Raw(
        name="sinusoid",
        ids=tuple(f"u{number:0{width}d}" for number in range(users)),
        user=np.repeat(np.arange(users, dtype=np.int64), each),
        items=x.reshape(-1, 1).astype(np.float32),
        item=np.arange(users * each, dtype=np.int64),
        label=(amplitude * np.sin(x - phase)).ravel(),
        columns=("x",),
    )
