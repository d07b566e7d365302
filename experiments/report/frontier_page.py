"""The page of a frontier: methods by mechanism and epsilon."""

from typing import Any

from experiments.audit import beside
from experiments.report.parts import (
    Cell,
    Columns,
    Page,
    Plot,
    Series,
    Table,
    Unit,
    count,
    plain,
    share,
    unit_of,
)
from fedmeta.methods import METHODS


def frontier(content: dict[str, Any]) -> Page:
    """Methods by mechanism and epsilon."""
    unit = unit_of(content["measure"])
    users, seeds = content["users"]["test"], len(content["seeds"])
    views: dict[str, dict[str, list[Series]]] = {"after": {}, "worst_decile": {}, "hurt_share": {}}
    tables, said = [], []
    for mechanism, one in content["mechanisms"].items():
        points = one["points"][::-1]
        said.append(one["sentence"])
        x = ["infinity" if p["epsilon"] == "infinity" else p["epsilon"] for p in points]
        names = list(points[-1]["methods"])
        for at, name in enumerate(names):
            cells = [point["methods"].get(name) for point in points]
            label = name if METHODS[name].contribute else f"{name} (costs no privacy)"
            mean, low, high = unit.spreads([None if c is None else c["after"] for c in cells])
            add = views["after"].setdefault(mechanism, [])
            add.append(Series(label, x, mean, low, high, tone=at))
            worst = unit.of([None if c is None else c["worst_decile"] for c in cells])
            views["worst_decile"].setdefault(mechanism, []).append(Series(label, x, worst, tone=at))
            hurt = [None if c is None else 100 * c["hurt_share"] for c in cells]
            views["hurt_share"].setdefault(mechanism, []).append(Series(label, x, hurt, tone=at))
        tables.append(_frontier_table(unit, mechanism, points, names))
    whom = f"{users:,} test users after {content['support']} examples"
    spread = (
        f"95 % bootstrap intervals over users and {seeds} seeds"
        if seeds > 1
        else ("95 % bootstrap intervals over users, one seed")
    )
    axis = f"epsilon of one run, at delta {content['delta']:g}"
    plots = [
        Plot("frontier", "Privacy frontier", f"{whom}. {spread}.", axis, unit.axis, views["after"]),
        Plot(
            "worst", "The worst tenth", f"{whom}: the tenth who are worst off; no interval.",
            axis, unit.axis, views["worst_decile"],
        ),
        Plot(
            "hurt", "Worse off than with local training",
            f"{whom}: share of them; local training costs no privacy. No interval.",
            axis, "users, %", views["hurt_share"],
        ),
        _noise(content["noise"]),
    ]  # fmt: skip
    notes = _left_out(content["left_out"])
    for mechanism, audits in content.get("audit", {}).items():
        if mechanism in content["mechanisms"]:  # else what was left out is all there is to say
            notes += [
                f"{mechanism} at epsilon {at}: {beside.sentence(one)}" for at, one in audits.items()
            ]
    if content["extrapolated"]:
        notes.append(
            "user/gaussian: epsilon is extrapolated to a deployment with"
            f" {content['extrapolated']:,} users per round; the users simulated here have less."
        )
    facts = [
        ("test users", f"{users:,}"), ("examples to adapt on", str(content["support"])),
        ("rounds", str(content["rounds"])), ("delta", f"{content['delta']:g}"),
    ]  # fmt: skip
    return Page(
        "fedmeta: privacy frontier", "\n".join(said), facts, tables, plots, notes, "", "", []
    )


def _frontier_table(unit: Unit, mechanism: str, points: list[Any], names: list[str]) -> Table:
    columns: Columns = [
        ("method", ("method",)), ("epsilon", ("epsilon",)), ("noise", ("noise_multiplier",)),
        ("after [95 %]", ("after", "low", "high")),
        ("over local [95 %]", ("over_local", "over_local_low", "over_local_high")),
        ("over one model [95 %]", ("over_one_model", "over_one_model_low", "over_one_model_high")),
        ("worst tenth", ("worst_decile",)), ("worse off than local", ("hurt_share",)),
    ]  # fmt: skip
    rows = [
        [
            plain(name),
            Cell(point["epsilon"], (float(point["epsilon"]),)),
            count(cell["noise_multiplier"] or None, ".3g"),
            unit.spread(cell["after"], signed=False),
            unit.spread(cell["over_local"]),
            unit.spread(cell["over_one_model"]),
            unit.value(cell["worst_decile"]),
            share(cell["hurt_share"]),
        ]
        for name in names
        for point in points
        if (cell := point["methods"].get(name)) is not None
    ]
    note = "Epsilon is of one run alone: all runs on the same users cost their sum."
    return Table(mechanism.replace("/", "-"), f"{mechanism}: {unit.axis}", columns, rows, note)


def _noise(found: dict[str, Any]) -> Plot:
    views = {
        mechanism: [
            Series(
                f"epsilon {epsilon}",
                [row["parameters"] for row in rows],
                [row["noise_over_clip"] for row in rows],
                tone=at,
            )
            for at, (epsilon, rows) in enumerate(lines.items())
        ]
        for mechanism, lines in found.items()
    }
    caption = (
        "Length of the noise over the clip, z sqrt(d) / m, by size of head; exact, no interval."
    )
    x, y = "parameters of the head", "noise over clip"
    return Plot("noise", "Noise by size of head", caption, x, y, views, log="xy")


def _left_out(found: list[dict[str, Any]]) -> list[str]:
    """A sentence for each reason, with all methods that it holds for."""
    methods: dict[str, list[str]] = {}
    for one in found:
        at = "" if one["epsilon"] is None else f" at epsilon {one['epsilon']}"
        how = "" if one["mechanism"] == "off" else f" with {one['mechanism']}"
        methods.setdefault(f"{how}{at}: {one['reason']}", []).append(one["method"])
    return [f"Left out: {', '.join(names)}{why}" for why, names in methods.items()]
