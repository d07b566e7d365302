"""The small models that users adapt: a head is one function and one line in HEADS."""

from typing import Protocol

from fedmeta.heads.conv4 import conv4
from fedmeta.heads.gru import gru
from fedmeta.heads.head import USUAL, Given, Head, HeadError, Tail
from fedmeta.heads.in_loop import lora, prompt, whole
from fedmeta.heads.linear import linear
from fedmeta.heads.made import proto, ridge
from fedmeta.heads.mlp import mlp
from fedmeta.heads.mmoe import mmoe
from fedmeta.heads.scale_shift import scale_shift
from fedmeta.heads.transformer import ph_transformer


class MakeHead(Protocol):
    """Every head is made from the same arguments; each uses what concerns it."""

    def __call__(
        self,
        features: int,
        outputs: int,
        hidden: int = ...,
        experts: int = ...,
        given: Given = ...,
    ) -> Head:
        """A head for features of a width, with so many outputs."""
        ...


HEADS: dict[str, MakeHead] = {
    "linear": linear,
    "mlp": mlp,
    "proto": proto,
    "ridge": ridge,
    "ph-transformer": ph_transformer,
    "mmoe": mmoe,
    "scale-shift": scale_shift,
    "lora": lora,
    "prompt": prompt,
    "conv4": conv4,
    "gru": gru,
    "encoder": whole,
}

TAKES = {
    "ph-transformer": "tokens",
    "lora": "ids",
    "prompt": "ids",
    "encoder": "ids",
    "conv4": "numbers",
    "gru": "numbers",
}
"""What a head wants of an example where that is not one vector: the vectors of its tokens, their
numbers (the encoder is in the loop), or numbers that no encoder has seen (pixels, characters)."""

MADE = ("proto", "ridge")
"""Heads whose output layer a method makes (:attr:`fedmeta.methods.Method.makes`)."""

__all__ = [
    "HEADS",
    "MADE",
    "TAKES",
    "USUAL",
    "Given",
    "Head",
    "HeadError",
    "Tail",
    "linear",
    "mlp",
    "mmoe",
    "scale_shift",
]
