"""Values for JSON. By itself, so that a command that answers at once loads nothing else."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """A value that JSON can hold: tuples become lists, NaN and infinity null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
