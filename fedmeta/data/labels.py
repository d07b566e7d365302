"""Labels as they were found become class indices or regression targets."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError

MANY = 20
"""More different whole numbers than this are seldom names of classes."""


def encode(
    label: NDArray[Any], task: str, name: str
) -> tuple[NDArray[np.int64] | NDArray[np.float64], tuple[str, ...]]:
    """Class indices (int64) and class names, or targets (float64) and ``()`` for regression.

    ``task`` is ``auto`` (regression if the labels are floats of which one is not whole),
    ``classification`` or ``regression``. Classes are sorted; by number if all are integers.

    Raises:
        DataError: a missing label, a regression target that is no finite number.

    >>> encode(np.array(["10", "9", "9"]), "auto", "data")
    (array([1, 0, 0]), ('9', '10'))
    """
    gone = _missing(label)
    if gone.any():
        raise DataError(
            f"{name}: row {int(np.argmax(gone)) + 1} has no label ({int(gone.sum())} such rows); "
            "every example needs one: remove these rows or name another column with "
            "--set data.label-column=COLUMN"
        )
    if task == "regression" or (task == "auto" and _fractional(label)):
        return _targets(label, name), ()
    if label.dtype.kind == "f" and not _fractional(label):
        label = label.astype(np.int64)
    if label.dtype.kind in "iuf":  # sorted as numbers, named as text
        numbers, index = np.unique(label, return_inverse=True)
        return index.astype(np.int64), tuple(str(value) for value in numbers.tolist())
    texts = [str(value) for value in label.tolist()]
    classes = sort_names(set(texts))
    position = {value: i for i, value in enumerate(classes)}
    return np.array([position[value] for value in texts], dtype=np.int64), classes


def quantities(label: NDArray[Any]) -> bool:
    """Whether whole numbers rather are something to predict than names of classes.

    So it is where they are many, and not merely counted from 0 or 1 as names of classes are. The
    task has to be said all the same: ``auto`` takes whole numbers for classes.

    >>> quantities(np.arange(25, 347)), quantities(np.arange(77)), quantities(np.array([18, 80]))
    (True, False, False)
    """
    if label.dtype.kind not in "iuf" or _missing(label).any() or _fractional(label):
        return False
    values = np.unique(label)
    gapless = values[-1] - values[0] == len(values) - 1
    return len(values) > MANY and not (gapless and values[0] in (0, 1))


def sort_names(names: set[str]) -> tuple[str, ...]:
    """Class names in order: by number if all are integers, else as texts.

    >>> sort_names({"10", "9"}), sort_names({"10", "9", "b"})
    (('9', '10'), ('10', '9', 'b'))
    """
    if all(re.fullmatch(r"-?[0-9]+", value) for value in names):
        return tuple(sorted(names, key=lambda value: (int(value), value)))
    return tuple(sorted(names))


def _missing(label: NDArray[Any]) -> NDArray[np.bool_]:
    if label.dtype.kind == "f":
        return np.asarray(np.isnan(label))
    if label.dtype.kind in "OUT":
        return np.array([v is None or v == "" or v != v for v in label.tolist()], dtype=bool)
    return np.zeros(len(label), dtype=bool)


def _fractional(label: NDArray[Any]) -> bool:
    return label.dtype.kind == "f" and not bool(np.equal(np.floor(label), label).all())


def _targets(label: NDArray[Any], name: str) -> NDArray[np.float64]:
    rule = "regression needs finite numbers; set data.task=classification if these are classes"
    try:
        targets = label.astype(np.float64)  # float32 only once they are centred
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: a label is not a number ({error}); {rule}") from None
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(targets.astype(np.float32))  # what training computes in
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{name}: row {row + 1} has the label {label[row]}; {rule}")
    if np.ptp(targets) == 0:
        raise DataError(f"{name}: all labels are {targets[0]}; there is nothing to learn")
    return targets
