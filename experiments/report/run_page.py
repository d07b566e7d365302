"""The page of a run, of a comparison, or of several runs side by side."""

from pathlib import Path

from experiments.audit import beside
from experiments.report import method_plots, origin, progress_plots, run_tables, user_plots
from experiments.report.parts import Page, Plot, Series
from experiments.report.runs import Member, Runs, compared, one, several
from experiments.report.scores import Reference, intervals, reference, same_users
from experiments.summary import NO_GAIN
from fedmeta.privacy.claim import Claim, sentence
from fedmeta.statistics import gain


def page_of(folders: list[Path], kind: str) -> Page:
    """The page of one folder of `simulate` or `compare`, or of several such."""
    if len(folders) > 1:
        runs, command = several(folders), ""
    else:
        runs = compared(folders[0]) if kind == "compare" else one(folders[0])
        command = origin.command(kind, folders[0], runs.content)
    over = reference(runs)
    tables = [run_tables.methods(runs, over), run_tables.differences(runs)]
    return Page(
        f"fedmeta: {runs.title}",
        verdict(runs, over),
        facts(runs),
        [table for table in tables if table is not None],
        plots(runs, over),
        notes(runs, not isinstance(over, str)),
        command,
        runs.config,
        origin.of_runs(runs),
    )


def plots(runs: Runs, over: Reference | str) -> list[Plot]:
    """All pictures of runs."""
    found = [
        method_plots.over_one_model(runs, over),
        method_plots.differences(runs),
        progress_plots.over_rounds(runs),
        progress_plots.over_shots(runs),
        user_plots.sorted_gains(runs, over),
        user_plots.by_examples(runs, over),
        progress_plots.traffic(runs),
        progress_plots.throughput(runs),
    ]
    claims = [(m, m.summary.get("privacy")) for m in runs.members]
    if any(claim for _, claim in claims):
        found.insert(6, _privacy(runs))
    if len(runs.members) == 1:  # a difference needs two
        found = [plot for plot in found if plot.key != "pairs"]
    # What cannot be shown stands last: beside pictures its places would be large and empty.
    return sorted(found, key=lambda plot: bool(plot.missing))


def _privacy(runs: Runs) -> Plot:
    """The measure against what is claimed of each run."""
    series = []
    claims = [(member, member.summary.get("privacy")) for member in runs.members]
    for at, (member, claim) in enumerate(claims):
        if claim and claim["epsilon"] is not None:
            mean, low, high = map(runs.unit.of, intervals(member.scores[..., -1:], runs.resamples))
            x = [claim["epsilon"]]
            series.append(Series(member.label, x, mean, low, high, "points", at))
    title, key = "Privacy and utility", "privacy"
    if not series:
        return Plot(key, title, missing="Of no run here may an epsilon be told; the notes say why.")
    whom = "users and seeds" if len(runs.seeds) > 1 else "users, one seed"
    caption = (
        f"{len(runs.members[0].users):,} test users after {runs.members[0].shots[-1]} examples,"
        f" 95 % bootstrap intervals over {whom}. Epsilon of each run alone; runs without a claim"
        " are not in it."
    )
    if other := ", ".join(m.label for m, claim in claims if claim and claim["extrapolated"]):
        caption += f" Extrapolated to a larger deployment, users here have less: {other}."
    return Plot(key, title, caption, "epsilon", runs.unit.axis, {"": series})


def facts(runs: Runs) -> list[tuple[str, str]]:
    """What was run, in short."""
    first = runs.members[0]
    users = first.summary["users"]
    return [
        ("users", " / ".join(f"{users[split]:,} {split}" for split in ("train", "valid", "test"))),
        ("examples to adapt on", str(first.shots[-1])),
        ("seed" if len(runs.seeds) == 1 else "seeds", ", ".join(map(str, runs.seeds))),
        ("measure", runs.unit.axis),
        ("rounds", str(max(int(member.summary["rounds"]) for member in runs.members))),
    ]


def notes(runs: Runs, shown: bool) -> list[str]:
    """Notes, claims and what was left out; ``shown``: whether the page has gains."""
    found = []
    for member in runs.members:
        # Where gains are shown, over one model for all, it is no news that there is none over the
        # start of this method.
        told = [n for n in member.summary.get("notes", []) if not (shown and n.startswith(NO_GAIN))]
        found += [f"{member.label}: {note}" for note in told]
        if claim := member.summary.get("privacy"):
            found.append(f"{member.label}: {sentence(Claim(**claim))}")
        if audit := member.summary.get("audit"):
            found.append(f"{member.label}: {beside.sentence(audit)}")
    content = runs.content
    if added := content.get("baselines_added"):
        found.append(f"Added to compare with: {', '.join(added)}.")
    found += [f"Left out: {name}: {why}" for name, why in content.get("left_out", {}).items()]
    if shared := content.get("same_for_all"):
        found.append(f"The same for all methods instead of their defaults: {', '.join(shared)}.")
    return found


def verdict(runs: Runs, over: Reference | str) -> str:
    """The sentence of a comparison, or what a run shows by itself."""
    if runs.content:
        return str(runs.content["verdict"])
    unit, sign = runs.unit, runs.unit.metric.sign
    best = max(runs.members, key=lambda m: sign * m.valid if m.valid == m.valid else float("-inf"))
    k, users = best.shots[-1], len(best.users)
    mean, low, high = intervals(best.scores[..., -1:], runs.resamples)
    level = f"{unit.text(mean[0])} [{unit.text(low[0])}, {unit.text(high[0])}]"
    said = f"{best.label}: {unit.axis} of {users:,} unseen users after {k} examples is {level}"
    if len(runs.members) == 1:
        return f"{said} (95 % interval over users). {_alone(runs, best, over)}"
    if reason := same_users(runs):
        return f"Best for validation users is {said}. Users cannot be paired: {reason}."
    rest = [member for member in runs.members if member is not best]
    other = max(rest, key=lambda m: sign * m.valid if m.valid == m.valid else float("-inf"))
    values = gain(unit.metric, other.scores[..., -1], best.scores[..., -1])
    mean, low, high = intervals(values[..., None], runs.resamples)
    ahead = f"{unit.text(mean[0], True)} [{unit.text(low[0], True)}, {unit.text(high[0], True)}]"
    return (
        f"Best for validation users is {said}; to the next, {other.label}, that is {ahead}, user by"
        " user (95 % intervals over users)."
    )


def _alone(runs: Runs, member: Member, over: Reference | str) -> str:
    """What one run says of personalization."""
    if isinstance(over, str):
        return (
            f"Whether that pays cannot be said from this run alone ({over}); `fedmeta compare`"
            " holds it against one model for all."
        )
    values = gain(runs.unit.metric, over.values, member.scores[..., -1])
    mean, low, high = map(runs.unit.of, intervals(values[..., None], runs.resamples))
    if not values.any():
        return "It is one model for all: users do not adapt it."
    return (
        f"Over its own model without adaptation that is {mean[0]:+.3g} [{low[0]:+.3g},"
        f" {high[0]:+.3g}]; {100 * float((values < 0).mean()):.0f} % of the users are worse off."
    )
