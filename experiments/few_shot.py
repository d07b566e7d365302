"""Few-shot logistic regression on frozen features: the check of encoder and features alone.

The protocol is MTEB's for classification: 10 draws of 8 training examples per label, a logistic
regression on each, accuracy on all test examples.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.backbones import features
from fedmeta.config import ConfigError
from fedmeta.data.files import read_frame
from fedmeta.data.store import UserStore
from fedmeta.problem import device_of
from fedmeta.sections.data import BackboneConfig, DataConfig
from fedmeta.statistics import interval

DRAWS = 10
SHOTS = 8
PUBLISHED = 80.04
"""Mean accuracy in MTEB's results for all-MiniLM-L6-v2 on Banking77, in %."""


def banking77(
    path: Path, encoded: Callable[[int, int], None] | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracy of few-shot probes on the intents of BANKING77.

    Args:
        path: a table with columns `text`, `label` and `split` (`train` / `test`).
        encoded: told about the encoding of texts.
        device: where the encoder runs.

    Returns:
        Mean accuracy in % over the draws, its interval, each draw, and the published figure.

    Raises:
        ConfigError: the table lacks a column, or there is no such device.
    """
    device_of(device)
    frame = read_frame(path, DataConfig())
    missing = {"text", "label", "split"} - set(frame.columns)
    if missing:
        raise ConfigError(f"{path.name} has no column {', '.join(sorted(missing))}")
    texts = tuple(dict.fromkeys(frame["text"].astype(str)))
    place = {text: at for at, text in enumerate(texts)}
    vectors = features(_texts(texts), BackboneConfig(name="minilm"), device, encoded)
    x = vectors[[place[text] for text in frame["text"].astype(str)]]
    y = frame["label"].to_numpy(dtype=str)
    train = frame["split"].to_numpy(dtype=str) == "train"
    draws = [_draw(x[train], y[train], x[~train], y[~train], draw) for draw in range(DRAWS)]
    found = interval(100 * np.array(draws), 2000)
    return {
        "name": "banking77-8shot",
        "accuracy": found.mean,
        "ci95": [found.low, found.high],
        "draws": [100 * value for value in draws],
        "published": PUBLISHED,
        "reproduced": 78.5 <= found.mean <= 81.5,
    }


def _draw(
    x: NDArray[np.float32], y: NDArray[np.str_], x_test: Any, y_test: Any, draw: int
) -> float:
    from sklearn.linear_model import LogisticRegression

    order = seeding.generator(draw, "few-shot").permutation(len(y))
    chosen = np.concatenate([order[y[order] == label][:SHOTS] for label in np.unique(y)])
    probe = LogisticRegression(max_iter=1000).fit(x[chosen], y[chosen])
    return float(probe.score(x_test, y_test))


def _texts(texts: tuple[str, ...]) -> UserStore:
    """A store of items without users: all that a backbone looks at."""
    none = np.zeros(0, dtype=np.int64)
    return UserStore("banking77", texts, none, none, none, (), none.astype(np.int8), ("label",))
