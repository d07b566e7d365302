"""The pages of frontiers, attacks, sweeps and audits: grids of runs, told by their JSON."""

from pathlib import Path
from typing import Any

from experiments.report import origin
from experiments.report.audit_page import audit
from experiments.report.parts import Cell, Page, Plot, Series, Table, Unit, count, plain, share, unit_of
from experiments.report.runs import config_text, content_of
from fedmeta.methods import METHODS

Columns = list[tuple[str, tuple[str, ...]]]


def page_of(folder: Path, kind: str) -> Page:
    """The page of a folder of one of these commands."""
    content = content_of(folder, kind)
    config = config_text(folder)
    made = {"frontier": frontier, "attack": attack, "sweep": sweep, "audit": audit}[kind](content)
    seeds = content.get("seeds")
    rows = [("seeds", ", ".join(map(str, seeds)))] if isinstance(seeds, list) else []
    rows += origin.seeds_of(config) + _versions(folder)
    return made._replace(
        command=origin.command(kind, folder, content), config=config, origin=rows
    )


def _versions(folder: Path) -> list[tuple[str, str]]:
    """Versions and digests of the runs in a folder, or of this process where none are kept."""
    found, digests = [], []
    for path in sorted(folder.rglob("summary.json")):
        summary = content_of(path.parent, "summary")
        found.append(summary)
        name = path.parent.relative_to(folder).as_posix()
        digests.append((f"{name}: weights sha256", str(summary["weights_sha256"])))
    return (origin.versions(found) if found else origin.own_versions()) + digests


def _spread(unit: Unit, values: list[dict[str, Any] | None]) -> tuple[list[float | None], ...]:
    """Means, lows and highs of figures, for axes."""
    mean = unit.of([None if v is None else v["mean"] for v in values])
    low, high = (unit.of([None if v is None else v["ci95"][at] for v in values]) for at in (0, 1))
    return mean, low, high


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
            mean, low, high = _spread(unit, [None if c is None else c["after"] for c in cells])
            add = views["after"].setdefault(mechanism, [])
            add.append(Series(label, x, mean, low, high, tone=at))
            worst = unit.of([None if c is None else c["worst_decile"] for c in cells])
            views["worst_decile"].setdefault(mechanism, []).append(Series(label, x, worst, tone=at))
            hurt = [None if c is None else 100 * c["hurt_share"] for c in cells]
            views["hurt_share"].setdefault(mechanism, []).append(Series(label, x, hurt, tone=at))
        tables.append(_frontier_table(unit, mechanism, points, names))
    whom = f"{users:,} test users after {content['support']} examples"
    spread = f"95 % bootstrap intervals over users and {seeds} seeds" if seeds > 1 else (
        "95 % bootstrap intervals over users, one seed"
    )
    axis = f"epsilon of one run, at delta {content['delta']:g}"
    plots = [
        Plot("frontier", "Privacy frontier", f"{whom}. {spread}.", axis, unit.axis, views["after"]),
        Plot(
            "worst", "The worst tenth", f"{whom}: mean of the tenth who are worst off; no interval.",
            axis, unit.axis, views["worst_decile"],
        ),
        Plot(
            "hurt", "Worse off than with local training",
            f"{whom}: share of them; local training costs no privacy. No interval.",
            axis, "users, %", views["hurt_share"],
        ),
        _noise(content["noise"]),
    ]  # fmt: skip
    notes = [_left_out(one) for one in content["left_out"]]
    if content["extrapolated"]:
        notes.append(
            f"user/gaussian: epsilon is extrapolated to a deployment with {content['extrapolated']:,}"
            " users per round; the users simulated here have less."
        )
    facts = [
        ("test users", f"{users:,}"), ("examples to adapt on", str(content["support"])),
        ("rounds", str(content["rounds"])), ("delta", f"{content['delta']:g}"),
    ]  # fmt: skip
    return Page("fedmeta: privacy frontier", " ".join(said), facts, tables, plots, notes, "", "", [])


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
    caption = "Length of the noise over the clip, z sqrt(d) / m, by size of head; exact, no interval."
    x, y = "parameters of the head", "noise over clip"
    return Plot("noise", "Noise by size of head", caption, x, y, views, log="xy")


def _left_out(one: dict[str, Any]) -> str:
    at = "" if one["epsilon"] is None else f" at epsilon {one['epsilon']}"
    how = "" if one["mechanism"] == "off" else f" with {one['mechanism']}"
    return f"Left out: {one['method']}{how}{at}: {one['reason']}"


