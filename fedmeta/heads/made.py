"""Heads whose output layer is made of a user's own support set, and never learned nor sent.

What is made, and how, is the method's (``fedmeta.methods.shown``, ``fedmeta.methods.ridge``); what
stands here is the trunk, that of `mlp`. So `proto` with the method `protonet` is `mlp` with it, to
the bit, and so is `ridge` with `ridge`: the name says that the output layer is not the head's, and
a method that would descend on it is refused.
"""

from dataclasses import replace

from fedmeta.heads.head import USUAL, Given, Head
from fedmeta.heads.mlp import mlp


def proto(
    features: int, outputs: int, hidden: int = 64, experts: int = 0, given: Given = USUAL
) -> Head:
    """A hidden layer under the prototypes of the support set; with `protonet`, `protomaml`.

    Args:
        features: width D of the features.
        outputs: classes.
        hidden: hidden units.
        experts: not used.
        given: `depth` of the options.
    """
    return replace(mlp(features, outputs, hidden, given=given), name="proto")


def ridge(
    features: int, outputs: int, hidden: int = 64, experts: int = 0, given: Given = USUAL
) -> Head:
    """A hidden layer under a ridge regression on the support set; with the method `ridge`.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: hidden units.
        experts: not used.
        given: `depth` of the options.
    """
    return replace(mlp(features, outputs, hidden, given=given), name="ridge")
