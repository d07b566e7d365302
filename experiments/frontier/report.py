"""A frontier for people: tables, what was left out, and the sentences."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.frontier.runs import Frontier


def table(found: Frontier) -> RenderableType:
    """For each mechanism the measure of every method at every epsilon, then its sentence."""
    content = found.content
    parts: list[RenderableType] = []
    for mechanism, one in content["mechanisms"].items():
        parts += [_main(mechanism, one["points"], content)]
    for one in content["left_out"]:
        at = "" if one["epsilon"] is None else f" at epsilon {one['epsilon']}"
        how = "" if one["mechanism"] == "off" else f" with {one['mechanism']}"
        parts.append(Text(f"left out: {one['method']}{how}{at}: {one['reason']}"))
    parts.append(
        Text(
            "+- half of the 95 % interval; * the whole interval of the gain over local training is"
            " above zero; hurt: share of users worse off than with local training. Epsilon is of"
            f" one run alone, at delta {content['delta']:g}: all runs on the same users cost their"
            " sum."
        )
    )
    if content["extrapolated"] and "user/gaussian" in content["mechanisms"]:
        parts.append(
            Text(
                "user/gaussian: epsilon is extrapolated to a deployment with"
                f" {content['extrapolated']:,} users per round; the users simulated here have less"
            )
        )
    parts += [Text(one["sentence"]) for one in content["mechanisms"].values()]
    return Group(*parts, Text(str(found.folder)))


def _main(mechanism: str, points: list[dict[str, Any]], content: dict[str, Any]) -> Table:
    percent = content["measure"] == "accuracy"
    scale, digits = (100, 1) if percent else (1, 3)
    measure = "accuracy, %" if percent else content["measure"]
    out = Table(
        title=f"{mechanism}: {measure} of {content['users']['test']} unseen users after"
        f" {content['support']} examples, and hurt, by epsilon"
    )
    out.add_column("method")
    for point in reversed(points):
        out.add_column(point["epsilon"], justify="right")

    def cell(row: dict[str, Any] | None) -> str:
        if row is None:
            return "-"
        low, high = row["after"]["ci95"]
        half, star = scale * (high - low) / 2, "*" if row["over_local"]["ci95"][0] > 0 else " "
        mean = scale * row["after"]["mean"]
        return f"{mean:.{digits}f} ±{half:.{digits}f}{star} {row['hurt_share']:.0%}"

    for name in points[0]["methods"]:
        row = points[0]["methods"][name]
        label = name if row["federated"] else f"{name} (no cost)"
        out.add_row(label, *(cell(point["methods"].get(name)) for point in reversed(points)))
    noises = (
        next((r["noise_multiplier"] for r in p["methods"].values() if r["noise_multiplier"]), None)
        for p in reversed(points)
    )
    out.add_section()
    out.add_row("noise multiplier", *("-" if z is None else f"{z:.3g}" for z in noises))
    return out
