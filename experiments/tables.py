"""The tables at the end of a command."""

from io import StringIO
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from experiments.audit import beside
from experiments.found import Comparison, Run
from fedmeta.methods import METHODS
from fedmeta.metrics import METRICS, Metric
from fedmeta.privacy.claim import Claim, sentence


def _number(metric: Metric, value: float) -> str:
    return f"{100 * value:.1f}" if metric.name == "accuracy" else f"{value:.3f}"


def _signed(metric: Metric, figures: dict[str, Any]) -> str:
    mean, (low, high) = figures["gain"]["mean"], figures["gain"]["ci95"]
    scale, digits = (100, 1) if metric.name == "accuracy" else (1, 3)
    return f"{scale * mean:+.{digits}f} [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"


def unit(metric: Metric) -> str:
    """The measure with its unit, for headings."""
    return "accuracy, %" if metric.name == "accuracy" else metric.name


def run_table(run: Run) -> RenderableType:
    """One run: before and after on validation and test users, and the curve over K."""
    summary = run.summary
    metric = METRICS[run.outcome.problem.population.store.task]
    name = metric.name
    title = f"{summary['name']}: {unit(metric)}, {summary['support']} support examples"
    table = Table(title=escape(title))
    for heading in ("users", "before", "after", "gain [95 %]", "median", "worst decile", "hurt"):
        table.add_column(heading, justify="right")
    table.columns[0].justify = "left"
    for split in ("valid", "test"):
        figures = summary[split]
        after = figures["after"]
        table.add_row(
            f"{summary['users'][split]} {split}",
            _number(metric, figures["before"][f"{name}_macro"]),
            _number(metric, after[f"{name}_macro"]),
            _signed(metric, figures) if figures["gain"] else "-",
            _number(metric, after["median"]),
            _number(metric, after["worst_decile"]),
            f"{figures['hurt_share']:.0%}" if figures["gain"] else "-",
        )
    lines = [Text("test users by support examples: " + _curve(metric, summary["test"]["curve"]))]
    if "bayes" in summary["test"]:
        lines.append(Text(_achieved(summary["test"])))
    if told := _refused(summary["refused"]):
        lines.append(Text(told, style="bold"))
    if "clock" in summary:
        lines.append(Text(clock_line(summary["clock"])))
    lines += [Text(line) for line in target_lines(metric, {summary["name"]: summary})]
    lines += [Text(note) for note in summary["notes"]]
    if claim := summary["privacy"]:
        lines.append(Text(sentence(Claim(**claim))))
    if audit := summary.get("audit"):
        lines.append(Text(beside.sentence(audit)))
    lines.append(Text(f"weights sha256 {summary['weights_sha256'][:16]}…   {run.folder}"))
    return Group(table, *lines)


def _refused(figures: dict[str, Any]) -> str:
    """What the server did not take, or ""."""
    parts = []
    if codes := figures["replies"]:
        listed = ", ".join(f"{code} {count}" for code, count in codes.items())
        parts.append(f"{sum(codes.values())} bad replies refused ({listed})")
    if users := figures["quarantined"]:
        parts.append(f"{users} users in quarantine")
    if rounds := figures["rounds_not_counted"]:
        parts.append(f"{rounds} rounds without a quorum did not count")
    return "; ".join(parts)


def clock_line(clock: dict[str, Any]) -> str:
    """What simulated devices did in a run."""
    return (
        f"simulated time {clock['simulated_s']:,.0f} s; of {clock['selected']} users asked"
        f" {clock['dropped']} dropped and {clock['late']} were late"
    )


def target_lines(metric: Metric, summaries: dict[str, dict[str, Any]]) -> list[str]:
    """Rounds and simulated time to the target, one line for each run that has rounds."""
    lines = []
    for name, summary in summaries.items():
        given = summary.get("target", [])
        for target in given if isinstance(given, list) else [given]:
            text = f"{name}: valid {_number(metric, target['measure'])} "
            if target["rounds_to_target"] is None:
                lines.append(text + "was not reached")
                continue
            time = target["time_to_target_s"]
            after = "" if time is None else f", {time:,.0f} simulated seconds"
            lines.append(f"{text}after {target['rounds_to_target']} rounds{after}")
    return lines


