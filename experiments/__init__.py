"""Configs, runners and the command.

``from experiments import simulate, compare`` is for notebooks and scripts (:mod:`experiments.api`);
what they need takes seconds to import, so that it is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api import compare, simulate

__all__ = ["compare", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from experiments import api

    return getattr(api, name)
