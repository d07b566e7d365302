"""A run that is to be made, and how it may end."""

from pathlib import Path
from typing import NamedTuple

from fedmeta.config import Config
from strategies.errors import ClientError

EXPECTED = (ValueError, ClientError)
"""How a run may end that is no fault of ours; it ends no other run."""


class Job(NamedTuple):
    """A run that is to be made.

    Attributes:
        label: what it is called while it runs.
        config: what to run.
        folder: where its artefacts go.
        resume: whether it goes on with what is in the folder.
    """

    label: str
    config: Config
    folder: Path
    resume: bool = False
