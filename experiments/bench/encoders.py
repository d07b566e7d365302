"""``fedmeta bench encoders``: the size of the encoder as a dimension, by cutting it after a layer.

The same run over the same texts, with the encoder whole and cut: parameters, processor seconds for
1,000 texts on one thread, and what new users reach. NAS-BERT (Xu et al. 2021) asks how much of an
encoder a task needs; a cut one needs no other training.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from experiments.running import simulate
from fedmeta import backbones
from fedmeta.backbones import encoder
from fedmeta.config import Config, ConfigError
from fedmeta.data.sources import load
from fedmeta.metrics import METRICS
from fedmeta.threads import one_thread

TIMED = 256
"""Texts that are timed, at most."""


def rows(
    config: Config, layers: str, out: Path, say: Callable[[str], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """One row of figures for each size of the encoder.

    Args:
        config: the run; its backbone is one transformer.
        layers: numbers of layers, comma-separated; 0: all.
        out: a new folder, in which each run gets one of its own.
        say: told what is being run.

    Raises:
        ConfigError: no numbers, or a backbone that has no layers.
    """
    try:
        sizes = [int(part) for part in layers.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--layers {layers!r}: expected numbers, such as 1,3,6") from None
    store = load(config.data)
    folder, texts = backbones.transformer(store, config.backbone)
    for size in sizes:
        say(f"{size or 'all'} layers")
        backbone = config.backbone.model_copy(update={"layers": size})
        seconds = _seconds(texts[:TIMED], folder, config, size)
        run = simulate(config.model_copy(update={"backbone": backbone}), out / f"layers-{size}")
        figure = f"{METRICS[store.task].name}_macro"
        model, _ = encoder.load(folder, layers=size)
        yield {
            "layers": size or "all",
            "parameters": sum(value.numel() for value in model.parameters()),
            "s_per_1000_texts": seconds,
            "method": config.method.name,
            "measure": figure,
            "before": run.summary["test"]["before"][figure],
            "after": run.summary["test"]["after"][figure],
        }


def _seconds(texts: Sequence[str], folder: Path, config: Config, layers: int) -> float:
    with one_thread():
        # Loading is paid once, whatever the number of texts.
        spent = []
        for some in (texts[:1], texts):
            began = time.process_time()
            encoder.encode(
                some,
                folder,
                max_length=config.backbone.max_length,
                batch=config.backbone.batch,
                layers=layers,
            )
            spent.append(time.process_time() - began)
    return 1000 * (spent[1] - spent[0]) / max(len(texts) - 1, 1)


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title="the same run over encoders cut after a layer")
    for heading in ("layers", "parameters", "s per 1,000 texts", "before", "after"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(
            str(one["layers"]),
            f"{one['parameters']:,}",
            f"{one['s_per_1000_texts']:.1f}",
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
        )
    return out
