"""`features` and `resolve`: which backbone, which rows, and what makes a new cache key."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmeta.backbones import BACKBONES, BackboneError, encoder, features, models, resolve
from fedmeta.sections.data import BackboneConfig
from tests.backbones.conftest import TEXTS, StoreOf

NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The texts of each call of the encoder, which still does its work."""
    calls: list[Sequence[str]] = []
    real = encoder.encode

    def spy(texts: Sequence[str], *args: object, **options: object) -> object:
        calls.append(texts)
        return real(texts, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "encode", spy)
    return calls


def config(name: object, cache: Path, max_length: int = 16, batch: int = 3) -> BackboneConfig:
    return BackboneConfig(name=str(name), cache=str(cache), max_length=max_length, batch=batch)


def test_second_call_encodes_nothing(
    bert: Path, tmp_path: Path, store_of: StoreOf, encoded: list[Sequence[str]]
) -> None:
    first = features(store_of(TEXTS), config(bert, tmp_path))
    second = features(store_of(TEXTS), config(bert, tmp_path, batch=5))
    assert encoded == [TEXTS]
    assert first.shape == (len(TEXTS), 32)
    np.testing.assert_array_equal(first, second)


def test_whatever_changes_features_changes_the_key(
    bert: Path, other_bert: Path, tmp_path: Path, store_of: StoreOf, encoded: list[Sequence[str]]
) -> None:
    cased = shutil.copytree(bert, tmp_path / "cased")
    (cased / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "x": 1}')
    cache = tmp_path / "cache"
    cases = [
        (TEXTS, config(bert, cache)),
        (TEXTS, config(bert, cache, max_length=17)),
        (TEXTS, config(other_bert, cache)),
        (TEXTS, config(cased, cache)),
        (TEXTS[::-1], config(bert, cache)),
        ((*TEXTS[:-1], "dog"), config(bert, cache)),
        ((*TEXTS[:-2], "unknown words", "only cat"), config(bert, cache)),
    ]
    for count, (texts, chosen) in enumerate(cases, start=1):
        for _ in range(2):
            features(store_of(texts), chosen)
        assert len(encoded) == count
    assert len(list((cache / "features").iterdir())) == len(cases)


def test_weights_replaced_in_place(
    bert: Path, other_bert: Path, tmp_path: Path, store_of: StoreOf, encoded: list[Sequence[str]]
) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    before = features(store_of(TEXTS), config(folder, tmp_path))
    shutil.copyfile(other_bert / "model.safetensors", folder / "model.safetensors")
    after = features(store_of(TEXTS), config(folder, tmp_path))
    assert len(encoded) == 2
    assert np.abs(before - after).max() > 0.01


def test_a_moved_model_keeps_its_key(
    bert: Path, tmp_path: Path, store_of: StoreOf, encoded: list[Sequence[str]]
) -> None:
    moved = shutil.copytree(bert, tmp_path / "moved")
    for folder in (bert, moved):
        features(store_of(TEXTS), config(folder, tmp_path / "cache"))
    assert len(encoded) == 1


def test_two_swapped_files_are_computed_anew(
    bert: Path, tmp_path: Path, store_of: StoreOf, encoded: list[Sequence[str]]
) -> None:
    wanted = [np.array(features(store_of(t), config(bert, tmp_path))) for t in (TEXTS, TEXTS[::-1])]
    one, two = (tmp_path / "features").iterdir()
    one.rename(tmp_path / "spare")
    two.rename(one)
    (tmp_path / "spare").rename(two)
    for texts, right in zip((TEXTS, TEXTS[::-1]), wanted, strict=True):
        np.testing.assert_array_equal(features(store_of(texts), config(bert, tmp_path)), right)
    assert len(encoded) == 4


def test_hashing(tmp_path: Path, store_of: StoreOf) -> None:
    calls: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        calls.append((done, total))

    found = features(store_of(TEXTS), config("hashing", tmp_path), progress=count)
    assert found.shape == (len(TEXTS), 512)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, [float(bool(text)) for text in TEXTS], atol=1e-6)
    again = features(store_of(TEXTS), config("hashing", tmp_path), progress=count)
    np.testing.assert_array_equal(found, again)
    assert calls == [(7, 7)]


def test_identity(store_of: StoreOf, tmp_path: Path) -> None:
    for name in ("identity", "auto"):
        found = features(store_of(NUMBERS), config(name, tmp_path))
        np.testing.assert_array_equal(found, NUMBERS.reshape(2, 12))
    assert found.dtype == np.float32
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("there", "name"), [(True, "minilm"), (False, "hashing")])
def test_auto_on_texts(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch, there: bool, name: str
) -> None:
    monkeypatch.setattr(models, "minilm_available", lambda: there)
    assert resolve("auto", store_of(TEXTS)) == name


def test_resolve_leaves_explicit_names(store_of: StoreOf) -> None:
    for name in ("minilm", "hashing", "somebody/model"):
        assert resolve(name, store_of(TEXTS)) == name
    assert resolve("identity", store_of(NUMBERS)) == "identity"
    assert {"auto", "minilm", "hashing", "identity"} <= set(BACKBONES)


@pytest.mark.parametrize("name", ["minilm", "hashing", "somebody/model"])
def test_texts_backbone_on_numbers(store_of: StoreOf, name: str) -> None:
    with pytest.raises(BackboneError, match=rf"'{name}' takes texts.*'made up'.*identity"):
        resolve(name, store_of(NUMBERS))


def test_identity_on_texts(store_of: StoreOf) -> None:
    with pytest.raises(BackboneError, match="'identity', but the items of 'made up' are texts"):
        resolve("identity", store_of(TEXTS))


@pytest.mark.parametrize("items", [(), np.zeros((0, 3), dtype=np.float32)])
def test_no_items(store_of: StoreOf, items: Sequence[str] | np.ndarray) -> None:
    with pytest.raises(BackboneError, match="'made up' has 0 items"):
        resolve("auto", store_of(items))


def test_import_is_light() -> None:
    """Commands that only list or check must not wait for torch."""
    heavy = "{'torch', 'transformers', 'sklearn', 'huggingface_hub'}"
    code = f"import sys, fedmeta.backbones; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stdout + result.stderr
