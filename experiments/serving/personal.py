"""Heads made and asked: what ``fedmeta personalize`` and ``fedmeta predict`` do."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.serving import examples, heads
from experiments.serving.heads import Head
from experiments.serving.opened import Opened
from fedmeta import personal
from fedmeta.backbones.live import Live, live
from fedmeta.config import ConfigError
from fedmeta.personal import SUPPORT
from fedmeta.threads import one_thread

TOGETHER = 32
"""Heads in one product: as many as a processor's cache holds."""

Room = dict[tuple[str, torch.Size, torch.dtype], Tensor]
"""Memory for the heads of a product, by parameter."""


def backbone_of(opened: Opened) -> Live:
    """The run's backbone, loaded.

    Raises:
        ConfigError: what is installed here is not what the run had.
        BackboneError: it cannot be had.
    """
    needs = opened.needs
    found = live(needs.backbone, opened.config.backbone)
    if found.sha256 != needs.backbone_sha256:
        raise ConfigError(
            f"backbone {needs.backbone!r} here is not that of run {str(opened.folder)!r} (digest"
            f" {found.sha256[:16]}..., expected {needs.backbone_sha256[:16]}...); install the"
            " version that the run had, or run again"
        )
    return found


def personalize(
    opened: Opened, data: Path, out: Path, user: str | None, backbone: Live | None = None
) -> dict[str, Any]:
    """Adapt to the user whose examples a file holds, and write his head.

    Returns:
        What was done, for people and machines.

    Raises:
        ConfigError, DataError, BackboneError: what does not fit; nothing is written.
    """
    mine = examples.read(opened, data, user, labelled=True)
    facts = examples.facts(opened, mine)
    backbone = backbone or backbone_of(opened)
    support, classes = examples.support(opened, backbone, mine, data.name)
    made = personal.personalize(
        opened.method, opened.model, opened.theta, support, opened.inner, facts
    )
    head = Head({name: value[0] for name, value in made.items()}, classes)
    if not all(bool(value.isfinite().all()) for value in head.params.values()):
        raise ConfigError(
            f"{str(data)!r}: adaptation diverges on these examples (rate {opened.inner.rate:g},"
            f" {opened.inner.steps} steps); nothing was written: look for outliers among them"
        )
    heads.write(out, head, opened, mine.user, len(mine.items))
    return {
        "head": str(out),
        "method": opened.method.name,
        "examples": len(mine.items),
        "rate": opened.inner.rate,
        "steps": opened.inner.steps,
        "holds": "the user's examples" if personal.remembers(opened.method) else "parameters",
        "bytes": out.stat().st_size,
    }


def predict(opened: Opened, backbone: Live, head: Head, items: Any) -> list[dict[str, Any]]:
    """What one head says of texts or numbers ``(N, ...)``, with logits."""
    x = examples.features(opened, backbone, items)
    [logits] = answers(opened, [head], [x])
    return said(opened, head, logits, whole=True)


def answers(
    opened: Opened, asked: Sequence[Head], x: Sequence[Tensor], room: Room | None = None
) -> list[Tensor]:
    """Logits ``(C, n)`` of each head for its own features ``(n, D)``.

    Heads that have about as many examples to answer (and to remember) share one product; no
    answer depends on who shares it, beyond rounding. ``room`` is kept from call to call by who
    calls often, on one thread.
    """
    room = {} if room is None else room

    def alike(at: int) -> tuple[int, int]:
        held = asked[at].params.get(SUPPORT + "weight")
        many = 0 if held is None else (held.shape[0] - 1).bit_length()
        return (x[at].shape[0] - 1).bit_length(), many

    order = sorted(range(len(asked)), key=alike)
    found: list[Tensor] = [torch.empty(0)] * len(asked)
    for _, group in groupby(order, key=alike):
        members = list(group)
        for start in range(0, len(members), TOGETHER):
            some = members[start : start + TOGETHER]
            logits = _together(opened, [asked[at] for at in some], [x[at] for at in some], room)
            for at, one in zip(some, logits, strict=True):
                found[at] = one[:, : x[at].shape[0]]
    return found


def _together(opened: Opened, asked: Sequence[Head], x: Sequence[Tensor], room: Room) -> Tensor:
    with torch.no_grad(), one_thread():  # on two it takes as long, of both
        mine = {
            name: (_filled if name.startswith(SUPPORT) else partial(_side_by_side, name, room))(
                [head.params[name] for head in asked]
            )
            for name in asked[0].params
        }
        return personal.answer(
            opened.method, opened.model, opened.theta, mine, _filled(x), opened.inner
        )


def _side_by_side(name: str, room: Room, tensors: list[Tensor]) -> Tensor:
    """Parameters on top of each other; heads of a run have the same shapes."""
    key = (name, tensors[0].shape, tensors[0].dtype)
    if key not in room:
        room[key] = tensors[0].new_empty(TOGETHER, *tensors[0].shape)
    # Memory that is there: that of a new tensor would cost more than what is written to it.
    return torch.stack(tensors, out=room[key][: len(tensors)])


def _filled(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other, filled up with zeros where they differ in length.

    Only examples differ in number, and zeros are what an example that does not count weighs.
    """
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) == 1:
        return torch.stack(list(tensors))
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    out = tensors[0].new_zeros(len(tensors), *largest)
    for row, tensor in zip(out, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return out


def said(opened: Opened, head: Head, logits: Tensor, whole: bool = False) -> list[dict[str, Any]]:
    """Logits ``(C, n)`` in words: for each example a label with probabilities, or a value."""
    needs = opened.needs
    if needs.task == "regression":
        values = (needs.centre + needs.scale * logits[0].double()).tolist()
        return [{"value": value} for value in values]
    named = logits[: len(head.classes)]
    shares = torch.softmax(named.double(), 0).T.tolist()
    out: list[dict[str, Any]] = []
    for number, row in enumerate(shares):
        best = head.classes[max(range(len(row)), key=row.__getitem__)]
        out.append({"label": best, "probabilities": dict(zip(head.classes, row, strict=True))})
        if whole:
            out[-1]["logits"] = named[:, number].tolist()
    return out
