"""What a tracker is: a program of others that runs are told to, where it was asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from fedmeta.config import Scalar


class Started(NamedTuple):
    """A run that begins.

    Attributes:
        name: of the run's folder.
        group: of the folder around it: the runs of a comparison have the same.
        folder: where the run's artefacts are.
        settings: the config, dotted keys.
    """

    name: str
    group: str
    folder: Path
    settings: Mapping[str, Scalar]


class Ended(NamedTuple):
    """What a run has found: figures by path (`test/after/accuracy_macro`), texts, and files."""

    figures: Mapping[str, float]
    texts: Mapping[str, str]
    files: Sequence[Path]


class Tracker(Protocol):
    """Takes figures over all users, never those of one: these stay in the run's folder.

    Every function may raise whatever it likes; the run goes on without the tracker then.
    """

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Figures of a round."""
        ...

    def result(self, ended: Ended) -> None:
        """Figures of the finished run."""
        ...

    def close(self, finished: bool) -> None:
        """The last call; not ``finished`` where the run broke off."""
        ...


Open = Callable[[Started], Tracker]
