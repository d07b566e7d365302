"""The cells of a frontier, run side by side; what a resumed frontier has already found stays."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments import artifacts, settings
from experiments.comparison import Listeners
from experiments.epsilon import heads
from experiments.frontier import asked as axes
from experiments.frontier.asked import Asked, label
from experiments.frontier.cells import Cell, Cells, LeftOut, cells
from experiments.frontier.evidence import audits
from experiments.frontier.figures import figures
from experiments.jobs import Job
from experiments.running import Encoded, prepare
from experiments.selection import with_method
from experiments.side_by_side import ended
from fedmeta import unread
from fedmeta.config import Config
from fedmeta.data.store import UserStore
from fedmeta.metrics import METRICS
from fedmeta.problem import build
from strategies import checkpoint
from strategies.errors import ClientError
from strategies.events import ignore

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Frontier(NamedTuple):
    """A frontier that was run: its folder and the content of its ``frontier.json``."""

    folder: Path
    content: dict[str, Any]

    @property
    def users(self) -> pd.DataFrame:
        """A row for each run, split and user, as in ``frontier.parquet``."""
        return pd.read_parquet(self.folder / "frontier.parquet")

    def plot_frontier(self) -> "Figure":
        """The measure, its worst tenth and who is worse off, against epsilon."""
        from experiments.frontier import pictures

        return pictures.frontier(self.content)

    def _repr_html_(self) -> str:
        """The tables and sentences of the command, for notebooks."""
        from experiments import tables
        from experiments.frontier import report

        return tables.html(report.table(self))


def run(
    config: Config,
    asked: Asked,
    out: Path | None = None,
    listeners: Listeners = lambda label: ignore,
    encoded: Encoded | None = None,
    resume: Path | None = None,
    finished: Callable[[int, int], None] = lambda done, total: None,
) -> Frontier:
    """Run every cell that can be run, and write ``frontier.parquet`` and ``frontier.json``.

    Args:
        config: of all runs; its method, seed, and unit, mechanism and noise of its privacy are
            replaced.
        asked: methods, mechanisms, epsilons and seeds.
        out: folder, new or empty; each run has a folder in it.
        listeners: gives a listener for each run.
        encoded: told about the encoding of texts.
        resume: folder of a frontier that was left; it may have more axes now, but not fewer.
        finished: told (runs done, runs to do) after each run of this process.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run; no private cell is legal.
        CheckpointError: checkpoints that are damaged, or another config's.
    """
    if resume is None:
        artifacts.check_folder(out or config.run.out)
    else:
        axes.same(axes.left(resume), asked, resume)
    began = time.perf_counter()
    # Local fits whatever the data and the head are, and without privacy: only these are checked.
    bare = with_method(config.model_copy(update={"privacy": type(config.privacy)()}), "local")
    backbone_s = prepare(bare, encoded)
    store = build(bare).population.store
    unread.check(config, asked.methods, store.task)
    found = cells(config, asked)
    if resume is None:
        folder = artifacts.make_folder(out or config.run.out, config.run.name or "frontier")
        artifacts.write_config(folder, config)
    else:
        folder = artifacts.reopen(resume)
    artifacts.pin(folder, config, store, resume is not None)
    artifacts.write_json(folder / axes.FILE, asked._asdict())
    with artifacts.hold(folder):
        to_do = [cell for cell in found.run if not _done(folder / cell.name, cell.config)]
        failed: list[LeftOut] = []
        for cell in to_do:
            (folder / cell.name).parent.mkdir(exist_ok=True)
        homes = [folder / cell.name for cell in to_do]
        jobs = [
            Job(cell.name, cell.config, home, home.exists())
            for cell, home in zip(to_do, homes, strict=True)
        ]
        made = ended(config.run, jobs, listeners, began, backbone_s)
        for over, one in enumerate(made, start=1):
            if isinstance(one.error, ClientError):
                cell = to_do[one.number]
                reason = f"failed: {str(one.error).strip().splitlines()[-1]}"
                failed.append(LeftOut(cell.mechanism, cell.method, cell.epsilon, reason))
            elif one.error is not None:
                raise one.error
            finished(over, len(to_do))
        return _finish(folder, config, asked, found, failed, store)


def _done(home: Path, config: Config) -> bool:
    """Whether a cell was run to its end; one that was run otherwise is an error."""
    if not (home / "summary.json").is_file():
        return False
    before = checkpoint.decisive(settings.read(home / "config.toml"))
    checkpoint.same(before, checkpoint.decisive(build(config).config), home)
    return True


def _finish(
    folder: Path,
    config: Config,
    asked: Asked,
    found: Cells,
    failed: list[LeftOut],
    store: UserStore,
) -> Frontier:
    metric = METRICS[store.task]
    lost = {(one.mechanism, one.method, one.epsilon) for one in failed}
    # Of a cell with a seed that failed the others are not shown either: seeds would not be paired.
    ran = [cell for cell in found.run if (cell.mechanism, cell.method, cell.epsilon) not in lost]
    frame = pd.concat([_rows(folder / cell.name, cell, metric.name) for cell in ran])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "frontier.parquet")
    content = figures(frame, metric, asked, config.evaluation.bootstrap) | {
        "seeds": sorted(set(frame["seed"].tolist())),
        "support": config.data.support,
        "delta": config.privacy.delta,
        "extrapolated": config.privacy.noise_cohort_size,
        "users": {split: len(store.users(split)) for split in ("train", "valid", "test")},
        "rounds": config.federation.rounds,
        "noise": _noise(config, asked, found),
        "audit": audits(folder, asked, found),
        "left_out": [
            one._asdict() | {"epsilon": None if one.epsilon is None else label(one.epsilon)}
            for one in (*found.left_out, *failed)
        ],
    }
    artifacts.write_json(folder / "frontier.json", content)
    return Frontier(folder, content)


def _rows(home: Path, cell: Cell, measure: str) -> pd.DataFrame:
    """Validation and test users of a cell: the measure before and after adaptation."""
    users = pd.read_parquet(home / "users.parquet")
    summary = json.loads((home / "summary.json").read_text(encoding="utf-8"))
    claim = summary["privacy"]
    ends = users.set_index(["split", "user", "k"])[measure].unstack("k")
    first, last = users["k"].min(), users["k"].max()
    privacy = cell.config.privacy
    return pd.DataFrame(
        {
            "mechanism": cell.mechanism,
            "method": cell.method,
            "epsilon": cell.epsilon,
            "claimed": math.inf if claim is None else claim["epsilon"],
            "noise_multiplier": privacy.noise_multiplier,
            "seed": cell.seed,
            "split": ends.index.get_level_values("split"),
            "user": ends.index.get_level_values("user"),
            "before": ends[first].to_numpy(),
            "after": ends[last].to_numpy(),
        }
    )


def _noise(config: Config, asked: Asked, found: Cells) -> dict[str, dict[str, list[Any]]]:
    """Noise over clip by size of head, for each mechanism and epsilon (``z sqrt(d) / m``).

    The noise is that of the first method that the mechanism can be had for.
    """
    noise: dict[str, dict[str, list[Any]]] = {}
    for mechanism in asked.mechanisms:
        first = next((cell.method for cell in found.run if cell.mechanism == mechanism), None)
        if first is None:
            continue
        for cell in found.run:
            if (cell.mechanism, cell.method) == (mechanism, first):
                problem = build(cell.config)
                width, outputs = problem.population.features.shape[1], problem.population.outputs
                rows = heads(cell.config, problem.privacy, width, outputs)
                noise.setdefault(mechanism, {})[label(cell.epsilon)] = rows
    return noise
