"""A clip that adapts goes to the norm that it is asked for, whatever it starts from."""

import math

import pytest
import torch

from fedmeta.config import parse
from fedmeta.privacy.chance import seeded
from fedmeta.privacy.clip import BELOW, clipped
from fedmeta.privacy.plan import plan
from fedmeta.privacy.release import clip_of, release
from fedmeta.types import Params

USERS, ROUNDS = 200, 240


@pytest.mark.parametrize("start", [0.01, 30.0])
@pytest.mark.parametrize("quantile", [0.25, 0.75])
def test_the_clip_follows_the_quantile(quantile: float, start: float) -> None:
    """Users whose norms are log-normal; the share that is released is noised (sigma 10 of 200)."""
    values = {"privacy.unit": "user", "privacy.noise-multiplier": 1.0, "privacy.clip": start}
    given = parse(
        values | {"privacy.adaptive-quantile": quantile, "federation.users-per-round": USERS}
    )
    privacy = plan(given, USERS)
    assert privacy.count_noise == 10.0
    norms = torch.randn(USERS, 1, generator=torch.Generator().manual_seed(2)).exp()
    meta, chance = {"w": torch.zeros(1)}, seeded(5)
    carried: Params = {}
    norms_of_rounds = []
    for number in range(1, ROUNDS + 1):
        clip = clip_of(privacy, carried)
        assert clip is not None
        sent = clipped({"w": norms}, clip)
        total = {name: value.sum(0).double() for name, value in sent.items()}
        carried = release(privacy, meta, lambda name: True, total, carried, number, chance).carried
        norms_of_rounds.append(clip.norm)
    assert norms_of_rounds[0] == start
    # The first step is Andrew et al.'s, with all or none of the users below the clip.
    step = math.log(norms_of_rounds[1] / start)
    assert step == pytest.approx(-0.2 * (float(start > 1) - quantile), abs=0.05)
    last = math.exp(sum(map(math.log, norms_of_rounds[-30:])) / 30)
    share = float((norms <= last).float().mean())
    assert share == pytest.approx(quantile, abs=0.05)
    assert BELOW not in meta
