"""Robust rules of aggregation: what one makes of the updates of n users, f of them malicious.

All are pure functions of stacked updates ``(n, d)``, float64 and finite, and of f, and give one
update ``(d,)``. They do not depend on the order of the users but for the last bits of sums. What
malicious users send is bounded by nothing; how many of them a rule bears is in :data:`RULES`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SMOOTHING = 1e-6
"""Least distance in the weights of the geometric median (nu of RFA, as published)."""

FINE = 2.0**40
"""Cosines are rounded to one over this, so that their sums are exact in float64."""

ROUNDS = 200
CLOSE = 1e-12
"""The geometric median is found when a step is this short over the distances, or after so many."""


class Rule(NamedTuple):
    """A rule and what it promises.

    Attributes:
        apply: ``(updates (n, d), f) -> (d,)``.
        least: ``f -> n``: the fewest users among whom it bears f malicious ones.
        needs: the same in words.
        source: the paper.
    """

    apply: Callable[[Tensor, int], Tensor]
    least: Callable[[int], int]
    needs: str
    source: str


def bounded(rows: Tensor, factor: float) -> Tensor:
    """Updates, those longer than ``factor`` times the median length scaled down to that.

    Norm thresholding (Sun et al. 2019, "Can you really backdoor federated learning?"), where the
    threshold is a constant. The median length (of an even number the lower one) is that of an
    honest update at most, as long as more than half are honest.
    """
    norm = torch.linalg.vector_norm(rows, dim=1)
    most = factor * norm.median()
    return rows * torch.where(norm > most, most / norm, 1.0)[:, None]


def mean(rows: Tensor, f: int) -> Tensor:
    """The mean; one malicious user moves it anywhere unless lengths are bounded."""
    return rows.mean(0)


def median(rows: Tensor, f: int) -> Tensor:
    """The median of each coordinate (Yin et al. 2018, definition 1)."""
    ordered, n = rows.sort(0).values, len(rows)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def trimmed_mean(rows: Tensor, f: int) -> Tensor:
    """The mean of each coordinate without its f least and f largest values.

    Yin et al. 2018, definition 2, where f is a share beta of n.
    """
    return rows.sort(0).values[f : len(rows) - f].mean(0)


def krum(rows: Tensor, f: int) -> Tensor:
    """The update whose n - f - 2 nearest others are nearest (Blanchard et al. 2017, section 4)."""
    return rows[_best(rows, _squares(rows), f, 1)[0]]


def multi_krum(rows: Tensor, f: int) -> Tensor:
    """The mean of the n - f - 2 updates that Krum likes best (Blanchard et al. 2017, section 5).

    The paper leaves their number open; n - f - 2 is the largest for which the proof holds
    (El Mhamdi et al. 2018).
    """
    return rows[_best(rows, _squares(rows), f, len(rows) - f - 2)].mean(0)


def bulyan(rows: Tensor, f: int) -> Tensor:
    """Krum again and again, then a mean near the median (El Mhamdi et al. 2018, section 4).

    Krum chooses an update and takes it away, theta times; of each coordinate the theta - 2f values
    of these that are nearest to their median are averaged. The paper has theta = n - 2f, where the
    last choices are among fewer than the 2f + 3 updates that Krum needs; here, as in the authors'
    code, theta = n - 2f - 2, so that every one of them is sound.
    """
    squares, left = _squares(rows), torch.arange(len(rows))
    chosen = []
    for _ in range(len(rows) - 2 * f - 2):
        at = _best(rows[left], squares[left][:, left], f, 1)[0]
        chosen.append(left[at])
        left = torch.cat([left[:at], left[at + 1 :]])
    picked = rows[torch.stack(chosen)]
    middle = median(picked, f)
    near = (picked - middle).abs().argsort(dim=0, stable=True)[: len(picked) - 2 * f]
    return picked.gather(0, near).mean(0)


def geometric_median(rows: Tensor, f: int) -> Tensor:
    """The point with the least sum of distances to all updates.

    Smoothed Weiszfeld iterations (RFA, Pillutla et al. 2022, algorithm 2), from the median of each
    coordinate and until they stand still, where the paper takes three from zero.
    """
    point = median(rows, f)
    for _ in range(ROUNDS):
        distance = torch.linalg.vector_norm(rows - point, dim=1).clamp(min=SMOOTHING)
        weight = 1.0 / distance
        step = (weight / weight.sum()) @ rows - point
        point = point + step
        if torch.linalg.vector_norm(step) <= CLOSE * distance.min():
            break
    return point


def dissimilar(rows: Tensor, f: int, part: Tensor | None = None) -> Tensor:
    """The mean of the updates that are neither too much like others nor too much against them.

    The idea of FoolsGold (Fung et al. 2020): who wants the same thing from the model sends much the
    same, while users whose tastes differ do not. Like is the mean cosine to the f / 2 nearest
    others. FoolsGold weighs users by it over all rounds; here a user may come once only, so the
    1.5f most alike are left out: f attackers, and room since later rounds tell less apart. Who
    sends the opposite of others is like nobody, so of the rest 1.5f more are left out, one by one:
    the one whose cosines to those still there have the least sum. 1.5 was chosen on validation
    users of generated data, as was the order.

    Args:
        rows: updates of bounded lengths; a lone one of any length is like nobody.
        f: malicious users.
        part: the columns that are compared; None: all.
    """
    compared = rows if part is None else part
    length = torch.linalg.vector_norm(compared, dim=1, keepdim=True)
    unit = torch.where(length > 0, compared / length, 0.0)
    like, cut = unit @ unit.T, 3 * f // 2
    # Colluders who send one thing are equal then, in any order of the users.
    like = (like * FINE).round() / FINE
    nearest = like.fill_diagonal_(-torch.inf).sort(1, descending=True).values[:, : max(f // 2, 1)]
    left = _first(nearest.sum(1), rows, len(rows) - cut)
    like.fill_diagonal_(0.0)
    for _ in range(cut):
        against = _first(like[left][:, left].sum(1), rows[left], 1)
        left = torch.cat([left[:against], left[against + 1 :]])
    return rows[left].mean(0)


def _squares(rows: Tensor) -> Tensor:
    """Squared distances ``(n, n)``, computed from differences: exact for near ones among far."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(rows, rows, compute_mode=exact).square()


