"""Named experiments: the config, the methods and what is claimed of their result."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import central, settings
from experiments.comparison import DEFAULT_METHODS
from experiments.few_shot import PROBES
from experiments.found import Comparison
from fedmeta.config import Config, ConfigError
from fedmeta.data.sources import SOURCES
from fedmeta.problem import build

CONFIGS = Path(__file__).parent / "configs"


class Experiment(NamedTuple):
    """One comparison that stands in the documentation.

    Attributes:
        config: file in ``experiments/configs``.
        sets: what differs from it.
        claim: what its result is held against.
        methods: which are compared.
        central: whether the baseline of who collects the data is computed beside them.
    """

    config: str
    sets: Mapping[str, Any]
    claim: str
    methods: tuple[str, ...] = ("bias", *DEFAULT_METHODS, "fomaml", "meta-sgd")
    central: bool = False


def _politeness(support: int, unseen: bool, offset: float) -> Experiment:
    # Words remember requests that others have judged; of new ones they know little.
    short = ("bias", *DEFAULT_METHODS)
    return Experiment(
        "politeness.toml" if unseen else "politeness-seen.toml",
        {"data.support": support, "data.unseen-items": unseen},
        f"personalization pays, and is not worse than a plain per-user offset ({offset} %)",
        (*short, "fomaml", "meta-sgd") if unseen else short,
        central=True,
    )


def _intents(shots: int, variable: bool) -> Experiment:
    # The last is the protocol of FLEX: ways, shots and shares that differ from task to task.
    return Experiment(
        "intents.toml",
        {
            "data.support": 5 * shots,
            "data.variable": variable,
            "evaluation.shots": str(5 * shots),
        },
        "prototypes of frozen features are hard to beat where the encoder knows the domain",
        ("protonet-frozen", "protonet", "protomaml", "ridge", "maml", "reptile"),
    )


EXPERIMENTS: dict[str, Experiment] = {
    "politeness-seen-5": _politeness(5, False, 67.1),
    "politeness-seen-20": _politeness(20, False, 70.3),
    "politeness-unseen-5": _politeness(5, True, 63.3),
    "politeness-unseen-20": _politeness(20, True, 65.5),
    "irony": Experiment(
        "irony.toml",
        {},
        "personalization does not pay: the negative control",
        ("bias", *DEFAULT_METHODS),
        central=True,
    ),
    "irony-20": Experiment(
        "irony.toml",
        {"data.support": 20},
        "at most a small gain (with tf-idf of words and 20 examples: +0.2 +/- 0.5 points)",
        ("bias", *DEFAULT_METHODS),
        central=True,
    ),
    "parkinsons": Experiment(
        "parkinsons.toml", {}, "a per-user offset takes the error from 7.05 to 2.50"
    ),
    "omniglot-5w1s": Experiment(
        "omniglot.toml",
        {"method.rate": 0.4, "method.steps": 1, "method.adapt-steps": 3},
        "protonet reaches 98 % on classes of unseen alphabets, 5-way 1-shot, maml and reptile less",
        ("protonet", "fomaml", "maml", "reptile"),
    ),
    "omniglot-20w1s": Experiment(
        "omniglot.toml",
        {"data.way": 20, "data.support": 20, "data.query": 100, "evaluation.shots": "20"},
        "protonet reaches 95 % on classes of unseen alphabets, 20-way 1-shot",
        ("protonet",),
    ),
    "sinusoid": Experiment(
        "sinusoid.toml",
        {},
        "after 10 points maml's error is far under that of one pre-trained network fine-tuned",
        ("fedavg-ft", "maml"),  # with one step in training reptile is fedavg-ft
    ),
    "intents-5w1s": _intents(1, False),
    "intents-5w5s": _intents(5, False),
    "intents-flex": _intents(5, True),
    "shakespeare": Experiment(
        "shakespeare.toml",
        {},
        "at most a small gain over one model for all: speakers of plays write alike",
        ("fedavg", "fedavg-ft", "reptile", "maml"),
    ),
    "preferences-alike": Experiment(
        "preferences.toml", {"data.heterogeneity": 0.0}, "no method gains: users are all alike"
    ),
    "preferences-different": Experiment(
        "preferences.toml",
        {"data.heterogeneity": 1.0},
        "the best meta-learner gets at least 60 % of the achievable gain",
    ),
    "devices": Experiment(
        "devices.toml",
        {},
        "with phones that are away, slow or drop, maml still ends ahead of reptile and fedavg-ft",
        ("fedavg-ft", "reptile", "maml"),
    ),
}


def rows() -> list[dict[str, str]]:
    """Name and claim of every experiment."""
    probes = [
        {
            "name": name,
            "claim": f"few-shot probe of the encoder: {one.published} % published ({one.source})",
        }
        for name, one in PROBES.items()
    ]
    return probes + [{"name": name, "claim": e.claim} for name, e in EXPERIMENTS.items()]


def config_of(name: str, data: Path | None, sets: list[str], flags: Mapping[str, Any]) -> Config:
    """The config of an experiment, with its data file found.

    Raises:
        ConfigError: no such experiment, or no such data file.
    """
    if name not in EXPERIMENTS:
        names = ", ".join((*PROBES, *EXPERIMENTS))
        raise ConfigError(f"reproduce {name!r}: expected one of {names}")
    experiment = EXPERIMENTS[name]
    base = located(settings.read(CONFIGS / experiment.config), data)
    values = {**experiment.sets, "data.source": base.data.source}
    fixed = [f"{key}={_toml(value)}" for key, value in values.items()]
    return settings.read(CONFIGS / experiment.config, [*fixed, *sets], flags)


def located(config: Config, data: Path | None) -> Config:
    """A packaged config with its data file found, where it has one.

    Raises:
        ConfigError: there is none.
    """
    source = config.data.source
    if source in SOURCES:
        return config
    section = config.data.model_copy(update={"source": str(data_file(source, data))})
    return config.model_copy(update={"data": section})


def result(name: str, config: Config, found: Comparison) -> dict[str, Any]:
    """What a comparison found, what was claimed of it, and what it is held against.

    Args:
        name: of the experiment.
        config: as it was run.
        found: what came out.
    """
    experiment = EXPERIMENTS[name]
    content = found.content | {"folder": str(found.folder), "claim": experiment.claim}
    if experiment.central and found.verdict.method:
        scores = {method: row.scores for method, row in found.rows.items()}
        seeds = found.content["seeds"]
        content["central"] = central.against(build(config), scores, found.verdict.method, seeds)
    return content


def data_file(name: str, given: Path | None) -> Path:
    """The data file of an experiment: given, in a given folder, or in ``$FEDMETA_DATA``.

    Raises:
        ConfigError: it is in none of these.
    """
    where = given or Path(os.environ.get("FEDMETA_DATA", "."))
    path = where if where.is_file() else where / name
    if not path.is_file():
        raise ConfigError(
            f"no file {name!r} in {str(where)!r}; name the file or its folder with --data, or"
            " set FEDMETA_DATA to the folder"
        )
    return path


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