def compare_table(found: Comparison) -> RenderableType:
    """All methods on the test users, and the verdict."""
    metric = found.metric
    name = metric.name
    first = next(iter(found.rows.values())).summary
    title = (
        f"{first['users']['test']} unseen users, {first['support']} support examples:"
        f" {unit(metric)}"
    )
    table = Table(title=title)
    for heading in (
        "method", "before", "after", "gain over one model", "micro",
        "F1" if name == "accuracy" else "RMSE",
        "worst decile", "hurt", "users/s",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, row in found.rows.items():
        figures, after = row.summary["test"], row.summary["test"]["after"]
        held = figures["against_reference"]
        adapts = METHODS[method].personalizes and held is not None
        speed = row.summary["speed"]["user_updates_per_s"]
        table.add_row(
            method,
            _number(metric, figures["before"][f"{name}_macro"]),
            _number(metric, after[f"{name}_macro"]),
            _signed(metric, held) if adapts else "-",
            _number(metric, after[f"{name}_micro"]),
            _number(metric, after[f"{metric.columns[1]}_macro"]),
            _number(metric, after["worst_decile"]),
            f"{held['hurt_share']:.0%}" if adapts else "-",
            f"{speed:,.0f}" if speed else "-",
        )
    lines = [Text(found.verdict.sentence, style="bold"), Text(str(found.folder))]
    best = found.rows.get(found.verdict.method)
    if best and "bayes" in best.summary["test"]:
        held = best.summary["test"]["against_reference"] | {"bayes": best.summary["test"]["bayes"]}
        lines.insert(1, Text(f"{found.verdict.method}: " + _achieved(held)))
    if added := found.content["baselines_added"]:
        lines.append(Text(f"added to compare with: {', '.join(added)} (--no-baselines: without)"))
    for name, reason in found.content["left_out"].items():
        lines.append(Text(f"left out: {name} ({reason})"))
    for row in found.rows.values():
        lines += [Text(note) for note in row.summary["notes"] if note.startswith("WARNING")]
    lines.extend(Text(text) for text in _claims(found))
    if shared := found.content["same_for_all"]:
        note = "the same for all methods instead of their own defaults: " + ", ".join(shared)
        lines.append(Text(note))
    for key, able in found.content["read_by"].items():
        others = [name for name in found.rows if name not in able]
        who = f"by {', '.join(able)} alone" if len(able) <= len(others) else ""
        lines.append(Text(f"{key} is read {who or 'by all but ' + ', '.join(others)}"))
    if targets := target_lines(metric, {n: row.summary for n, row in found.rows.items()}):
        lines[-1:-1] = [Text(line) for line in targets]
    return Group(table, *lines)


def claimed_table(found: Comparison, content: dict[str, Any]) -> RenderableType:
    """A comparison, what was claimed of it, and the baseline of who collects the data."""
    lines = [Text(f"claimed: {content['claim']}")]
    if central := content.get("central"):
        mean, (low, high) = central["difference"]["mean"], central["difference"]["ci95"]
        lines.append(
            Text(
                "with everybody's data in one place (tf-idf, logistic regression, an offset per"
                f" user): {100 * central['before']:.1f} -> {100 * central['after']:.1f};"
                f" {central['method']} is {100 * mean:+.1f} points to that"
                f" [{100 * low:+.1f}, {100 * high:+.1f}]"
            )
        )
    return Group(compare_table(found), *lines)


def _claims(found: Comparison) -> list[str]:
    """What is claimed of the methods, those with the same claim together."""
    by: dict[str, list[str]] = {}
    for method, row in found.rows.items():
        if claim := row.summary.get("privacy"):
            by.setdefault(sentence(Claim(**claim)), []).append(method)
    lines = [f"{', '.join(methods)}: {text}" for text, methods in by.items()]
    for method, row in found.rows.items():
        if audit := row.summary.get("audit"):
            lines.append(f"{method}: {beside.sentence(audit)}")
    if len(found.rows) > 1 and lines:
        lines.append("each run by itself: whoever makes several of them public pays for all")
    return lines


def probe_text(result: dict[str, Any]) -> RenderableType:
    """The result of the few-shot probe."""
    low, high = result["ci95"]
    return Text(
        f"{result['name']}: {result['accuracy']:.2f} % [{low:.2f}, {high:.2f}] over"
        f" {len(result['draws'])} draws; published {result['published']:.2f} %"
        f" ({result['source']}): {_met(result['reproduced'])}"
    )


def _met(reproduced: bool | None) -> str:
    if reproduced is None:
        return "of another encoder, to compare"
    return "reproduced" if reproduced else "NOT reproduced"


def _curve(metric: Metric, curve: dict[str, float]) -> str:
    return "  ".join(f"{k}: {_number(metric, value)}" for k, value in curve.items())


def _achieved(figures: dict[str, Any]) -> str:
    share = figures["achieved_share"]
    text = f"the best possible is {100 * figures['bayes']:.1f}"
    known = share is not None and share == share
    return f"{share:.0%} of the achievable gain; {text}" if known else text


def show(what: RenderableType) -> None:
    """Print to standard output, at full width where that is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(what)


def html(what: RenderableType) -> str:
    """The same for notebooks: escaped, in the page's own colours."""
    console = Console(record=True, file=StringIO(), width=120, force_jupyter=False)
    console.print(what)
    style = "white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace"
    return console.export_html(
        inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>'
    )
