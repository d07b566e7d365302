"""Data sets of the Hugging Face hub or of a local folder, by natural or made users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmeta.data.raw import DataError, Raw
from fedmeta.data.tables import divided, from_frame
from fedmeta.sections.data import DataConfig

if TYPE_CHECKING:
    import pandas as pd


def hub(config: DataConfig) -> Raw:
    """Raw columns of ``hf:NAME``: a hub data set, or a folder (`Dataset.save_to_disk` or files).

    ``data.partitioner`` auto: by the user column where there is one (as Flower Datasets'
    ``NaturalIdPartitioner`` does), otherwise Dirichlet over ``data.users``. Class numbers are
    replaced by their names.

    Raises:
        DataError: a data set that cannot be loaded, an unknown split, a missing column.
    """
    name = config.source.removeprefix("hf:")
    table = _load(name, config)
    frame = _frame(table, config)
    natural = config.user_column in frame and config.partitioner == "auto"
    if not natural and config.partitioner != "natural" and config.tasks != "episodic":
        frame = divided(frame, config, name)
    return from_frame(frame, config, name)


def _load(name: str, config: DataConfig) -> Any:
    import datasets

    folder = Path(name)
    saved = any((folder / f).is_file() for f in ("state.json", "dataset_dict.json"))
    try:
        found = (
            datasets.load_from_disk(name)
            if saved
            else datasets.load_dataset(name, config.hf_subset or None)
        )
    except Exception as error:  # the libraries raise their HTTP client's errors, among others
        raise DataError(
            f"hf:{name} cannot be loaded ({type(error).__name__}: {error}); check the name, "
            "data.hf-subset and the network, or save the data where there is one with "
            "`Dataset.save_to_disk` and use --set data.source=hf:FOLDER"
        ) from error
    if isinstance(found, datasets.Dataset):
        return found
    if config.hf_split not in found:
        raise DataError(
            f"hf:{name}: no split {config.hf_split!r}; splits found: {', '.join(found)}; choose "
            "one with --set data.hf-split=SPLIT"
        )
    return found[config.hf_split]


def _frame(table: Any, config: DataConfig) -> pd.DataFrame:
    import datasets

    image, label = config.image_column, config.label_column
    pictures = isinstance(table.features.get(image), datasets.Image)
    plain = table.remove_columns([image]) if pictures else table
    frame: pd.DataFrame = plain.to_pandas()
    if pictures:
        frame[image] = [np.asarray(picture).tolist() for picture in table[image]]
    names = getattr(table.features.get(label), "names", None)
    if names is not None:  # -1 marks a missing class
        frame[label] = [names[int(c)] if c is not None and c >= 0 else None for c in frame[label]]
    return frame
