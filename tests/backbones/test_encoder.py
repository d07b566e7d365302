"""The encoder against a loop over single texts, and models that it must refuse."""

import json
import shutil
from logging import INFO
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmeta.backbones import BackboneError
from fedmeta.backbones.cache import Features
from fedmeta.backbones.encoder import encode, pool
from fedmeta.backbones.quiet import quiet
from tests.backbones.conftest import TEXTS


def run(folder: Path, texts: tuple[str, ...] = TEXTS, batch: int = 3) -> Features:
    return encode(texts, folder, max_length=16, batch=batch)


def one_at_a_time(folder: Path, texts: tuple[str, ...], max_length: int) -> Features:
    """The oracle: no batches, no padding, no mask."""
    from transformers import AutoModel, AutoTokenizer

    with quiet():
        model = AutoModel.from_pretrained(folder).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if len(ids) > max_length:
            ids = [*ids[: max_length - 1], ids[-1]]
        with torch.no_grad():
            mean = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("max_length", [6, 16])
def test_equals_a_loop_over_single_texts(bert: Path, batch: int, max_length: int) -> None:
    found = encode(TEXTS, bert, max_length=max_length, batch=batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_at_a_time(bert, TEXTS, max_length), atol=1e-5)


def test_rows_differ_and_have_length_one(bert: Path) -> None:
    found = run(bert)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert (found @ found.T - 2 * np.eye(len(found))).max() < 0.999


def test_a_row_depends_on_its_text_only(bert: Path) -> None:
    found = run(bert)
    np.testing.assert_allclose(run(bert, TEXTS[::-1])[::-1], found, atol=1e-6)
    for row, text in zip(found, TEXTS, strict=True):
        np.testing.assert_allclose(run(bert, (text,))[0], row, atol=1e-6)


def test_same_call_same_bits(bert: Path) -> None:
    np.testing.assert_array_equal(run(bert), run(bert))


def test_pool_ignores_masked_tokens_and_survives_empty_rows() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [5.0, 8.0], [1e9, 1e9]], [[1.0, 1.0]] * 3])
    pooled = pool(hidden, torch.tensor([[1, 1, 0], [0, 0, 0]]))
    torch.testing.assert_close(pooled, torch.tensor([[2**-0.5, 2**-0.5], [0.0, 0.0]]))


def test_progress_counts_up_to_all_texts(bert: Path) -> None:
    calls: list[tuple[int, int]] = []
    encode(TEXTS, bert, max_length=16, batch=3, progress=lambda *call: calls.append(call))
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_says_nothing_and_leaves_global_state(
    bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = torch.get_rng_state()
    default = logging.get_verbosity()
    try:
        logging.set_verbosity(INFO)
        logging.enable_progress_bar()
        run(bert)
        assert logging.get_verbosity() == INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(default)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)


def test_too_long_for_the_model(bert: Path) -> None:
    encode(TEXTS, bert, max_length=40, batch=3)
    with pytest.raises(BackboneError, match=r"max-length = 41.* at most 40 .*max-length=40"):
        encode(TEXTS, bert, max_length=41, batch=3)


def test_weights_of_another_model(bert: Path, tmp_path: Path) -> None:
    """Transformers would draw the missing layer at random, anew in each process."""
    folder = shutil.copytree(bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    before = torch.get_rng_state()
    with pytest.raises(BackboneError, match=r"lack \['encoder.layer.2.*one model"):
        run(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_damaged_files(bert: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    (folder / damage).write_bytes(b"{")
    with pytest.raises(BackboneError, match=r"cannot load the model in .*save_pretrained"):
        run(folder)


def test_encoder_and_decoder(bert: Path, tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    folder = shutil.copytree(bert, tmp_path / "model")
    config = T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(folder)
    with pytest.raises(BackboneError, match=r"T5Model in .*encoder only"):
        run(folder)


def test_no_texts(bert: Path) -> None:
    with pytest.raises(BackboneError, match="at least one"):
        run(bert, ())