def attack(content: dict[str, Any]) -> Page:
    """Attacks by rule of aggregation."""
    unit = unit_of(content["measure"])
    rules = list(dict.fromkeys(row["rule"] for row in content["runs"]))
    alive = [row for row in content["runs"] if not row["died"]]

    def lines(key: str, flip: float) -> list[Series]:
        found = []
        for at, rule in enumerate(rules):
            mine = [row for row in alive if row["rule"] == rule]
            mean, low, high = (
                unit.of([flip * row[key][end] for row in mine]) for end in ("mean", "low", "high")
            )
            low, high = (low, high) if flip > 0 else (high, low)
            found.append(Series(rule, [row["attack"] for row in mine], mean, low, high, "points", at))
        return found

    users = content["users"]["test"]
    who = content["attackers"]
    whom = f"{users:,} honest test users after {content['support']} examples"
    spread = "95 % bootstrap intervals over users, one seed."
    plots = [
        Plot("attack", "What attacks leave", f"{whom}. {spread}", "", unit.axis,
             {"": lines("after", 1)}),
        Plot("loss", "Against the same rule that nobody attacks",
             f"{whom}, user by user; below zero they have lost. {spread}", "",
             unit.gain.replace("gain", "difference"), {"": lines("attack_loss", -1)}, zero=True),
    ]  # fmt: skip
    worst = min(alive, key=lambda row: -row["attack_loss"]["mean"])
    verdict = (
        f"{content['method']} with {100 * who['share']:g} % attackers: the worst that an attack does"
        f" to a rule here is {worst['attack']} against {worst['rule']}, which costs"
        f" {unit.text(worst['attack_loss']['mean'])} of {unit.axis} [{unit.text(worst['attack_loss']['low'])},"
        f" {unit.text(worst['attack_loss']['high'])}] to the same rule that nobody attacks."
    )
    columns: Columns = [
        ("attack", ("attack",)), ("rule", ("rule",)), ("before", ("before",)),
        ("after [95 %]", ("after", "low", "high")),
        ("lost to the mean, not attacked [95 %]", ("loss", "loss_low", "loss_high")),
        ("lost to the rule, not attacked [95 %]", ("attack_loss", "attack_low", "attack_high")),
        ("backdoor works, before > after", ("success_before", "success_after")),
    ]  # fmt: skip
    rows = []
    for row in content["runs"]:
        figures = [
            None if row["died"] else {"mean": row[key]["mean"], "ci95": [row[key]["low"], row[key]["high"]]}
            for key in ("after", "loss", "attack_loss")
        ]
        door = row["success"]
        words = " > ".join(f"{100 * s:.0f} %" for s in door) if door else "-"
        rows.append(
            [
                plain(row["attack"]), plain(row["rule"]), unit.value(row.get("before")),
                unit.spread(figures[0], signed=False), unit.spread(figures[1]),
                unit.spread(figures[2]), plain(words)._replace(values=tuple(door or (None, None))),
            ]
        )  # fmt: skip
    notes = [f"Left out: {rule}: {why}" for rule, why in content["left_out"].items()]
    notes += [
        f"{row['attack']} against {row['rule']} ended early: {row['died']}"
        for row in content["runs"]
        if row["died"]
    ]
    facts = [
        ("attackers", f"{100 * who['share']:g} %" + (" in every round" if who["exact"] else "")),
        ("test users", f"{users:,}"), ("rounds", str(content["rounds"])),
    ]  # fmt: skip
    table = Table("attacks", f"Attacks by rule: {unit.axis}", columns, rows)
    return Page("fedmeta: attacks", verdict, facts, [table], plots, notes, "", "", [])


def sweep(content: dict[str, Any]) -> Page:
    """Gains of methods at values of settings."""
    unit = unit_of(content["measure"])
    tables, plots, said = [], [], []
    for number, panel in enumerate(content["panels"]):
        points = panel["points"]
        names = [name for name in points[0]["methods"] if METHODS[name].personalizes]
        x = [point["value"] for point in points]
        lines, rows = [], []
        for at, name in enumerate(names):
            cells = [point["methods"][name] for point in points]
            figures = [
                None if c["gain"] is None else {"mean": c["gain"], "ci95": c["ci95"]} for c in cells
            ]
            lines.append(Series(name, x, *_spread(unit, figures), tone=at))
            rows += [
                [plain(name), plain(value), unit.spread(figure), share(cell["hurt_share"]),
                 plain("yes" if cell["pays"] else "no")]
                for value, figure, cell in zip(x, figures, cells, strict=True)
            ]  # fmt: skip
        seeds = f" and {content['seeds']} seeds" if content["seeds"] > 1 else ", one seed"
        caption = (
            f"Gain over the best one model for all at each value. 95 % bootstrap intervals over test"
            f" users{seeds}."
        )
        plots.append(
            Plot(f"sweep-{number + 1}", panel["title"], caption, panel["key"], unit.gain,
                 {"": lines}, zero=True)
        )  # fmt: skip
        columns: Columns = [
            ("method", ("method",)), (panel["key"], ("value",)),
            ("gain [95 %]", ("gain", "low", "high")), ("hurt", ("hurt_share",)),
            ("pays", ("pays",)),
        ]  # fmt: skip
        tables.append(Table(f"sweep-{number + 1}", f"{panel['title']}, by {panel['key']}", columns,
                            rows, "Pays: the whole interval is above zero."))  # fmt: skip
        last = points[-1]
        said.append(f"At {panel['key']} = {last['value']}: {last['verdict']}")
    facts = [("seeds", str(content["seeds"])), ("measure", unit.axis)]
    return Page("fedmeta: sweep", " ".join(said), facts, tables, plots, [], "", "", [])
