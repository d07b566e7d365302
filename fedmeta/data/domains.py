"""The domain of each example: a language, a community, a site, a problem."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError, Raw, missing_column


def numbered(
    values: NDArray[Any], column: str, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each example's domain, and the domains' names in order.

    Raises:
        DataError: an example without a domain.

    >>> numbered(np.array(["pt", "de", "pt"]), "lang", "data")
    (array([1, 0, 1]), ('de', 'pt'))
    """
    found = values.tolist()
    gone = [value is None or value == "" or value != value for value in found]
    if any(gone):
        raise DataError(
            f"{name}: row {gone.index(True) + 1} has no domain (column {column!r}); every example"
            " needs one: fill or remove these rows, or set data.domain-column=''"
        )
    names, code = np.unique([str(value) for value in found], return_inverse=True)
    return code.astype(np.int64), tuple(names.tolist())


def without_domains(raw: Raw, column: str, known: tuple[str, ...]) -> DataError:
    """The error for a domain column asked of a source that has none of that name."""
    return missing_column(raw.name, "domain", column, "domain-column", known)


def used(
    domain: NDArray[np.int64] | None, domains: tuple[str, ...]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """The same, without domains that no example has."""
    if domain is None:
        return None, ()
    codes, place = np.unique(domain, return_inverse=True)
    return place.astype(np.int64), tuple(domains[code] for code in codes)
