"""The file of a personal model (:mod:`fedmeta.head_file`): replaced as a whole, read with care."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from clients.disk import sync, sync_file
from experiments.serving.opened import Opened
from fedmeta import head_file
from fedmeta.config import ConfigError
from fedmeta.head_file import FORMAT, Model, weights_sha256
from fedmeta.params import OWN
from fedmeta.personal import SUPPORT, remembers

LARGEST = 1 << 28
"""Bytes of the largest head file that is opened."""


class HeadError(ValueError):
    """A head file that cannot be used; ``code`` says in a word why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Head(NamedTuple):
    """A personal model.

    Attributes:
        params: of :func:`fedmeta.personal.personalize`, without the axis of users.
        classes: names of its classes, maybe fewer than the model's outputs; empty: regression.
    """

    params: dict[str, Tensor]
    classes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """What its numbers take in memory."""
        return sum(value.numel() * value.element_size() for value in self.params.values())


def packed(head: Head, opened: Opened, user: str, examples: int) -> bytes:
    """The content of a head's file."""
    needs = opened.needs
    of = Model(opened.method, opened.sha256, needs.backbone, needs.backbone_sha256)
    return head_file.packed(head.params, of, head.classes, user, examples, opened.inner)


def write(path: Path, head: Head, opened: Opened, user: str, examples: int) -> None:
    """Write a head; whoever reads meanwhile finds the old file or the new one, whole.

    Raises:
        ConfigError: it cannot be written; what was there is as it was.
    """
    content = packed(head, opened, user, examples)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            sync_file(part, content, 0o600)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        raise ConfigError(
            f"--out {str(path)!r} cannot be written ({error.strerror or error}); name another place"
        ) from None


def read(path: Path, opened: Opened) -> Head:
    """The head in a file, if it belongs to the run.

    Raises:
        HeadError: with ``code`` `unreadable`, `damaged`, `no_head`, `other_version`,
            `other_backbone`, `other_model` or `other_shape`.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise HeadError("no_head", f"{path.name} has more than {LARGEST >> 20} MB: no head")
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            _belongs(path.name, told, opened)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _fits(path.name, shapes, opened)
            params = {name: file.get_tensor(name) for name in shapes}
        classes = tuple(str(name) for name in json.loads(told["classes"]))
    except OSError as error:
        raise HeadError(
            "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
        ) from None
    except HeadError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise HeadError(
            "damaged", f"{path.name} is damaged ({error}); {_AGAIN} or restore it"
        ) from None
    if weights_sha256(params) != told.get("sha256"):
        raise HeadError(
            "damaged", f"{path.name} is damaged: its digest is not its own; {_AGAIN} or restore it"
        )
    if not all(bool(value.isfinite().all()) for value in params.values()):
        raise HeadError("damaged", f"{path.name} holds numbers that are not finite; {_AGAIN}")
    return Head(params, classes)


_AGAIN = "make it again with `fedmeta personalize`"


def _belongs(name: str, told: dict[str, str], opened: Opened) -> None:
    found = told.get("format", "")
    if not found.startswith("fedmeta-head/"):
        raise HeadError("no_head", f"{name} is no head of `fedmeta personalize`")
    if found != FORMAT:
        raise HeadError("other_version", f"{name} has format {found}, expected {FORMAT}; {_AGAIN}")
    for key, mine, code, what in (
        ("backbone_sha256", opened.needs.backbone_sha256, "other_backbone", "backbone"),
        ("method", opened.method.name, "other_model", "method"),
        ("run_sha256", opened.sha256, "other_model", "model"),
    ):
        if told.get(key) != mine:
            raise HeadError(
                code,
                f"{name} is of another {what} ({told.get(key, '')[:16]}, and the run has"
                f" {mine[:16]}); {_AGAIN} and this run",
            )


def _fits(name: str, shapes: dict[str, tuple[int, ...]], opened: Opened) -> None:
    """Refuse tensors of other names or shapes before any is read."""
    wanted: dict[str, Any]
    if remembers(opened.method):
        count = (shapes.get(f"{SUPPORT}weight") or (0,))[0]
        width, outputs = opened.needs.width, opened.needs.outputs
        wanted = {"x": (count, width), "y": (outputs, count), "weight": (count,)}
        wanted = {SUPPORT + key: shape for key, shape in wanted.items()}
    else:
        fresh = opened.model.head.init(torch.Generator())
        wanted = {key: tuple(value.shape) for key, value in fresh.items()}
    found = {key: shape for key, shape in shapes.items() if not key.startswith(OWN)}
    if found != wanted:
        odd = next(key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key))
        raise HeadError(
            "other_shape",
            f"{name} has {odd} of shape {found.get(odd)}, and the run's model takes"
            f" {wanted.get(odd)}; {_AGAIN} and this run",
        )
