"""The tables of ``fedmeta attack``."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.attack import figures
from experiments.attack.attacks import ATTACKS
from experiments.attack.grid import Attacked


def table(found: Attacked) -> RenderableType:
    """The measure by attack and rule, and where the trigger was tried how often it works."""
    content = found.content
    runs = {(row["attack"], row["rule"]): row for row in content["runs"]}
    attacks, rules = (list(dict.fromkeys(key[at] for key in runs)) for at in (0, 1))
    percent = content["measure"] == "accuracy"
    scale, digits = (100, 1) if percent else (1, 3)

    def figure(row: dict[str, Any]) -> str:
        if row["died"]:
            return "died"
        after, loss = scale * row["after"]["mean"], scale * row["loss"]["mean"]
        return f"{after:.{digits}f} {-loss if percent else loss:+.{digits}f}"

    who, users = f"{content['attackers']['share']:.0%} attackers", content["users"]["test"]
    measure = "accuracy, %," if percent else content["measure"]
    main = Table(
        box=SIMPLE_HEAD,
        title=f"{content['method']}, {who}: {measure} of {users} unseen users"
        f" after {content['support']} examples, and against mean without attack",
    )
    main.add_column("attack")
    for rule in rules:
        chosen = "*" * (rule == content["defence"][0]["rule"] != "mean")
        main.add_column(rule.replace("-", "-\n") + chosen, justify="right", no_wrap=True)
    for name in attacks:
        main.add_row(name, *(figure(runs[name, rule]) for rule in rules))
    alive = [row for row in runs.values() if not row["died"]]
    width = max(row["loss"]["high"] - row["loss"]["low"] for row in alive) / 2
    lines: list[RenderableType] = [
        main,
        Text(f"95 % intervals of the differences: at most +-{scale * width:.{digits}f}"),
    ]
    tried = [name for name in attacks if any(runs[name, rule]["success"] for rule in rules)]
    doors = [name for name in tried if name == "none" or ATTACKS[name].data == "trigger"]
    if doors:
        lines.append(_doors(doors, rules, runs))
    for rule, reason in content["left_out"].items():
        lines.append(Text(f"left out: {rule} ({reason})"))
    if told := figures.sentences(content):
        lines.append(Text(told))
    return Group(*lines, Text(str(found.folder)))


def _doors(doors: list[str], rules: list[str], runs: dict[tuple[str, str], Any]) -> Table:
    """How often a triggered message of another class gets the target class."""
    out = Table(
        box=SIMPLE_HEAD,
        title="triggered messages that get the attackers' class, %: before > after adapting",
    )
    out.add_column("attack")
    for rule in rules:
        out.add_column(rule.replace("-", "-\n"), justify="right", no_wrap=True)

    def shares(row: dict[str, Any]) -> str:
        return (
            " > ".join(f"{100 * share:.0f}" for share in row["success"]) if row["success"] else "-"
        )

    for name in doors:
        out.add_row(name, *(shares(runs[name, rule]) for rule in rules))
    return out
