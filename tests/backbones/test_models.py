"""Where models come from, and which are refused."""

import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fedmeta.backbones import BackboneError, digest, encoder, models


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, bert: Path) -> None:
    """The offline package, but its model is the tiny BERT."""
    package = ModuleType(models.MINILM_PACKAGE)
    package.get_model_path = lambda: bert  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, models.MINILM_PACKAGE, package)
    monkeypatch.setattr(models, "find_spec", lambda _: object())


@pytest.fixture
def unpackaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda _: None)


def hub_cache(root: Path, model: str, source: Path) -> Path:
    """What a download leaves behind."""
    repo = root / f"models--{model.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(source, repo / "snapshots" / ("0" * 40)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; offline, as in all tests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_folder_is_taken_as_it_is(bert: Path) -> None:
    assert models.locate(str(bert)) == bert


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no/such"])
def test_missing_folder(name: str) -> None:
    with pytest.raises(BackboneError, match=f"'{name}' is no folder"):
        models.locate(name)


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"no model\.safetensors"):
        encoder.recipe(tmp_path, 16)


def test_unknown_hub_id_offline(hub: Path) -> None:
    with pytest.raises(BackboneError, match=r"'nobody/nothing' .*name a local folder"):
        models.locate("nobody/nothing")


def test_malformed_hub_id(hub: Path) -> None:
    with pytest.raises(BackboneError, match=r"'a/b/c' .*name a local folder"):
        models.locate("a/b/c")


def test_hub_id_in_the_cache(hub: Path, bert: Path) -> None:
    snapshot = hub_cache(hub, "somebody/bert", bert)
    assert models.locate("somebody/bert") == snapshot


def test_hub_id_with_old_weights(hub: Path, bert: Path) -> None:
    snapshot = hub_cache(hub, "somebody/bert", bert)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    assert digest.weight_files(models.locate("somebody/bert")) == [snapshot / "pytorch_model.bin"]


def test_only_one_kind_of_weights_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def download(_: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns[-1])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    models.locate("somebody/old")
    (tmp_path / "model.safetensors").touch()
    models.locate("somebody/new")
    assert asked == ["model*.safetensors", "pytorch_model*.bin", "model*.safetensors"]


def test_minilm_with_other_weights_is_refused(packaged: None) -> None:
    with pytest.raises(BackboneError, match=rf"SHA-256 .* expected {models.MINILM_SHA256}"):
        models.locate("minilm")


def test_minilm_with_the_published_weights(
    packaged: None, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        models, "MINILM_SHA256", digest.of_file(bert / "model.safetensors"), raising=True
    )
    assert models.locate("minilm") == bert


def test_minilm_nowhere(unpackaged: None, hub: Path) -> None:
    assert not models.minilm_available()
    with pytest.raises(BackboneError, match=r"pip install 'fedmeta\[offline\]'"):
        models.locate("minilm")


def test_minilm_in_the_hub_cache_is_checked_too(unpackaged: None, hub: Path, bert: Path) -> None:
    hub_cache(hub, models.MINILM_ID, bert)
    assert models.minilm_available()
    with pytest.raises(BackboneError, match="SHA-256"):
        models.locate("minilm")


def test_installed_minilm_knows_paraphrases() -> None:
    pytest.importorskip(models.MINILM_PACKAGE, reason="needs fedmeta[offline]")
    texts = ("How do I reset my password?", "I forgot my login code.", "The soup was too salty.")
    rows = encoder.encode(texts, models.locate("minilm"), max_length=128, batch=8)
    assert rows.shape == (3, 384)
    like, unlike = rows[0] @ rows[1], max(rows[0] @ rows[2], rows[1] @ rows[2])
    assert like > unlike + 0.2, (like, unlike)
    assert np.isclose(rows[0] @ rows[0], 1.0)


def test_tampered_copy_of_the_installed_minilm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip(models.MINILM_PACKAGE, reason="needs fedmeta[offline]")
    copy = shutil.copytree(package.get_model_path(), tmp_path / "model")
    monkeypatch.setattr(package, "get_model_path", lambda: copy)
    assert models.locate("minilm") == copy
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(50_000_000)
        byte = stream.read(1)[0]
        stream.seek(50_000_000)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(BackboneError, match="SHA-256"):
        models.locate("minilm")
