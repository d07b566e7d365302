"""What runs have found, to be looked at: folders, figures, tables of users and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.verdict import Scores, Verdict
from fedmeta.config import ConfigError
from fedmeta.metrics import METRICS, Metric

if TYPE_CHECKING:  # all take a while to import: a run needs no pictures, and epsilon no Flower
    import pandas as pd
    from matplotlib.figure import Figure

    from strategies.app import Outcome


class Run(NamedTuple):
    """A finished run: where its artefacts are, what it found, and the summary of that."""

    folder: Path
    outcome: Outcome
    summary: dict[str, Any]

    @property
    def metric(self) -> Metric:
        """What users are scored by."""
        return METRICS[self.outcome.problem.population.store.task]

    @property
    def users(self) -> pd.DataFrame:
        """A row for each judged user and K, as in ``users.parquet``."""
        import pandas as pd

        return pd.read_parquet(self.folder / "users.parquet")

    def plot_rounds(self) -> Figure:
        """The measure of validation users over the rounds."""
        from experiments import plots

        return plots.rounds({self.summary["name"]: self.outcome.history}, self.metric)

    def plot_gains(self) -> Figure:
        """What each test user gained by personalizing, sorted: who is better off, and who worse.

        Raises:
            ConfigError: the start of the method is not made to be used as it is.
        """
        from experiments import plots

        if self.summary["test"]["gain"] is None:
            raise ConfigError(
                f"gains of {self.summary['method']!r}: its start is not made to be used without"
                " adaptation, and over it all would gain; compare() holds it against one model"
                " for all"
            )
        return plots.gains(plots.over_start(self.users, self.metric), self.metric)

    def plot_shots(self) -> Figure:
        """The measure of test users by number of their examples, and of the worst tenth."""
        from experiments import plots

        return plots.shots(self.users, self.metric)

    def _repr_html_(self) -> str:
        """The table of the command, for notebooks."""
        from experiments import tables

        return tables.html(tables.run_table(self))


class Row(NamedTuple):
    """One method over all seeds.

    Attributes:
        summary: figures averaged over the seeds; intervals over users and seeds.
        scores: what the verdict and the paired differences are made of.
    """

    summary: dict[str, Any]
    scores: Scores


class Comparison(NamedTuple):
    """What ``compare`` found, and where it is."""

    folder: Path
    metric: Metric
    rows: dict[str, Row]
    content: dict[str, Any]
    verdict: Verdict

    @property
    def users(self) -> pd.DataFrame:
        """A row for each method, seed, judged user and K, as in the runs' ``users.parquet``."""
        import pandas as pd

        seeds = self.content["seeds"]
        homes = [self.folder / f"{name}-seed{seed}" for name in self.rows for seed in seeds]
        parts = [pd.read_parquet(home / "users.parquet") for home in homes]
        return pd.concat(parts, ignore_index=True)

    def plot_methods(self) -> Figure:
        """Gain of each method over the best one model for all, with its paired interval."""
        from experiments import plots

        return plots.methods(self.content, self.metric)

    def plot_gains(self, method: str = "") -> Figure:
        """What each test user gained with a method over the best one model for all, sorted.

        Args:
            method: its name; "": the method of the verdict.

        Raises:
            ConfigError: a method that was not compared, or there is no one model for all.
        """
        from experiments import plots

        return plots.gains(plots.over_reference(self, method), self.metric)

    def plot_shots(self) -> Figure:
        """The measure of test users by number of their examples, a line for each method."""
        from experiments import plots

        return plots.shots(self.users, self.metric)

    def _repr_html_(self) -> str:
        """The table and the verdict of the command, for notebooks."""
        from experiments import tables

        return tables.html(tables.compare_table(self))
