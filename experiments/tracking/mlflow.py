"""MLflow: a run in the experiment ``MLFLOW_EXPERIMENT_NAME`` at ``MLFLOW_TRACKING_URI``.

Without an address the runs go to files in ``mlruns``, in the folder of the process. Its client is
used as it is, since its fluent functions keep one active run for the whole process.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from experiments.tracking.tracker import Ended, Started

EXPERIMENT = "fedmeta"
LONGEST = 6000
"""Characters of a parameter that MLflow takes."""


class MLflow:
    """Metrics by round, parameters, tags, and the small files of the run."""

    def __init__(self, started: Started) -> None:
        """Find or make the experiment, and a run in it."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        if uri.startswith("file:"):
            # MLflow would rather have a database, for which its light package has no driver.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        # A server that is gone costs a run seconds; the default is several minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        home = known.experiment_id if known else self._client.create_experiment(name)
        tags = {"group": started.group, "folder": str(started.folder.absolute())}
        self._run = self._client.create_run(home, tags=tags, run_name=started.name).info.run_id
        settings = [Param(key, str(v)[:LONGEST]) for key, v in started.settings.items()]
        for at in range(0, len(settings), 100):  # as many as it takes at once
            self._client.log_batch(self._run, params=settings[at : at + 100])

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def result(self, ended: Ended) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self.log(ended.figures, 0)
        for name, text in ended.texts.items():
            self._client.set_tag(self._run, name, text)
        for path in ended.files:
            self._client.log_artifact(self._run, str(path))

    def close(self, finished: bool) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")
