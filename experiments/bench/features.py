"""``fedmeta bench features``: feature extraction beside a bare transformers loop, in the same run.

The loop is what one writes oneself: texts sorted by their number of tokens, in batches of the same
size, through the same model, the mean over the tokens, length one. Both sides take turns in one
process and the fastest turn of each counts; loading the model is in neither.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from fedmeta import backbones
from fedmeta.backbones import encoder
from fedmeta.config import Config
from fedmeta.data.sources import load

Vectors = NDArray[np.float32]


def row(config: Config, texts: int, turns: int) -> dict[str, Any]:
    """Texts a second of both sides, and how far their features are apart.

    Args:
        config: says the texts, the model, the batches and the longest text.
        texts: of the data, at most.
        turns: of each side.

    Raises:
        ConfigError: no texts, or no transformer.
    """
    folder, items = backbones.transformer(load(config.data), config.backbone)
    some, length, batch = items[:texts], config.backbone.max_length, config.backbone.batch
    model, tokenizer = encoder.load(folder, length)
    sides: dict[str, Callable[[], Vectors]] = {
        "ours": lambda: encoder.embed(some, model, tokenizer, length, batch),
        "loop": lambda: bare(some, model, tokenizer, length, batch),
    }
    least, found = dict.fromkeys(sides, float("inf")), dict[str, Vectors]()
    for _ in range(turns + 1):  # the first one allocates
        for name, side in sides.items():
            began = time.perf_counter()
            found[name] = side()
            least[name] = min(least[name], time.perf_counter() - began)
    return {
        "texts": len(some),
        "texts_per_s": len(some) / least["ours"],
        "loop_texts_per_s": len(some) / least["loop"],
        "ratio_to_loop": least["loop"] / least["ours"],
        "max_difference": float(np.abs(found["ours"] - found["loop"]).max()),
        "threads": torch.get_num_threads(),
    }


def bare(texts: Sequence[str], model: Any, tokenizer: Any, length: int, batch: int) -> Vectors:
    """Features of the texts, by transformers alone."""
    ids = tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda at: len(ids[at]))
    out = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens = tokenizer.pad({"input_ids": [ids[at] for at in rows]}, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return out


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title="texts per second, feature extraction")
    for heading in ("texts", "threads", "fedmeta", "transformers loop", "ratio", "difference"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(
            f"{one['texts']:,}",
            str(one["threads"]),
            f"{one['texts_per_s']:.0f}",
            f"{one['loop_texts_per_s']:.0f}",
            f"{one['ratio_to_loop']:.2f}x",
            f"{one['max_difference']:.0e}",
        )
    return out
