"""The content of a personal model's file: safetensors, and in words what it belongs to.

Nothing in it is executed when it is read. It is private: parameters that were fitted to a user's
examples, or (``kind`` memory) these examples' features and labels.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from safetensors.torch import save

from fedmeta.inner import Inner
from fedmeta.methods import Method
from fedmeta.personal import remembers
from fedmeta.types import Params

FORMAT = "fedmeta-head/1"


class Model(NamedTuple):
    """What personal models of a run have in common.

    Attributes:
        method: of the run.
        sha256: digest of the parameters that users are sent.
        backbone: its name.
        backbone_sha256: of all that its features depend on.
    """

    method: Method
    sha256: str
    backbone: str
    backbone_sha256: str


def weights_sha256(params: Params) -> str:
    """Digest of parameters: names, shapes, dtypes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(params):
        array = np.ascontiguousarray(params[name].cpu().numpy())
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def hash_of(user: str) -> str:
    """SHA-256 of a user's id: files name nobody, but whoever knows the id can tell."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def packed(
    params: Params, of: Model, classes: Sequence[str], user: str, examples: int, inner: Inner
) -> bytes:
    """The content of a file.

    Args:
        params: of :func:`fedmeta.personal.personalize`, without the axis of users.
        of: what it was made of.
        classes: names of its classes; empty: regression.
        user: whose it is.
        examples: of which it was made.
        inner: how he has adapted.
    """
    told = {
        "format": FORMAT,
        "kind": "memory" if remembers(of.method) else "head",
        "method": of.method.name,
        "run_sha256": of.sha256,
        "backbone": of.backbone,
        "backbone_sha256": of.backbone_sha256,
        "classes": json.dumps(list(classes)),
        "user_sha256": hash_of(user),
        "examples": str(examples),
        "rate": repr(inner.rate),
        "steps": str(inner.steps),
        "sha256": weights_sha256(params),
    }
    return save({name: value.contiguous() for name, value in params.items()}, told)
