"""``fedmeta deploy run``: a config on real nodes, from the file to the table."""

from pathlib import Path
from typing import Any

from experiments import progress, settings
from experiments.deploy import runs
from experiments.deploy.errors import DeployError
from experiments.deploy.layout import Deployment
from experiments.deploy.runs import Plan
from experiments.deploy.server import Tell
from fedmeta import facts
from fedmeta.config import Config
from fedmeta.problem import build
from strategies.events import RoundDone


def ready(
    deployment: Deployment, config: Config | None, given: Path | None, name: str, resume: str
) -> Plan:
    """The folder of a run, new or left.

    Raises:
        DeployError: neither or both are asked for, or there are no facts.
        ConfigError: what cannot be run.
    """
    if resume or config is None:
        return runs.again(deployment, resume)
    path = (given or deployment.folder / runs.FACTS).expanduser()
    if not path.is_file():
        raise DeployError(
            f"no facts of the data, {str(path)!r}: nobody sees all users' data, so the server has"
            f" to be told of the classes and the features. `fedmeta deploy facts"
            f" {deployment.folder} CONFIG` writes them from public data of the same kind"
        )
    return runs.plan(deployment, config, facts.read(path), name)


def run(
    deployment: Deployment, plan: Plan, tell: Tell, quiet: bool = False
) -> tuple[dict[str, Any], str]:
    """Run it, and wait for its end: the summary, and the table as text.

    Raises:
        ProcessError: it failed, or the SuperLink is gone; how to go on.
    """
    number = runs.begin(deployment, plan, tell)
    config = settings.read(plan.folder / "config.toml")
    with progress.Display(quiet=quiet) as display:
        listener = display.run(config.run.name)
        for event in runs.follow(deployment, plan, number):
            if isinstance(event, RoundDone):
                listener(event)
            elif not quiet:
                tell(event.name)
    content = runs.summary(plan) | {"folder": str(plan.folder)}
    return content, (plan.folder / runs.TABLE).read_text(encoding="utf-8")


def write_facts(deployment: Deployment, config: Config) -> Path:
    """Write the facts of a config's data, which everybody will see."""
    path = deployment.folder / runs.FACTS
    facts.write(path, facts.facts_of(build(config)))
    return path
