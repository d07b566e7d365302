"""Who gains and who loses: users one by one, and by how many examples they have."""

import numpy as np

from experiments.report.parts import Plot, Series
from experiments.report.runs import Runs, Values
from experiments.report.scores import Reference, adapting, gains
from fedmeta import seeding

BARS = 400
"""Most bars in a picture of users: more are not seen apart."""
DOTS = 600
"""Most users that are drawn as dots, for each method."""
BINS = 8


def sorted_gains(runs: Runs, over: Reference | str) -> Plot:
    """Every user's gain from the worst to the best, coloured by what it is to him."""
    title = "Who is helped, who is hurt"
    if isinstance(over, str):
        return Plot("gains", title, missing=f"No gain can be shown: {over}.")
    views = {}
    caption = ""
    for member in adapting(runs):
        values = np.sort(gains(runs, member, over), axis=None)
        lost = int(np.isnan(values).sum())
        values = values[: len(values) - lost] if lost else values
        views[member.label] = _bars(values)
        caption = f" {lost} whose model diverged are not drawn." if lost else caption
    if not views:
        return Plot("gains", title, missing="No method here personalizes.")
    total, seeds = runs.members[0].scores[..., 0].size, len(runs.seeds)
    who = f"{total:,} test users" if seeds == 1 else f"{total:,} pairs of test user and seed"
    thin = f" Every {total / BARS:.0f}th is drawn, the worst and the best among them." * (
        total > BARS
    )
    return Plot(
        "gains",
        title,
        f"One bar for each of {who}, sorted: after {runs.members[0].shots[-1]} examples minus"
        f" {over.words}.{thin}{caption}",
        "users, sorted by gain, %",
        runs.unit.gain,
        views,
        zero=True,
    )


def ranks(count: int, most: int) -> list[int]:
    """At most so many places out of a sorted list, evenly spaced, both ends among them."""
    if count <= most:
        return list(range(count))
    return [round(float(place)) for place in np.linspace(0, count - 1, most)]


def _bars(values: Values) -> list[Series]:
    """Three sets of bars; legends tell the shares of all users, not only of those drawn."""
    chosen = ranks(len(values), BARS)
    places = [100 * (at + 0.5) / len(values) for at in chosen]
    found = []
    for tone, words, mine in (
        ("hurt", "hurt", values < 0),
        ("same", "the same", values == 0),
        ("helped", "helped", values > 0),
    ):
        at = [(x, float(values[i])) for x, i in zip(places, chosen, strict=True) if mine[i]]
        name = f"{words} ({100 * mine.mean():.0f} %)"
        x, y = [x for x, _ in at], [y for _, y in at]
        found.append(Series(name, x, y, kind="bars", tone=tone))  # type: ignore[arg-type]
    return found


def by_examples(runs: Runs, over: Reference | str) -> Plot:
    """Gain against the number of a user's examples: single users, and means in bins."""
    title = "Gain by a user's number of examples"
    if isinstance(over, str):
        return Plot("examples", title, missing=f"No gain can be shown: {over}.")
    views = {}
    for member in adapting(runs):
        # Over seeds first, so that a dot is a user.
        values, sizes = gains(runs, member, over).mean(0), member.examples.mean(0)
        good = np.isfinite(values)
        views[member.label] = _cloud(values[good], sizes[good])
    if not views:
        return Plot("examples", title, missing="No method here personalizes.")
    users, k = len(runs.members[0].users), runs.members[0].shots[-1]
    drawn = f"{DOTS} of {users:,} test users, drawn by lot" if users > DOTS else "each test user"
    seeds = "" if len(runs.seeds) == 1 else f", averaged over {len(runs.seeds)} seeds"
    return Plot(
        "examples",
        title,
        f"Dots: {drawn}{seeds}; over {over.words}. Line: means of all users in bins of equally"
        " many, with 95 % intervals (1.96 standard errors over the users of a bin). A user with"
        f" few scored examples is measured coarsely. The {k} that he adapts on are not counted.",
        "examples that a user is scored on",
        runs.unit.gain,
        views,
        zero=True,
    )


def _cloud(values: Values, sizes: Values) -> list[Series]:
    chosen = np.arange(len(values))
    if len(values) > DOTS:
        chosen = np.sort(seeding.generator(0, "report").choice(chosen, DOTS, replace=False))
    dots = Series(
        "users", sizes[chosen].tolist(), values[chosen].tolist(), kind="points", tone="faint"
    )
    x, y, low, high = [], [], [], []
    order = np.argsort(sizes, kind="stable")
    for part in np.array_split(order, min(BINS, max(1, len(order) // 5))):
        mine = values[part]
        error = 1.96 * mine.std(ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else np.nan
        x.append(float(sizes[part].mean()))
        y.append(float(mine.mean()))
        low.append(float(mine.mean() - error))
        high.append(float(mine.mean() + error))
    return [dots, Series("mean of a bin", x, y, low, high, tone=0)]
