"""A tiny BERT on disk, and stores of texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmeta.data.store import UserStore

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "fast",
    "slow",
    "red",
    "blue",
    "house",
)
TEXTS = (
    "the cat sat on the mat",
    "a dog ran fast",
    "red house",
    "the slow blue dog sat under a red tree over the house on the mat",
    "",
    "unknown words only",
    "cat",
)
StoreOf = Callable[[Sequence[str] | np.ndarray], UserStore]


def save_bert(folder: Path, seed: int = 0, layers: int = 2) -> Path:
    """A BERT of 32 hidden units with random weights, saved as a hub model is."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.3,  # the usual 0.02 makes all texts alike
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def other_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def store_of() -> StoreOf:
    """A store with these items, each of which one user labelled."""

    def build(items: Sequence[str] | np.ndarray) -> UserStore:
        count = len(items)
        return UserStore(
            name="made up",
            items=items if isinstance(items, np.ndarray) else tuple(items),
            item=np.arange(count),
            label=np.zeros(count, dtype=np.int64),
            offsets=np.array([0, count]),
            ids=("ann",),
            split=np.zeros(1, dtype=np.int8),
            classes=("no", "yes"),
        )

    return build
