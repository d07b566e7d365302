"""What is exported says what PyTorch says, for any number of inputs and any length."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.serving import heads, onnx, personal
from experiments.serving.opened import Opened
from fedmeta.backbones import encoder, models
from tests.backbones.conftest import save_bert
from tests.experiments.runs import Result
from tests.serving.worlds import World, able, world

Command = Callable[..., Result]


def ran(path: Path, **inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray[Any, Any]] = session.run(None, inputs)
    return found


def exported(seen: World, folder: Path) -> tuple[Path, Path]:
    head, model = folder / "head.safetensors", folder / "model.onnx"
    personal.personalize(seen.opened, seen.file, head, None)
    onnx.export(seen.opened, head, model)
    return head, model


def check_texts(opened: Opened, head: Path, model: Path, source: Path, texts: list[str]) -> None:
    """Texts, padded by their tokenizer, against `fedmeta predict`."""
    _, tokenizer = encoder.load(source, opened.config.backbone.max_length)
    tokens = tokenizer(texts, padding=True, return_tensors="np")
    ids, mask = (tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask"))
    logits, probabilities = ran(model, input_ids=ids, attention_mask=mask)
    backbone = personal.backbone_of(opened)
    said = personal.predict(opened, backbone, heads.read(head, opened), texts)
    expected = np.array([one["logits"] for one in said])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    shares = np.array([list(one["probabilities"].values()) for one in said])
    np.testing.assert_allclose(probabilities, shares, rtol=1e-5, atol=1e-5)


def test_encoder_and_head(tmp_path: Path) -> None:
    source = save_bert(tmp_path / "bert", layers=1)
    seen = world(
        tmp_path / "run", **able("maml"), backbone__name=str(source), backbone__max_length=32
    )
    head, model = exported(seen, tmp_path)
    texts = ["the cat sat on the mat", "a dog", "red", "the slow blue dog ran fast on the mat"]
    check_texts(seen.opened, head, model, source, texts)
    tokenizer = json.loads((tmp_path / "model.tokenizer.json").read_text())
    assert tokenizer["model"]["vocab"]["cat"] == 7
    assert {path.name for path in tmp_path.iterdir()} == {
        "bert", "run", "head.safetensors", "model.onnx", "model.tokenizer.json"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not models.minilm_available(), reason="MiniLM is not installed")
def test_minilm(tmp_path: Path) -> None:
    seen = world(tmp_path / "run", **able("maml"), backbone__name="minilm")
    head, model = exported(seen, tmp_path)
    texts = ["Could you please have a look?", "no", "What a splendid idea, " * 8]
    check_texts(seen.opened, head, model, models.locate("minilm"), texts)


@pytest.mark.parametrize("name", ["mmoe", "siamese"])
def test_features(name: str, tmp_path: Path) -> None:
    """Of backbones that are no encoder the features go in; a remembered user is a constant."""
    seen = world(tmp_path / "run", **able(name))
    _, model = exported(seen, tmp_path)
    x = personal.backbone_of(seen.opened).encode(seen.items)
    logits, _ = ran(model, features=x)
    np.testing.assert_allclose(logits, seen.logits.T.numpy(), rtol=1e-5, atol=1e-5)


def test_scaled_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = [
        {"user": f"u{u:02d}", "a": a, "b": 100 + 7 * b, "label": 30 + u + 4 * a + b}
        for u in range(20)
        for a, b in random.normal(size=(12, 2)).tolist()
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "data.csv", index=False)
    seen = world(
        tmp_path / "run",
        data__source=str(tmp_path / "data.csv"),
        backbone__name="auto",
        method__name="reptile",
    )
    head, model = exported(seen, tmp_path)
    said = personal.predict(
        seen.opened,
        personal.backbone_of(seen.opened),
        heads.read(head, seen.opened),
        seen.items,
    )
    [values] = ran(model, features=seen.items)
    np.testing.assert_allclose(values, [one["value"] for one in said], rtol=1e-5)


def test_what_cannot_be_exported(tmp_path: Path, fedmeta: Command) -> None:
    seen = world(tmp_path / "run", **able("mann"))
    personal.personalize(seen.opened, seen.file, tmp_path / "me.safetensors", None)
    args = ("--head", tmp_path / "me.safetensors", "--out", "out/model.onnx")
    found = fedmeta("export", tmp_path / "run", *args)
    assert found.code == 2
    assert "cannot be written as ONNX" in found.err
    assert list(Path("out").iterdir()) == []


def test_a_difference_is_found(
    maml: World, ann: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check compares what runs, not what was meant to."""
    before = onnx._Personal.forward
    turn = iter(range(9))

    def drifting(self: onnx._Personal, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(value + 1e-4 * next(turn) for value in before(self, features))

    monkeypatch.setattr(onnx._Personal, "forward", drifting)
    with pytest.raises(ValueError, match="differs from PyTorch's"):
        onnx.export(maml.opened, ann, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