def _best(rows: Tensor, squares: Tensor, f: int, count: int) -> Tensor:
    """Which ``count`` updates have the least sum of squares to their n - f - 2 nearest others."""
    near = squares.clone().fill_diagonal_(torch.inf)
    return _first(near.sort(1).values[:, : len(rows) - f - 2].sum(1), rows, count)


def _first(score: Tensor, rows: Tensor, count: int) -> Tensor:
    """Which ``count`` updates have the least score.

    Of equal scores the update comes first that is lower in its first coordinate that differs, so
    that the choice does not depend on the order of the users.
    """
    least = score.sort().values[count - 1]
    known = torch.nonzero(score <= least).flatten()
    if len(known) > count:
        tied = sorted(known.tolist(), key=lambda at: (float(score[at]), rows[at].tolist()))
        known = torch.tensor(tied[:count])
    return known


RULES: dict[str, Rule] = {
    "norm-bound": Rule(mean, lambda f: 1, "any number of users", "Sun et al. 2019"),
    "median": Rule(median, lambda f: 2 * f + 1, "n >= 2f + 1", "Yin et al. 2018"),
    "trimmed-mean": Rule(trimmed_mean, lambda f: 2 * f + 1, "n >= 2f + 1", "Yin et al. 2018"),
    "krum": Rule(krum, lambda f: 2 * f + 3, "n >= 2f + 3", "Blanchard et al. 2017"),
    "multi-krum": Rule(multi_krum, lambda f: 2 * f + 3, "n >= 2f + 3", "Blanchard et al. 2017"),
    "bulyan": Rule(bulyan, lambda f: 4 * f + 3, "n >= 4f + 3", "El Mhamdi et al. 2018"),
    "geometric-median": Rule(
        geometric_median, lambda f: 2 * f + 1, "n >= 2f + 1", "RFA, Pillutla et al. 2022"
    ),
    "dissimilar": Rule(
        dissimilar, lambda f: 4 * f + 1, "n >= 4f + 1", "after FoolsGold, Fung et al. 2020"
    ),
}
"""Every rule of ``robust.rule`` but the plain mean."""
