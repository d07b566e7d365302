"""Who takes part in a round, in the two ways that an accountant knows.

By chance, each user for himself and in secret, so that a round costs less than it would (Poisson);
or in turn, so that nobody comes back before all others have been there. A sample of fixed size is
neither: who is drawn then depends on who else there is.
"""

import numpy as np
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.event import Privacy

Users = NDArray[np.int64]


def cohort(
    privacy: Privacy,
    users: Users,
    identities: NDArray[np.uint64],
    round_number: int,
    seed: int,
    chance: Chance,
) -> Users:
    """The users of a round.

    Args:
        privacy: with ``unit = user``.
        users: training users, ``(N,)``.
        identities: their stable identities, ``(N,)``.
        round_number: of the run, from 1.
        seed: of the order in which users take their turn, which is public.
        chance: draws those who come by chance.
    """
    if privacy.poisson:
        return users[chance.coins(identities, privacy.sampling_rate, ("cohort", round_number))]
    stream = seeding.key(seed, "turn")
    score = seeding.scores(stream, identities, np.zeros(len(users), dtype=np.int64))
    order = users[np.argsort(score, kind="stable")]
    if not len(order):
        return order
    begin = (round_number - 1) * privacy.cohort
    turn: Users = order[(begin + np.arange(privacy.cohort)) % len(order)]
    return turn
