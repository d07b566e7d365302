"""Token features: what is cached, how much of the disk it takes, and what a run makes of it."""

import logging
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmeta import backbones
from fedmeta.backbones import BackboneError, encoder
from fedmeta.config import ConfigError
from fedmeta.problem import initial
from fedmeta.sections.data import BackboneConfig
from tests.backbones.conftest import TEXTS, StoreOf, save_bert
from tests.engine.cases import problem

Disk = namedtuple("Disk", "total used free")


def settings(folder: Path, cache: Path, **more: Any) -> BackboneConfig:
    return BackboneConfig(name=str(folder), cache=str(cache), max_length=12, batch=3, **more)


def test_tokens_are_those_of_the_model(bert: Path, tmp_path: Path, store_of: StoreOf) -> None:
    found = backbones.features(store_of(TEXTS), settings(bert, tmp_path), takes="tokens")
    model, tokenizer = encoder.load(bert)
    assert found.dtype == np.float16
    assert found.shape[0] == len(TEXTS)
    assert isinstance(found, np.memmap)
    for text, vectors in zip(TEXTS, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**ids).last_hidden_state[0]
        expected = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        assert np.allclose(vectors[: len(expected)], expected, atol=2e-3)
        assert not vectors[len(expected) :].any()


def test_tokens_are_computed_once(
    bert: Path, tmp_path: Path, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = settings(bert, tmp_path), store_of(TEXTS)
    first = np.array(backbones.features(store, config, takes="tokens"))
    (file,) = (tmp_path / "features").glob("tokens-*.npy")
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "token_vectors", lambda *a, **k: pytest.fail("computed again"))
        assert np.array_equal(backbones.features(store, config, takes="tokens"), first)
    content = bytearray(file.read_bytes())
    content[200] ^= 1  # a damaged file is written anew
    file.write_bytes(content)
    assert np.array_equal(backbones.features(store, config, takes="tokens"), first)


def test_the_size_is_said_and_a_full_disk_is_refused(
    bert: Path,
    tmp_path: Path,
    store_of: StoreOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, store = settings(bert, tmp_path), store_of(TEXTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda where: Disk(2**40, 2**40 - 100, 100))
    with pytest.raises(BackboneError, match=r"take 0\.01 MB .* where 0\.00 MB are free.* use a sm"):
        backbones.features(store, config, takes="tokens")
    assert not list((tmp_path / "features").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda where: Disk(2**40, 0, 2**40))
    with caplog.at_level(logging.WARNING):
        backbones.features(store, config, takes="tokens")
    assert "numbers each in half precision, take" in caplog.text


def test_the_first_token_and_fewer_layers(tmp_path: Path, store_of: StoreOf) -> None:
    folder, store = save_bert(tmp_path / "bert", layers=3), store_of(TEXTS)
    model, tokenizer = encoder.load(folder)
    cls = backbones.features(store, settings(folder, tmp_path, output="cls"))
    cut = backbones.features(store, settings(folder, tmp_path, layers=2))
    for row, text in enumerate(TEXTS):
        ids = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            every = model(**ids, output_hidden_states=True).hidden_states
        for found, vector in ((cls, every[3][0, 0]), (cut, every[2][0].mean(0))):
            expected = torch.nn.functional.normalize(vector, dim=0).numpy()
            assert np.allclose(found[row], expected, atol=1e-5)
    with pytest.raises(BackboneError, match=r"backbone\.layers = 4: .* has 3 layers; use 1 to 3"):
        backbones.features(store, settings(folder, tmp_path, layers=4))
    for wrong in ({"output": "cls"}, {"layers": 2}):
        config = BackboneConfig(name="hashing", cache=str(tmp_path), **wrong)
        with pytest.raises(BackboneError, match=r"asks for the layers of a transformer"):
            backbones.features(store, config)


def small(bert: Path, cache: Path, head: str, **more: Any) -> dict[str, Any]:
    return {
        "backbone__name": str(bert),
        "backbone__cache": str(cache),
        "backbone__max_length": 12,
        "head__name": head,
        "head__width": 8,
        "head__attention_heads": 2,
        **more,
    }


def test_heads_over_tokens_and_over_an_encoder(bert: Path, tmp_path: Path) -> None:
    run = problem(**small(bert, tmp_path, "ph-transformer"))
    assert run.population.tokens > 1
    assert run.population.features.dtype == torch.float16
    assert initial(run)["project.weight"].shape == (8, 32)
    run = problem(**small(bert, tmp_path, "lora"))
    assert any("lora_A" in name for name in initial(run))


@pytest.mark.parametrize(
    ("head", "more", "reason"),
    [
        ("mlp", {"backbone__output": "tokens"}, r"takes one vector.*'tokens' gives up to 1\d; use"),
        ("conv4", {"backbone__name": "hashing"}, r"whole model of images, and the items .* texts"),
        ("gru", {"backbone__name": "hashing"}, r"windows of characters, .* data\.window = 80"),
        ("lora", {"backbone__name": "hashing"}, r"'lora' adapts a text encoder, and there is none"),
        (
            "proto",
            {},
            r"'maml' does not do; use method\.name = 'protonet' \(or protomaml, protomam",
        ),
        ("ridge", {}, r"use method\.name = 'ridge', or head\.name = 'mlp'"),
        ("mlp", {"head__adapt": "conv*"}, r"'conv\*' fits no parameter .* it has hidden\.weight"),
        (
            "mlp",
            {"head__adapt": "hidden.*", "method__name": "anil"},
            r"moves output\.weight, outpu",
        ),
        ("mlp", {"head__adapt": "output.*", "method__name": "protonet"}, r"has no inner loop"),
        ("mlp", {"head__adapt": "output.*", "method__name": "imaml"}, r"defined for all param"),
    ],
)
def test_combinations_that_do_not_fit(
    bert: Path, tmp_path: Path, head: str, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=reason):
        problem(**small(bert, tmp_path, head) | {"method__name": "maml"} | more)
