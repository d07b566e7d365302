"""Few-shot logistic regression on frozen features: the check of encoder and features alone.

The protocol is MTEB's for classification: 10 draws of 8 training examples per label, a logistic
regression on each, accuracy on all test examples. With 5 and 10 examples it is what the leaderboard
of few-shot intents asks, all classes; its figures are of other encoders, kept fixed as well, so
that they stand beside ours and are not to be met.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
OUT_OF_SCOPE = "oos"
"""What CLINC150 calls texts without an intent; the published figures are without them."""


class Probe(NamedTuple):
    """A published probe.

    Attributes:
        file: its data.
        shots: training examples of each label.
        published: mean accuracy in %.
        source: whose.
        same: whether it is of our encoder and protocol, to be met.
    """

    file: str
    shots: int
    published: float
    source: str
    same: bool = False


BANKING, CLINC = "banking77.jsonl.gz", "clinc150.jsonl.gz"
PROBES = {
    "banking77-8shot": Probe(BANKING, 8, 80.04, "MTEB, all-MiniLM-L6-v2", True),
    "banking77-5shot": Probe(BANKING, 5, 76.29, "USE, fixed"),
    "banking77-10shot": Probe(BANKING, 10, 84.23, "USE, fixed"),
    "clinc150-5shot": Probe(CLINC, 5, 87.82, "USE, fixed"),
    "clinc150-10shot": Probe(CLINC, 10, 90.85, "USE, fixed"),
}


def probe(
    name: str,
    path: Path,
    encoded: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Accuracy of few-shot probes on intents.

    Args:
        name: of the probe.
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
    asked = PROBES[name]
    frame = frame[frame["label"].astype(str) != OUT_OF_SCOPE]
    texts = tuple(dict.fromkeys(frame["text"].astype(str)))
    place = {text: at for at, text in enumerate(texts)}
    vectors = features(_texts(texts), BackboneConfig(name="minilm"), device, encoded)
    x = vectors[[place[text] for text in frame["text"].astype(str)]]
    y = frame["label"].to_numpy(dtype=str)
    split = frame["split"].to_numpy(dtype=str)
    train, test = split == "train", split == "test"
    draws = [
        _draw(x[train], y[train], x[test], y[test], draw, asked.shots) for draw in range(DRAWS)
    ]
    found = interval(100 * np.array(draws), 2000)
    return {
        "name": name,
        "accuracy": found.mean,
        "ci95": [found.low, found.high],
        "draws": [100 * value for value in draws],
        "published": asked.published,
        "source": asked.source,
        "reproduced": 78.5 <= found.mean <= 81.5 if asked.same else None,
    }


def _draw(
    x: NDArray[np.float32], y: NDArray[np.str_], x_test: Any, y_test: Any, draw: int, shots: int
) -> float:
    from sklearn.linear_model import LogisticRegression

    order = seeding.generator(draw, "few-shot").permutation(len(y))
    chosen = np.concatenate([order[y[order] == label][:shots] for label in np.unique(y)])
    probe = LogisticRegression(max_iter=1000).fit(x[chosen], y[chosen])
    return float(probe.score(x_test, y_test))


def _texts(texts: tuple[str, ...]) -> UserStore:
    """A store of items without users: all that a backbone looks at."""
    none = np.zeros(0, dtype=np.int64)
    return UserStore("banking77", texts, none, none, none, (), none.astype(np.int8), ("label",))
