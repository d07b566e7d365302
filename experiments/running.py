"""One run: users on the chosen backend, Flower's ServerApp in this process, artefacts on disk."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict

from clients import ledger
from clients.app import app as client_app
from experiments import artifacts, settings, tracking
from experiments.audit.beside import audited
from experiments.backends import MakeGrid, check_backend, open_backend
from experiments.found import Run
from experiments.serving import needs
from experiments.summary import check_everybody, summarize
from fedmeta import generation, unread
from fedmeta.config import Config, ConfigError, flatten
from fedmeta.evaluation import shots_of
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.claim import check_budget
from fedmeta.problem import build
from fedmeta.turns import check_turns
from strategies import checkpoint
from strategies.app import Outcome, make_app
from strategies.events import Event, Listener, Resumed, RoundDone, ignore

Encoded = Callable[[int, int], None]


def simulate(
    config: Config,
    out: Path | None = None,
    listener: Listener = ignore,
    encoded: Encoded | None = None,
    resume: Path | None = None,
) -> Run:
    """Run a config and write its folder.

    Args:
        config: what to run.
        out: folder for the artefacts, new or empty; None: `run.out`.
        listener: told about rounds and phases.
        encoded: told (texts encoded, texts in all) while features are computed.
        resume: folder of a run that was left; it goes on after its last checkpoint and gives
            what it would have given.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run; nothing is left behind.
        CheckpointError: checkpoints that are damaged, another config's, or cannot be written.
        ClientError: a client failed; the folder keeps config, rounds and checkpoints so far.
    """
    began = time.perf_counter()
    if resume is not None:
        out = artifacts.reopen(resume)
    else:
        artifacts.check_folder(out or config.run.out)
    backbone_s = prepare(config, encoded)
    unread.check(config, [config.method.name], build(config).population.store.task)
    with open_backend(config.run, client_app) as make_grid:
        startup_s = time.perf_counter() - began - backbone_s
        timings = {"backbone_s": backbone_s, "startup_s": startup_s}
        return run_on(make_grid, config, out, listener, timings, resume is not None, alone=True)


def prepare(config: Config, encoded: Encoded | None = None) -> float:
    """Check the config and compute features before any worker starts; seconds it took.

    Workers then find the features in the cache, and bad input costs nothing but a message.
    """
    # Flower logs every empty round; what a user should see comes from the listeners.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    began = time.perf_counter()
    shots_of(config)
    check_backend(config.run)
    tracking.check(config)
    problem = build(config, encoded)
    check_budget(problem.config, problem.privacy)
    check_turns(problem)
    return time.perf_counter() - began


def run_on(
    make_grid: MakeGrid,
    config: Config,
    out: Path | None,
    listener: Listener,
    timings: dict[str, float],
    resume: bool = False,
    alone: bool = False,
) -> Run:
    """Run a config on workers that are up, and write its folder; go on with what is in ``out``.

    A run that does not stand alone is held against others, and needs all users judged.
    """
    problem = build(config)
    config = problem.config
    check_budget(config, problem.privacy)
    if resume and out is not None and (out / "config.toml").exists():
        folder = out
        _go_on(folder, config)
    else:
        name = config.run.name or config.method.name
        memory = _memory(Path(), config)
        if config.run.memory and memory.exists() and any(memory.iterdir()):
            raise ConfigError(
                f"run.memory = {config.run.memory!r}: {str(memory)!r} holds what users of another"
                " run own; name another folder, or go on with that run by --resume"
            )
        folder = artifacts.make_folder(out or config.run.out, name)
        artifacts.write_config(folder, config)
    with artifacts.hold(folder), tracking.following(config, folder) as follow:
        return _run_in(folder, make_grid, config, listener, timings, follow, alone)


def _go_on(folder: Path, config: Config) -> None:
    """Check that a run is gone on with as it was begun; without a checkpoint it begins anew."""
    before = settings.read(folder / "config.toml")
    checkpoint.same(checkpoint.decisive(before), checkpoint.decisive(config), folder)
    if not checkpoint.rounds(folder / "checkpoints"):
        _forget(_memory(folder, config))
        (folder / "rounds.jsonl").unlink(missing_ok=True)


def _forget(memory: Path) -> None:
    """Remove what users own, but not what they were charged."""
    for path in memory.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.startswith(ledger.FILE):
            path.unlink(missing_ok=True)


def _memory(folder: Path, config: Config) -> Path:
    """Where the users of a run keep what they own: no two runs share it."""
    if not config.run.memory:
        return (folder / "memory").absolute()
    name = f"{config.method.name}-seed{config.run.seed}"
    return (Path(config.run.memory).expanduser() / name).absolute()


def _run_in(
    folder: Path,
    make_grid: MakeGrid,
    config: Config,
    listener: Listener,
    timings: dict[str, float],
    follow: tracking.Following,
    alone: bool,
) -> Run:
    def tell(event: Event) -> None:
        if isinstance(event, RoundDone):
            artifacts.append_round(folder, event)
        if isinstance(event, Resumed):
            artifacts.rewrite_rounds(folder, event.history)
        follow(event)
        listener(event)

    began = time.perf_counter()
    outcomes: list[Outcome] = []
    run_config = flatten(config) | {"run.memory": str(_memory(folder, config))}
    server = make_app(outcomes.append, tell, folder / "checkpoints")
    grid = make_grid(run_config)
    server(grid, Context(1, 0, {}, RecordDict(), run_config))
    outcome = outcomes[0]
    if not alone:
        check_everybody(outcome)
    speed = timings | {
        "rounds_s": outcome.seconds,
        "wall_s": sum(timings.values()) + time.perf_counter() - began,
        "peak_rss_mb": grid.peak_rss_mb(),
    }
    return finish(folder, outcome, speed, config.run.backend, follow)


def finish(
    folder: Path,
    outcome: Outcome,
    speed: dict[str, float],
    backend: str,
    follow: tracking.Following,
) -> Run:
    """Write the model, the users' scores and the summary of a finished run, and tell of it."""
    summary = summarize(outcome, speed) | {"backend": backend}
    _own_up(folder, summary)
    run = outcome.problem.config.run
    if run.canaries and (claim := summary["privacy"]) and claim["epsilon"] is not None:
        config, privacy = outcome.problem.config, outcome.problem.privacy
        summary["audit"] = audited(config, privacy, run.canaries)
    artifacts.write_model(folder, generation.public(outcome.problem.method, outcome.meta))
    needs.write(folder, needs.needs_of(outcome.problem))
    artifacts.write_users(folder, artifacts.users_table(outcome))
    summary["notes"] += follow.done(folder, summary)
    artifacts.write_json(folder / "summary.json", summary)
    return Run(folder, outcome, summary)


def _own_up(folder: Path, summary: dict[str, Any]) -> None:
    """Tell the epsilon that was paid, where it is more than that of the run's rounds.

    In a deployment noise is fresh every time: rounds that were made again after a crash, since
    the last checkpoint, were released twice, and the ledger has both.
    """
    claim = summary["privacy"]
    if not claim or claim["epsilon"] is None or not (folder / ledger.FILE).exists():
        return
    kinds = {tuple(sorted(past.items())) for past in ledger.histories(folder).values()}
    paid = max((epsilon(ledger.total(dict(k)), claim["delta"]) for k in kinds), default=0.0)
    if paid > claim["epsilon"] * (1 + 1e-9):
        summary["notes"].append(
            f"epsilon is {paid:.3g} and not {claim['epsilon']:.3g}: the ledger has rounds that were"
            " released more than once, as after a crash"
        )
        claim["epsilon"] = paid
