"""Every source of users by its name or file ending: to add one is a file and a line here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.arrays import read_npz
from fedmeta.data.cross_domain import cross_domain
from fedmeta.data.cross_problem import cross_problem, problems_of
from fedmeta.data.digits import digits
from fedmeta.data.episodic import episodic
from fedmeta.data.files import TABLES, read_frame, read_table
from fedmeta.data.generalization import generalization
from fedmeta.data.hub import hub
from fedmeta.data.preferences import preferences
from fedmeta.data.prepare import prepare, raw_of
from fedmeta.data.raw import DataError, Raw, nearest
from fedmeta.data.sinusoid import sinusoid
from fedmeta.data.store import UserStore
from fedmeta.data.tables import inputs_of
from fedmeta.sections.data import DataConfig

SOURCES: dict[str, Callable[[DataConfig], Raw]] = {
    "preferences": preferences,
    "digits": digits,
    "sinusoid": sinusoid,
}
FILES: dict[str, Callable[[Path, DataConfig], Raw]] = {
    ".jsonl": read_table,
    ".jsonl.gz": read_table,
    ".csv": read_table,
    ".csv.gz": read_table,
    ".parquet": read_table,
    ".parquet.gz": read_table,
    ".npz": read_npz,
}
DATA: dict[str, str] = {
    "preferences": "generated: which of a pool of messages each user wants (text, two classes)",
    "digits": "scikit-learn's 1,797 handwritten digits, partitioned over users (ten classes)",
    "sinusoid": "generated: points of a sine of each user's own amplitude and phase (regression)",
    "hf:NAME": "a Hugging Face data set or folder, natural users or Flower's partitioners",
    "FILE.jsonl": "one example per line: user, text (or features, image), label; also .gz",
    "FILE.csv": "the same as a table with a header; also .gz",
    "FILE.parquet": "the same as a Parquet table; also .gz",
    "FILE.npz": "numpy arrays X or images, y, user, optionally user_split",
}


TASKS: dict[str, Callable[[Raw, DataConfig], UserStore]] = {
    "user": prepare,
    "cross-domain": cross_domain,
    "domain-generalization": generalization,
    "episodic": episodic,
}
"""Ways to make tasks of one source's examples; `cross-problem` takes several sources."""


def load(config: DataConfig) -> UserStore:
    """The users that ``data.source`` names, checked, filtered and split by ``data.tasks``.

    Raises:
        DataError: an unknown source, a missing file, or data that cannot be used.
    """
    if config.tasks == "cross-problem":
        sources = problems_of(config)
        found = [read(config.model_copy(update={"source": source})) for source in sources]
        return cross_problem(found, config)
    return TASKS[config.tasks](read(config), config)


def inputs(path: Path, config: DataConfig) -> tuple[str, ...] | NDArray[np.float32]:
    """The distinct inputs in a file, which needs neither users nor labels.

    Raises:
        DataError: a file that is not there, or has no such inputs.
    """
    if not path.is_file():
        raise DataError(f"data.public: no file {path}; check the path")
    if not path.name.lower().removesuffix(".gz").endswith(tuple(TABLES)):
        raise DataError(
            f"data.public = {str(path)!r}: expected a table, a file that ends in"
            f" {', '.join(TABLES)} (or these with .gz)"
        )
    found = inputs_of(read_frame(path, config), config, path.name)
    return tuple(found) if isinstance(found, list) else found


def wrap(store: UserStore, config: DataConfig) -> UserStore:
    """The examples of a store as tasks of another kind (all but `cross-problem`).

    Raises:
        DataError: examples that such tasks cannot be made of.
    """
    return TASKS[config.tasks](raw_of(store), config.model_copy(update={"task": store.task}))


def read(config: DataConfig) -> Raw:
    """The columns of ``data.source`` as they are, before users are filtered and split.

    Raises:
        DataError: an unknown source, a missing file, or a table that cannot be read.
    """
    source = config.source
    if source in SOURCES:
        return SOURCES[source](config)
    if source.startswith("hf:"):
        return hub(config)
    for ending, reader in FILES.items():
        if source.lower().endswith(ending):
            path = Path(source).expanduser()
            if not path.is_file():
                raise DataError(f"data.source: no file {source}; check the path")
            return reader(path, config)
    raise DataError(
        f"data.source = {source!r} is neither {', '.join(SOURCES)}, hf:NAME nor a file that ends "
        f"in {', '.join(FILES)}{nearest(source, SOURCES)}"
    )
