"""The page of an attack: what is left of the measure, by attack and rule of aggregation."""

from typing import Any

from experiments.attack.figures import sentences
from experiments.report.parts import Columns, Page, Plot, Series, Table, plain, unit_of


def _figure(found: dict[str, float]) -> dict[str, Any]:
    """A mean with its interval as other commands write it."""
    return {"mean": found["mean"], "ci95": [found["low"], found["high"]]}


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
            found.append(
                Series(rule, [row["attack"] for row in mine], mean, low, high, "points", at)
            )
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
    loss = worst["attack_loss"]
    lost, low, high = (unit.text(loss[end]) for end in ("mean", "low", "high"))
    points = f"points of {unit.words}" if unit.words == "accuracy" else f"of {unit.words}"
    verdict = (
        f"{content['method']} with {100 * who['share']:g} % attackers: the worst that an attack"
        f" does to a rule here is {worst['attack']} against {worst['rule']}, which costs {lost}"
        f" {points} (95 % interval {low} to {high}) against the same rule that nobody attacks."
    )
    verdict = " ".join(filter(None, (sentences(content), verdict)))
    columns: Columns = [
        ("attack", ("attack",)), ("rule", ("rule",)), ("before", ("before",)),
        ("after [95 %]", ("after", "low", "high")),
        ("lost to the mean, not attacked [95 %]", ("loss", "loss_low", "loss_high")),
        ("lost to the rule, not attacked [95 %]", ("attack_loss", "attack_low", "attack_high")),
        ("backdoor works, before > after", ("success_before", "success_after")),
    ]  # fmt: skip
    rows = []
    for row in content["runs"]:
        parts = ("after", "loss", "attack_loss")
        figures = [None if row["died"] else _figure(row[key]) for key in parts]
        door = row["success"]
        words = " > ".join(f"{100 * s:.0f} %" for s in door) if door else "-"
        rows.append(
            [
                plain(row["attack"]), plain(row["rule"]), unit.value(row.get("before")),
                unit.spread(figures[0], signed=False), unit.spread(figures[1]),
                unit.spread(figures[2]), plain(words)._replace(values=tuple(door or (None, None))),
            ]
        )  # fmt: skip
    if not any(row["success"] for row in content["runs"]):  # nobody planted a backdoor
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
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
