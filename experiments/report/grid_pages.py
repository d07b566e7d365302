"""The pages of frontiers, attacks, sweeps and audits: grids of runs, told by their JSON."""

from pathlib import Path

from experiments.report import origin
from experiments.report.attack_page import attack
from experiments.report.audit_page import audit
from experiments.report.frontier_page import frontier
from experiments.report.parts import Page
from experiments.report.runs import config_text, content_of
from experiments.report.sweep_page import sweep

MADE = {"frontier": frontier, "attack": attack, "sweep": sweep, "audit": audit}


def page_of(folder: Path, kind: str) -> Page:
    """The page of a folder of one of these commands."""
    content = content_of(folder, kind)
    config = config_text(folder)
    made = MADE[kind](content)
    seeds = content.get("seeds")
    rows = [("seeds", ", ".join(map(str, seeds)))] if isinstance(seeds, list) else []
    rows += origin.seeds_of(config) + _versions(folder)
    return made._replace(command=origin.command(kind, folder, content), config=config, origin=rows)


def _versions(folder: Path) -> list[tuple[str, str]]:
    """Versions and digests of the runs in a folder, or of this process where none are kept."""
    found, digests = [], []
    for path in sorted(folder.rglob("summary.json")):
        summary = content_of(path.parent, "summary")
        found.append(summary)
        name = path.parent.relative_to(folder).as_posix()
        digests.append((f"{name}: weights sha256", str(summary["weights_sha256"])))
    return (origin.versions(found) if found else origin.own_versions()) + digests
