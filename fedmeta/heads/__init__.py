"""The small models that users adapt: a head is one function and one line in HEADS."""

from typing import Protocol

from fedmeta.heads.head import Head, Tail
from fedmeta.heads.linear import linear
from fedmeta.heads.mlp import mlp
from fedmeta.heads.mmoe import mmoe
from fedmeta.heads.scale_shift import scale_shift


class MakeHead(Protocol):
    """Every head is made from the same arguments; each uses what concerns it."""

    def __call__(self, features: int, outputs: int, hidden: int = ..., experts: int = ...) -> Head:
        """A head for features of a width, with so many outputs."""
        ...


HEADS: dict[str, MakeHead] = {
    "linear": linear,
    "mlp": mlp,
    "scale-shift": scale_shift,
    "mmoe": mmoe,
}

__all__ = ["HEADS", "Head", "Tail", "linear", "mlp", "mmoe", "scale_shift"]
