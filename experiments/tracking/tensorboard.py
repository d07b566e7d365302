"""TensorBoard: event files in the run's folder; ``tensorboard --logdir runs`` shows them all."""

import shutil
from collections.abc import Mapping

from experiments.tracking.tracker import Ended, Started

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars by round; figures of the end at step 0; the config and digests as texts."""

    def __init__(self, started: Started) -> None:
        """What a process before a resume has written is told again, so its files are removed."""
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(started.folder / FOLDER, ignore_errors=True)
        self._writer = SummaryWriter(str(started.folder / FOLDER))
        rows = "".join(f"| {key} | {value} |\n" for key, value in started.settings.items())
        self._text("config", f"| key | value |\n|---|---|\n{rows}")

    def _text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def result(self, ended: Ended) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        for name, value in ended.figures.items():
            self._writer.add_scalar(name, value, 0)
        for name, text in ended.texts.items():
            self._text(name, text)

    def close(self, finished: bool) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self._writer.close()
