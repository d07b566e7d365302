"""Bugs to plant in the code that clips, noises and counts, as they would be made in it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.audit import world
from fedmeta import cohort
from fedmeta.privacy import clipping, example, noisy, rounds
from fedmeta.privacy import release as releasing
from fedmeta.privacy.event import Privacy

Plant = Callable[[pytest.MonkeyPatch], None]


def weaker(factor: float) -> Plant:
    """The noise, whoever adds it, times a number."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        true_release, true_init = releasing.release, noisy.Noisy.__init__

        def release(privacy: Privacy, *rest: Any) -> Any:
            return true_release(replace(privacy, noise=factor * privacy.noise), *rest)

        def init(self: Any, *args: Any) -> None:
            true_init(self, *args)
            self.multiplier *= factor

        patch.setattr(rounds, "release", release)
        patch.setattr(noisy.Noisy, "__init__", init)

    return plant


def unclipped(patch: pytest.MonkeyPatch) -> None:
    """Nothing is clipped."""
    patch.setattr(cohort, "clipped", lambda leaves, clip, dual=None: dict(leaves))
    true = clipping.by_factors

    def free(model: Any, params: Any, examples: Any, clip: float, *rest: Any) -> Any:
        return true(model, params, examples, 1e9, *rest)

    true_meet = example.meet

    def meet(problem: Any, theta: Any, users: Any, number: int, way: Any, chance: Any) -> Any:
        return true_meet(problem, theta, users, number, free, chance)

    patch.setattr(example, "meet", meet)


def noised_then_clipped(patch: pytest.MonkeyPatch) -> None:
    """The noised sum is clipped, and what it is a sum of is not."""
    unclipped(patch)
    true_mean, true_noised = rounds.mean_of, noisy.Noisy.noised

    def mean_of(problem: Any, *rest: Any) -> Any:
        found = true_mean(problem, *rest)
        if problem.privacy.unit != "user":
            return found
        bound = problem.privacy.clip / problem.privacy.expected
        return found._replace(mean=shortened(found.mean, bound))

    def noised(self: Any, *args: Any) -> Any:
        return shortened(true_noised(self, *args), self.clip)

    patch.setattr(world, "mean_of", mean_of)
    patch.setattr(noisy.Noisy, "noised", noised)


def shortened(given: dict[str, Tensor], bound: float) -> dict[str, Tensor]:
    length = torch.stack([v.double().square().sum() for v in given.values()]).sum().sqrt()
    return {name: v * float((bound / length).clamp(max=1.0)) for name, v in given.items()}


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """Each round is charged as if it were the first."""
    patch.setattr(Privacy, "events", lambda self, rounds: self.charge)


PLANTED: dict[str, Plant] = {
    "sigma / 3": weaker(1 / 3),
    "sigma / 4": weaker(1 / 4),
    "no noise": weaker(0.0),
    "no clip": unclipped,
    "noise before clip": noised_then_clipped,
    "ledger reset per round": forgetful,
}
