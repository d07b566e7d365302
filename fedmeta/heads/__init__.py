"""The small models that users adapt: a head is one function and one line in HEADS."""

from collections.abc import Callable

from fedmeta.heads.head import Head, Tail
from fedmeta.heads.linear import linear
from fedmeta.heads.mlp import mlp

HEADS: dict[str, Callable[[int, int, int], Head]] = {"linear": linear, "mlp": mlp}
"""``HEADS[name](features, outputs, hidden)``."""

__all__ = ["HEADS", "Head", "Tail", "linear", "mlp"]
