"""What malicious users do. Nothing of it is in the code that honest users run.

Attacks on data change the attackers' own examples before the honest code runs on them. Attacks
on updates replace what leaves them: the colluders of a round know what all of them would have
sent, but nothing of the honest users.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]

FLIP, SCALE, BOOST, NOISE, HUGE = 10.0, 100.0, 10.0, 10.0, 1e30
LEAST_Z = 1.5
"""Least deviation of ALIE: where few attack, the published one is 0 and no attack at all."""


class Attack(NamedTuple):
    """One kind of attack.

    Attributes:
        does: what attackers do, in words.
        source: the paper, or "" for folklore.
        data: what is done to their examples; "" for nothing.
        sends: ``(what all colluders of the round would send (m, d), users of the round, random
            numbers) -> what they send (m, d)``; None: just that.
    """

    does: str
    source: str = ""
    data: Literal["", "flip", "trigger"] = ""
    sends: Callable[[Rows, int, np.random.Generator], Rows] | None = None


def deviation(users: int, colluders: int) -> float:
    """How many standard deviations ALIE may go, z_max of algorithm 3; at least `LEAST_Z`.

    >>> deviation(10, 2), round(deviation(50, 24), 2)
    (1.5, 1.75)
    """
    needed = users // 2 + 1 - colluders
    share = (users - colluders - needed) / max(users - colluders, 1)
    return max(NormalDist().inv_cdf(share), LEAST_Z) if 0.0 < share < 1.0 else LEAST_Z


def _alie(rows: Rows, users: int, random: np.random.Generator) -> Rows:
    spread = rows.std(0, ddof=1) if len(rows) > 1 else np.abs(rows[0])
    sent = rows.mean(0) - deviation(users, len(rows)) * spread
    return np.repeat(sent[None], len(rows), axis=0)


def _random(rows: Rows, users: int, random: np.random.Generator) -> Rows:
    noise = random.standard_normal(rows.shape)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    sent: Rows = NOISE * length * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return sent


ATTACKS: dict[str, Attack] = {
    "none": Attack("nothing"),
    "sign-flip": Attack(f"send -{FLIP:g} times their update", sends=lambda r, n, g: -FLIP * r),
    "scaling": Attack(f"send {SCALE:g} times their update", sends=lambda r, n, g: SCALE * r),
    "random": Attack(f"send noise {NOISE:g} times as long as their update", sends=_random),
    "zero": Attack("send zeros", sends=lambda r, n, g: np.zeros_like(r)),
    "huge": Attack("send 1e30 everywhere", sends=lambda r, n, g: np.full_like(r, HUGE)),
    "alie": Attack(
        "all send their mean less a few standard deviations", "Baruch et al. 2019", "", _alie
    ),
    "label-flip": Attack("turn their labels round", data="flip"),
    "backdoor": Attack(
        "put a phrase into half of their messages and label these alike",
        "BadNets, Gu et al. 2017",
        "trigger",
    ),
    "boosted-backdoor": Attack(
        f"the same, and send {BOOST:g} times their update",
        "Bagdasaryan et al. 2020",
        "trigger",
        lambda r, n, g: BOOST * r,
    ),
}
"""Every attack of the command, the first being none."""
