"""A user's own file, read as the run's data were: inputs, labels, and what the file says of him."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.serving.needs import Needs
from experiments.serving.opened import Opened
from fedmeta import seeding
from fedmeta.backbones.live import Live
from fedmeta.config import ConfigError
from fedmeta.data.files import TABLES, read_frame
from fedmeta.data.labels import encode
from fedmeta.data.raw import Raw, nearest
from fedmeta.data.tables import from_frame
from fedmeta.params import DOMAIN, KEY
from fedmeta.population import scaled
from fedmeta.types import Examples

if TYPE_CHECKING:
    import pandas as pd

NOBODY = "user"
"""The id of a user whose file does not name him."""


class Mine(NamedTuple):
    """One user's examples, in the order of his file.

    Attributes:
        user: his id.
        items: texts, or numbers ``(N, ...)``.
        label: as found, ``(N,)``; None where none were asked for.
        domains: the name of each example's domain; None: not known.
    """

    user: str
    items: list[str] | NDArray[np.float32]
    label: NDArray[Any] | None
    domains: list[str] | None


def read(opened: Opened, path: Path, user: str | None, labelled: bool) -> Mine:
    """The examples of one user in a table, by the column names of the run.

    Args:
        opened: the run.
        path: ``.jsonl``, ``.csv`` or ``.parquet``, each also ``.gz``.
        user: whose rows; None: the file is one user's.
        labelled: whether labels are needed.

    Raises:
        ConfigError: no such file or user, or several users and none named.
        DataError: a table that cannot be used.
    """
    columns = opened.config.data
    table = _table(opened, path)
    name, frame = _rows_of(table, opened, path, user)
    if labelled and columns.label_column not in table:
        names = [str(name) for name in table.columns]
        raise ConfigError(
            f"--data {str(path)!r}: no label column {columns.label_column!r}; columns found:"
            f" {', '.join(names)}{nearest(columns.label_column, names)}; the run takes labels from"
            " a column of that name, so rename the file's"
        )
    if not labelled and columns.label_column not in frame:
        frame = frame.assign(**{columns.label_column: 0})
    domain = columns.domain_column or "domain"
    keep = domain if opened.needs.domains and domain in frame else ""
    alone = {"tasks": "user", "split_column": "", "fold_column": "", "class_split_column": ""}
    plain = columns.model_copy(update=alone | {"domain_column": keep})
    raw = from_frame(frame, plain, path.name)
    items: list[str] | NDArray[np.float32]
    if isinstance(raw.items, np.ndarray):
        items = raw.items[raw.item]
    else:
        items = [raw.items[at] for at in raw.item.tolist()]
    check(items, opened.needs, path.name)
    return Mine(name, items, raw.label if labelled else None, _named_domains(raw))


def _table(opened: Opened, path: Path) -> "pd.DataFrame":
    if not path.is_file():
        what = "a folder; name the file in it" if path.is_dir() else "no such file; check the path"
        raise ConfigError(f"--data {str(path)!r}: {what}")
    if not path.name.lower().removesuffix(".gz").endswith(tuple(TABLES)):
        raise ConfigError(
            f"--data {str(path)!r}: expected a table, a file that ends in {', '.join(TABLES)}"
            " (or these with .gz)"
        )
    frame = read_frame(path, opened.config.data)
    if not len(frame):
        raise ConfigError(f"--data {str(path)!r}: the table has no rows; one example is needed")
    return frame


def _rows_of(
    frame: "pd.DataFrame", opened: Opened, path: Path, user: str | None
) -> tuple[str, "pd.DataFrame"]:
    column = opened.config.data.user_column
    if column not in frame:
        name = user or NOBODY
        return name, frame.assign(**{column: name})
    ids = frame[column].astype(str)
    known = list(dict.fromkeys(ids))
    if user is None and len(known) > 1:
        raise ConfigError(
            f"--data {str(path)!r} has {len(known)} users in column {column!r}; a head is one"
            f" user's: name him with --user, such as --user {known[0]}"
        )
    wanted = known[0] if user is None else user
    if wanted not in known:
        some = ", ".join(known[:5])
        raise ConfigError(
            f"--user {wanted!r}: no row of {str(path)!r} is his; its users: {some}"
            + (" ..." if len(known) > 5 else "")
        )
    return wanted, frame[ids == wanted].reset_index(drop=True)


def _named_domains(raw: Raw) -> list[str] | None:
    return None if raw.domain is None else [raw.domains[at] for at in raw.domain.tolist()]


def check(items: list[str] | NDArray[np.float32], needs: Needs, name: str) -> None:
    """Refuse inputs that are not what the run's model takes.

    Raises:
        ConfigError: texts for numbers or the reverse, another width, numbers that are not finite.
    """
    if isinstance(items, list):
        if needs.modality != "text":
            raise ConfigError(
                f"{name} holds texts, and the run takes {list(needs.shape)} numbers; give features"
            )
        return
    if needs.modality == "text":
        raise ConfigError(f"{name} holds numbers, and the run takes texts; give a text column")
    if items.shape[1:] != needs.shape:
        raise ConfigError(
            f"{name} has {list(items.shape[1:])} numbers for an example, and the run takes"
            f" {list(needs.shape)}; give the columns of the run's data, in their order"
        )
    if not np.isfinite(items).all():
        raise ConfigError(f"{name}: features must be finite float32 numbers; correct the rows")


def features(opened: Opened, backbone: Live, items: list[str] | NDArray[np.float32]) -> Tensor:
    """Features ``(N, D)`` of inputs, in the units of the run."""
    found = (
        backbone.encode(items)
        if isinstance(items, list)
        else np.asarray(items, dtype=np.float32).reshape(len(items), -1)
    )
    return torch.from_numpy(scaled(found, opened.needs.scaling))


def support(
    opened: Opened, backbone: Live, mine: Mine, name: str
) -> tuple[Examples, tuple[str, ...]]:
    """A user's examples as a stacked support set of one, and the names of his classes.

    Raises:
        ConfigError: labels that the run's model cannot give.
        DataError: missing labels.
    """
    if mine.label is None:
        raise ValueError("these examples were read without labels")
    x, needs = features(opened, backbone, mine.items), opened.needs
    weight = x.new_full((1, len(x)), 1.0 / len(x))
    if needs.task == "regression":
        try:
            target = (mine.label.astype(np.float64) - needs.centre) / needs.scale
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{name}: a label is not a number ({error}); the run predicts numbers"
            ) from None
        if not np.isfinite(target).all():
            raise ConfigError(f"{name}: labels must be finite numbers; correct the rows")
        y = torch.from_numpy(target.astype(np.float32))
        return Examples(x[None], y[None, None], weight), ()
    index, found = encode(mine.label, "classification", name)
    classes = found if needs.renamed else needs.classes
    if len(classes) > needs.outputs:
        raise ConfigError(
            f"{name}: {len(classes)} classes, and the run's model tells {needs.outputs} apart;"
            " leave some out"
        )
    unknown = [value for value in found if value not in classes]
    if unknown:
        raise ConfigError(
            f"{name}: the label {unknown[0]!r} is none of the run's classes:"
            f" {', '.join(classes[:20])}; correct or remove these rows"
        )
    place = np.array([classes.index(value) for value in found])[index]
    one_hot = x.new_zeros(needs.outputs, len(x))
    one_hot[torch.from_numpy(place), torch.arange(len(x))] = 1.0
    return Examples(x[None], one_hot[None], weight), classes


def facts(opened: Opened, mine: Mine) -> dict[str, Tensor]:
    """What the method may know of the user beside his examples, ``(1,)`` each.

    Raises:
        ConfigError: it needs his domain, and the file does not say it.
    """
    wanted, out = opened.method.needs, {}
    if "domains" in wanted:
        out[DOMAIN] = torch.tensor([_domain(opened, mine)])
    if "key" in wanted:
        stream = seeding.key(opened.config.run.seed, "own")
        key = seeding.scores(stream, seeding.keys((mine.user,), "user"), np.zeros(1, np.int64))
        out[KEY] = torch.from_numpy(key.view(np.int64))
    return out


def _domain(opened: Opened, mine: Mine) -> int:
    """The number of the domain of most of his examples; of equals the first."""
    known = opened.needs.domains
    named = f"method {opened.method.name!r} needs the user's domain"
    if mine.domains is None:
        column = opened.config.data.domain_column or "domain"
        raise ConfigError(
            f"{named}, and his file has no column {column!r}; add it, with one of"
            f" {', '.join(known)} in each row"
        )
    unknown = [name for name in mine.domains if name not in known]
    if unknown:
        raise ConfigError(f"{named}: {unknown[0]!r} is none of the run's: {', '.join(known)}")
    places = [known.index(name) for name in mine.domains]
    return int(np.bincount(places).argmax())
