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
        parts += [Text(line) for line in _evidence(content["audit"].get(mechanism, {}))]
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
    for title, key in (
        ("audit: at least", "lower_bound"),
        ("of Gaussian noise", "lower_bound_curve"),
    ):
        found = content["audit"].get(mechanism, {})
        if any(key in one for one in found.values()):
            bounds = (found.get(point["epsilon"], {}).get(key) for point in reversed(points))
            out.add_row(title, *("-" if bound is None else f"{bound:.3g}" for bound in bounds))
    return out


def _evidence(found: dict[str, Any]) -> list[str]:
    """How strong the audits of a mechanism were, and where one refutes the claim."""
    lines = list(
        dict.fromkeys(f"no audit: {one['reason']}" for one in found.values() if "reason" in one)
    )
    done = {epsilon: one for epsilon, one in found.items() if "reason" not in one}
    for epsilon, one in done.items():
        if one["refuted"] or one["refuted_curve"]:
            lines.append(f"THE AUDIT REFUTES epsilon {epsilon}: code or proof is wrong")
    if done:
        one = next(iter(done.values()))
        powers = ", ".join(
            f"{epsilon}: {each['at_claimed_noise']:.2g} and {each['at_a_third']:.2g}"
            for epsilon, each in ((name, one["power"]) for name, one in done.items())
        )
        lines.append(
            f"audit: {one['canaries']} canaries in one run at confidence 95 %, {one['method']} for"
            f" all methods; right noise and a third of it would give, at epsilon {powers}; at most"
            f" {max(each['power']['largest'] for each in done.values()):.3g} can be found"
        )
    return lines
