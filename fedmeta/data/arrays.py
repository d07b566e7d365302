"""Numpy archives (``.npz``): features or images, labels and users as arrays."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.domains import numbered
from fedmeta.data.images import flat_images
from fedmeta.data.raw import DataError, Raw, missing_column
from fedmeta.data.splits import named
from fedmeta.sections.data import DataConfig


def read_npz(path: Path, config: DataConfig) -> Raw:
    """Raw columns of an archive.

    ``X`` ``(E, F)`` or ``images`` ``(E, ...)``; the label column's name, or ``y``, ``label`` or
    ``labels`` ``(E,)``; ``user`` ``(E,)``. Optional: ``user_split`` (0, 1 or 2, indexed by the
    user's number), or a split per example, the item fold and the domain of each example. Where
    examples share inputs, ``items`` ``(I, F)`` stands for ``X``, and ``item`` ``(E,)`` gives a row
    of it.

    Raises:
        DataError: no readable archive, pickled objects, a missing array, lengths that differ.
    """
    arrays = _load(path)
    name = path.name
    if config.tasks == "episodic":  # which needs no users, nor splits of them
        arrays.pop(config.user_column, None)
        arrays.pop(config.split_column, None)
    else:
        _first(arrays, (config.user_column,), "user", "user-column", name)
    inputs = (config.image_column, "X", "images", "items")
    x_name, x = _first(arrays, inputs, "input", "image-column", name)
    y_name, label = _first(
        arrays, (config.label_column, "y", "label", "labels"), "label", "label-column", name
    )
    # Of the label's length: were it another than the inputs', the check below says so.
    user = arrays.get(config.user_column, np.zeros(label.shape[:1], dtype=np.int64))
    shared = _shared(arrays, x, name) if x_name == "items" else None
    first, each = (x_name, x) if shared is None else ("item", shared)
    per_example = {first: each, y_name: label, config.user_column: user}
    if config.domain_column and config.domain_column not in arrays:
        raise missing_column(name, "domain", config.domain_column, "domain-column", arrays)
    for column in (
        config.split_column,
        config.fold_column,
        config.domain_column,
        config.class_split_column,
    ):
        if column in arrays:
            per_example[column] = arrays[column]
    for title, array in per_example.items():
        flat = title == x_name or array.ndim == 1
        if not flat or array.ndim == 0 or len(array) != len(each):
            raise DataError(
                f"{name}: array {title!r} has shape {array.shape}; one entry for each of the "
                f"{len(each) if each.ndim else 0} examples of {first!r} is needed"
            )
    if x.dtype.kind not in "biuf":
        raise DataError(f"{name}: array {x_name!r} has dtype {x.dtype}; numbers are needed")
    numbers, code = np.unique(user, return_inverse=True)
    ids = tuple(str(value) for value in numbers.tolist())
    code = code.astype(np.int64)
    split = _split(arrays, numbers, code, ids, config, name)
    fold = arrays.get(config.fold_column)
    if fold is not None and fold.dtype.kind not in "iu":
        raise DataError(f"{name}: array {config.fold_column!r} has dtype {fold.dtype}; not integer")
    home = arrays.get(config.domain_column)
    domain, domains = (None, ()) if home is None else numbered(home, config.domain_column, name)
    with np.errstate(over="ignore"):  # too large for float32: reported by prepare, as infinite
        features = (
            flat_images(x) if x.ndim > 2 or x_name not in ("X", "items") else x.astype(np.float32)
        )
    return Raw(
        name=name,
        ids=ids,
        user=code,
        items=features.reshape(len(x), -1),
        item=np.arange(len(x), dtype=np.int64) if shared is None else shared,
        label=label,
        split=split,
        fold=None if fold is None else fold.astype(np.int64),
        domain=domain,
        domains=domains,
        class_split=arrays.get(config.class_split_column),
        columns=_feature_names(arrays, features),
    )


def _shared(arrays: Mapping[str, NDArray[Any]], x: NDArray[Any], name: str) -> NDArray[np.int64]:
    """The array ``item``: which row of the inputs each example refers to."""
    item, rows = arrays.get("item"), len(x) if x.ndim else 0
    if item is None or item.dtype.kind not in "iu" or not ((item >= 0) & (item < rows)).all():
        found = "is missing" if item is None else f"is {item.dtype} {item.shape}"
        raise DataError(
            f"{name}: array 'item' {found}; with 'items' it must give a row of them for each "
            f"example, as a whole number below {rows}"
        )
    return item.astype(np.int64)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path}: a single array; save several with numpy.savez")
        with archive:
            return {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        remedy = "convert its object arrays (texts, ragged lists) to plain numbers or strings"
        raise DataError(
            f"{path}: not an archive of plain arrays ({error}); pickled objects are never "
            f"loaded: {remedy}"
        ) from None


def _first(
    arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], what: str, key: str, title: str
) -> tuple[str, NDArray[Any]]:
    for name in names:
        if name in arrays:
            return name, arrays[name]
    raise missing_column(title, what, " | ".join(dict.fromkeys(names)), key, arrays)


def _split(
    arrays: Mapping[str, NDArray[Any]],
    numbers: NDArray[Any],
    code: NDArray[np.int64],
    ids: tuple[str, ...],
    config: DataConfig,
    name: str,
) -> NDArray[np.int8] | None:
    if config.split_column in arrays:
        return named(arrays[config.split_column], code, ids, config.split_column, name)
    split = arrays.get("user_split")
    if split is None or not config.split_column or config.tasks == "episodic":
        return None
    numbered = numbers.dtype.kind in "iu" and numbers.min() >= 0 and numbers.max() < len(split)
    if not numbered or split.dtype.kind not in "iu" or not np.isin(split, (0, 1, 2)).all():
        raise DataError(
            f"{name}: 'user_split' {split.dtype} {split.shape} does not give 0 (train), 1 (valid) "
            f"or 2 (test) for user numbers {numbers.min()} to {numbers.max()}; correct it, or "
            "ignore it with --set data.split-column=''"
        )
    return np.asarray(split[numbers], dtype=np.int8)


def _feature_names(
    arrays: Mapping[str, NDArray[Any]], features: NDArray[np.float32]
) -> tuple[str, ...]:
    names = arrays.get("feature_names")
    if names is None or names.shape != features.shape[1:]:
        return ()
    return tuple(str(value) for value in names.tolist())
