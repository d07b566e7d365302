"""What leaves the trusted sum: noise once, a public denominator, whoever came or failed.

A round is released even if nobody was drawn or everybody failed: its noise is part of the
mechanism, and a round left out would tell that there was nothing to hide.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.privacy.banded import correlated
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.clip import BELOW, Clip
from fedmeta.privacy.event import Privacy
from fedmeta.seeding import Part
from fedmeta.types import Params

CLIP = "clip"
"""Name of a clip that adapts in what a mechanism carries from round to round."""

PACE = 0.2
"""How fast the logarithm of an adaptive clip moves (Andrew et al. 2021)."""


class Released(NamedTuple):
    """What a round gives.

    Attributes:
        mean: the noised sum over the public denominator, float64.
        carried: what the mechanism takes on to the next round.
    """

    mean: dict[str, Tensor]
    carried: dict[str, Tensor]


def clip_of(privacy: Privacy, carried: Params) -> Clip | None:
    """The bound on users' contributions in the next round; None: there is none."""
    if not privacy.guards_users:
        return None
    norm = float(carried[CLIP]) if CLIP in carried else privacy.clip
    return Clip(norm, privacy.quantile > 0)


def release(
    privacy: Privacy,
    meta: Params,
    sends: Callable[[str], bool],
    total: Params,
    carried: Params,
    round_number: int,
    chance: Chance,
) -> Released:
    """The mean of a round.

    Args:
        privacy: with ``unit = user``.
        meta: the server's parameters, which give the shapes.
        sends: which of them users send.
        total: the sum of clipped contributions; empty or without a name where nobody sent it.
        carried: what the round before left.
        round_number: of the run, from 1.
        chance: where the noise comes from.

    Raises:
        ValueError: a sum of something that is not covered by the clip.
    """
    names = sorted(name for name in meta if sends(name))
    if strange := set(total) - {*names, BELOW}:
        raise ValueError(
            f"users sent {', '.join(sorted(strange))}, which no noise is made for; the method"
            " cannot be run with privacy.unit = 'user'"
        )
    clip = clip_of(privacy, carried)
    scale = privacy.noise * (clip.norm if clip else 0.0)
    kept: dict[str, Tensor] = {}
    mean: dict[str, Tensor] = {}
    for name in names:
        zero = torch.zeros(meta[name].shape, dtype=torch.float64)
        total_64 = total.get(name, zero).double().cpu()
        if privacy.mechanism != "local":  # there users have noised their contributions themselves
            row = chance.normal(tuple(zero.shape), (round_number, name))
            past = [carried[n] for n in _past(name, privacy.bands) if n in carried]
            row = correlated(row, past, privacy.bands)
            total_64 = total_64 + scale * row
            kept |= dict(zip(_past(name, privacy.bands), [row, *past], strict=False))
        mean[name] = (total_64 / privacy.expected).to(meta[name].device)
    if clip and clip.counts:
        below = total.get(BELOW, torch.zeros((), dtype=torch.float64)).double().cpu()
        noised = below + privacy.count_noise * chance.normal((), (round_number, BELOW))
        share = float(noised) / privacy.expected + 0.5
        moved = clip.norm * math.exp(-PACE * (share - privacy.quantile))
        kept[CLIP] = torch.tensor(moved, dtype=torch.float64)
    return Released(mean, kept)


def own_noise(
    privacy: Privacy,
    meta: Params,
    sends: Callable[[str], bool],
    identities: Sequence[Part],
    round_number: int,
    chance: Chance,
) -> dict[str, Tensor]:
    """The sum of the noises that users add to their own contributions, failed ones too.

    Args:
        privacy: with ``mechanism = local``.
        meta: the server's parameters.
        sends: which of them users send.
        identities: of the users.
        round_number: of the run.
        chance: where the noise comes from; every user has a path of his own.
    """
    scale = privacy.noise * privacy.clip
    return {
        name: scale
        * torch.stack(
            [
                chance.normal(tuple(meta[name].shape), ("local", user, round_number, name))
                for user in identities
            ]
        ).sum(0)
        for name in sorted(meta)
        if sends(name)
    }


def _past(name: str, bands: int) -> list[str]:
    """Names of the rows of noise that are carried, the latest first."""
    return [f"past/{back}/{name}" for back in range(1, bands)]
