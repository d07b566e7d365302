"""Backbone and head as one ONNX model, for devices without PyTorch, checked before it is kept.

A text backbone takes ``input_ids`` and ``attention_mask`` (batch and length are free); others take
``features``. Outputs are ``logits`` and ``probabilities`` ``(batch, classes)``, or ``value``.
"""

import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.serving import heads
from experiments.serving.extras import need
from experiments.serving.heads import Head
from experiments.serving.opened import Opened
from experiments.serving.personal import backbone_of
from fedmeta import personal
from fedmeta.backbones import concat, encoder, models
from fedmeta.config import ConfigError

TOLERANCE = 1e-5
"""Largest difference between ONNX and PyTorch, relative to logits larger than 1."""
CHECKS = ((1, 3), (3, 17), (5, 9))
"""Batches and lengths that are compared."""


class _Personal(nn.Module):
    """One user's model from features ``(B, D)`` in the units of the run's data."""

    def __init__(self, opened: Opened, head: Head) -> None:
        super().__init__()
        self.opened, self.classes = opened, len(head.classes)
        self.mine = head.params

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        opened, x, by = self.opened, features, self.opened.needs.scaling
        if by is not None:
            spread = torch.tensor(by.spread * np.sqrt(len(by.spread)))
            x = (x.double() - torch.tensor(by.mean)) / spread
            x = (x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1.0)).float()
        found = personal.alone(
            opened.method, opened.model, opened.theta, self.mine, x, opened.inner
        )
        logits = found.T
        if opened.needs.task == "regression":
            return (logits[:, 0] * opened.needs.scale + opened.needs.centre,)
        logits = logits[:, : self.classes]
        return logits, torch.softmax(logits, 1)


class _Whole(nn.Module):
    """Tokens to answers."""

    def __init__(self, encoder_: Any, head: _Personal, output: str) -> None:
        super().__init__()
        self.encoder, self.head, self.output = encoder_, head, output

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return cast(
            tuple[Tensor, ...], self.head(encoder.pooled(hidden, attention_mask, self.output))
        )


def export(opened: Opened, head: Path, out: Path) -> dict[str, Any]:
    """Write the model of one head; of an encoder also the tokenizer, beside it.

    Returns:
        What was written, and the largest difference that was seen.

    Raises:
        ConfigError: packages missing, a model that ONNX cannot hold or that differs from
            PyTorch's; nothing is written.
        HeadError: what is wrong with the head.
    """
    need("onnx")
    mine = heads.read(head, opened)
    backbone_of(opened)  # the digest of what is installed is the run's
    name, config = opened.needs.backbone, opened.config.backbone
    tail: nn.Module = _Personal(opened, mine).eval()
    source: Path | None = None
    if opened.needs.modality == "text" and name != "hashing" and len(concat.parts(name)) == 1:
        source = models.locate(name)
        loaded, _ = encoder.load(source, config.max_length, config.layers)
        loaded.set_attn_implementation("eager")
        tail = _Whole(loaded, cast(_Personal, tail), config.output).eval()
    samples = [_sample(opened, source, *sizes) for sizes in CHECKS]
    where = out.parent
    try:
        where.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=where))
    except OSError as error:
        raise ConfigError(
            f"--out {str(out)!r} cannot be written ({error.strerror or error}); name another place"
        ) from None
    try:
        _write(tail, samples[1], part / "model.onnx", opened)
        gap = max(_gap(tail, part / "model.onnx", sample, opened) for sample in samples)
        if not gap <= TOLERANCE:
            raise ConfigError(
                f"the ONNX model differs from PyTorch's by {gap:.2g}, more than {TOLERANCE:g};"
                " nothing was written"
            )
        beside = []
        if source is not None and (source / "tokenizer.json").is_file():
            beside = [out.with_suffix(".tokenizer.json")]
            shutil.copyfile(source / "tokenizer.json", part / "tokenizer.json")
            os.replace(part / "tokenizer.json", beside[0])
        os.replace(part / "model.onnx", out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {
        "model": str(out),
        "tokenizer": str(beside[0]) if beside else None,
        "inputs": list(samples[0]),
        "outputs": _outputs(opened),
        "bytes": out.stat().st_size,
        "difference": gap,
    }


def _outputs(opened: Opened) -> list[str]:
    return ["value"] if opened.needs.task == "regression" else ["logits", "probabilities"]


def _sample(opened: Opened, source: Path | None, batch: int, length: int) -> dict[str, Tensor]:
    """Random inputs, of which all but the longest are padded."""
    random = np.random.default_rng((batch, length))
    if source is None:
        x = random.normal(size=(batch, opened.needs.width)).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        if opened.needs.scaling is not None:
            by = opened.needs.scaling
            x = (x * np.sqrt(opened.needs.width) * by.spread + by.mean).astype(np.float32)
        return {"features": torch.from_numpy(x)}
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    ids = random.integers(0, vocabulary, size=(batch, length))
    lengths = np.maximum(length - np.arange(batch), 1)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def _write(model: nn.Module, sample: dict[str, Tensor], path: Path, opened: Opened) -> None:
    import onnx

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    free = {name: {0: batch} | ({1: length} if _is_text(sample) else {}) for name in sample}
    try:
        with _quietly(), torch.no_grad():
            torch.onnx.export(
                model,
                tuple(sample.values()),
                str(path),
                input_names=list(sample),
                output_names=_outputs(opened),
                dynamic_shapes=free,
                external_data=False,
                verbose=False,
                dynamo=True,
            )
        onnx.checker.check_model(str(path))
    except Exception as error:  # the exporter has many ways to fail
        raise ConfigError(
            f"method {opened.method.name!r} with head {opened.config.head.name!r} cannot be"
            f" written as ONNX: {_reason(error)}; nothing was written"
        ) from None


def _reason(error: BaseException) -> str:
    """The first line of what an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _is_text(sample: dict[str, Tensor]) -> bool:
    return "input_ids" in sample


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter speaks of its own passes, as warnings, in logs and on standard output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _gap(model: nn.Module, path: Path, sample: dict[str, Tensor], opened: Opened) -> float:
    """Largest difference between the file's outputs and the model's, relative beyond 1.

    Raises:
        ConfigError: the file takes no other number of inputs than it was made with.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    try:
        found = session.run(None, {name: value.numpy() for name, value in sample.items()})
    except Exception as error:  # of a type that onnxruntime does not export
        raise ConfigError(
            f"method {opened.method.name!r} with head {opened.config.head.name!r} cannot be"
            f" written as ONNX: what is written does not run ({_reason(error)})"
        ) from None
    with torch.no_grad():
        wanted = [value.numpy() for value in model(*sample.values())]
    return max(_distance(a, b) for a, b in zip(found, wanted, strict=True))


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float((np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max(initial=0.0))
