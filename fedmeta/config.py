"""The configuration of a run: frozen sections, one set of dotted keys everywhere.

The same keys serve TOML files (flat or nested), ``--set key=value`` and ``flwr run
--run-config``; every value is a scalar, because Flower's run config admits nothing else.
A zero or ``auto`` where the description says so means "what the method prefers".
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Scalar = bool | int | float | str
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names key, value, rule and remedy."""


class Section(BaseModel):
    """One table of the file: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class DataConfig(Section):
    """Where users come from and how their examples are split."""

    source: str = Field("preferences", description="`preferences`, `digits`, `hf:NAME`, or a file")
    support: Count = Field(20, description="examples (K) that a user adapts on")
    query: Count = Field(64, description="most query examples of a training user in one round")
    min_examples: Natural = Field(
        0, description="drop users with fewer examples; 0: `data.support` + 1"
    )
    unseen_items: bool = Field(
        False, description="score `item_fold` 4 only, train and adapt on the other folds"
    )
    task: Literal["auto", "classification", "regression"] = Field(
        "auto", description="auto: regression for non-integer numeric targets"
    )
    standardize: Literal["auto", "none", "features"] = Field(
        "auto", description="scale features by train users' statistics; auto: tabular data only"
    )
    seed: Seed = Field(0, description="seed of generated data, partitions and user splits")
    users: Count = Field(1000, description="generator and partitioners: number of users")
    heterogeneity: Fraction = Field(1.0, description="`preferences`: 0 all alike, 1 all different")
    label_noise: Annotated[float, Field(ge=0.0, lt=0.5)] = Field(
        0.05, description="`preferences`: probability that a label is flipped"
    )
    examples: Count = Field(60, description="`preferences`: median examples per user")
    examples_spread: NonNegative = Field(
        0.4, description="`preferences`: standard deviation of the log of examples per user"
    )
    messages: Count = Field(2400, description="`preferences`: size of the pool of messages")
    partitioner: Literal["auto", "iid", "dirichlet", "pathological", "natural"] = Field(
        "auto", description="how `hf:` and `digits` data become users; auto: natural or dirichlet"
    )
    alpha: Annotated[float, Field(gt=0.0)] = Field(
        0.5, description="concentration of the Dirichlet partitioner"
    )
    classes_per_user: Count = Field(2, description="pathological partitioner: classes of a user")
    hf_subset: str = Field("", description="`hf:`: configuration name of the data set")
    hf_split: str = Field("train", description="`hf:`: split that is partitioned over users")
    user_column: str = Field("user", description="column of the user id")
    text_column: str = Field("text", description="column of the text")
    image_column: str = Field("image", description="column of the image")
    label_column: str = Field("label", description="column of the label or target")
    split_column: str = Field("split", description="column of train / valid / test, by user")
    fold_column: str = Field("item_fold", description="column of the item's fold")
    feature_columns: str = Field(
        "auto", description="comma-separated feature columns; auto: all other numeric columns"
    )


class BackboneConfig(Section):
    """The frozen encoder; features are computed once and cached."""

    name: str = Field(
        "auto",
        description="`minilm`, `hashing`, `identity`, a hub id, a folder, or texts' encoders joined"
        " by `+`; auto: by the data",
    )
    max_length: Count = Field(128, description="most tokens of a text")
    columns: Count = Field(512, description="`hashing`: width of the features")
    batch: Count = Field(64, description="texts per forward pass")
    cache: str = Field("", description="cache folder; empty: $FEDMETA_CACHE or ~/.cache/fedmeta")


class HeadConfig(Section):
    """The small model that users adapt."""

    name: Literal["linear", "mlp"] = Field("mlp", description="see `fedmeta list heads`")
    hidden: Count = Field(64, description="`mlp`: hidden units")


class MethodConfig(Section):
    """The inner loop and what is specific to a method."""

    name: str = Field("maml", description="see `fedmeta list methods`")
    rate: NonNegative = Field(0.0, description="inner learning rate; 0: the method's default")
    steps: Natural = Field(0, description="inner steps in training; 0: the method's default")
    batch: Natural = Field(0, description="inner minibatch; 0: full batch")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="heavy-ball momentum of the inner loop"
    )
    mu: NonNegative = Field(0.1, description="`fedprox`: weight of the proximal term")
    adapt_rate: NonNegative = Field(
        0.0, description="learning rate when a new user personalizes; 0: as in training"
    )
    adapt_steps: Natural = Field(
        0, description="steps when a new user personalizes; 0: as in training"
    )


class ServerConfig(Section):
    """The outer optimizer, which keeps its state across rounds."""

    optimizer: Literal["auto", "sgd", "momentum", "adam", "yogi"] = Field(
        "auto", description="auto: the method's default"
    )
    rate: NonNegative = Field(0.0, description="outer learning rate; 0: the method's default")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9, description="`momentum`, and beta1 of `adam` and `yogi`"
    )
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.99, description="`adam`, `yogi`")
    epsilon: Annotated[float, Field(gt=0.0)] = Field(1e-3, description="`adam`, `yogi`")


class FederationConfig(Section):
    """Rounds and cohorts."""

    rounds: Natural = Field(150, description="communication rounds")
    users_per_round: Count = Field(50, description="users sampled in a round")
    chunk: Count = Field(25, description="users per message and batched program")
    weighting: Literal["uniform", "examples"] = Field(
        "uniform", description="weight of a user's contribution"
    )


class EvaluationConfig(Section):
    """How models are judged; the protocol is described in docs/protocol.md."""

    every: Count = Field(10, description="rounds between evaluations on validation users")
    shots: str = Field("0,1,2,5,10,20", description="support sizes of the adaptation curve")
    tune: bool = Field(
        True, description="choose rate and steps of personalization on validation users"
    )
    bootstrap: Annotated[int, Field(ge=100)] = Field(
        2000, description="bootstrap resamples of the users"
    )


class RunConfig(Section):
    """Where and how the run is executed; only `seed` changes what comes out."""

    name: str = Field("", description="name of the run; empty: the method's")
    out: str = Field("", description="folder of the artefacts; empty: `runs/<time>-<name>`")
    seed: Seed = Field(0, description="seed of initialization, cohorts and support draws")
    backend: Literal["ray", "inline"] = Field("ray", description="where clients run")
    workers: Natural = Field(0, description="worker nodes; 0: one per CPU or GPU")
    device: str = Field("cpu", description="`cpu`, `cuda` or `cuda:N`")
    on_client_error: Literal["fail", "skip"] = Field(
        "fail", description="end the run, or go on without the failed users"
    )


class Config(Section):
    """A whole run. ``Config()`` is the embedded default of ``fedmeta simulate``."""

    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    head: HeadConfig = HeadConfig()
    method: MethodConfig = MethodConfig()
    server: ServerConfig = ServerConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()


def known_keys() -> dict[str, tuple[Any, str]]:
    """Every dotted key with its default and its description, in the order of the sections."""
    return {
        f"{section}.{field.alias}": (field.default, field.description or "")
        for section, info in Config.model_fields.items()
        for field in type(info.default).model_fields.values()
    }


def flatten(config: Config) -> dict[str, Scalar]:
    """The config as dotted keys, the form that Flower's run config takes.

    >>> flatten(Config())["federation.users-per-round"]
    50
    """
    nested = config.model_dump(by_alias=True)
    return {f"{section}.{key}": v for section, table in nested.items() for key, v in table.items()}


def parse(values: Mapping[str, Any]) -> Config:
    """A validated config from dotted keys, nested tables or a mixture of both.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a value of a wrong type
            or out of range. All problems are reported at once.
    """
    flat = dict(_dotted(values))
    known = known_keys()
    problems = [_unknown(key, known) for key in flat if key not in known]
    nested: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        if key in known:
            section, name = key.split(".", 1)
            nested.setdefault(section, {})[name] = value
    try:
        config = Config.model_validate(nested)
    except ValidationError as error:
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            problems.append(f"{name} = {item['input']!r}: {item['msg'].lower()}")
        raise ConfigError("; ".join(problems)) from None
    if problems:
        raise ConfigError("; ".join(problems))
    return config


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _unknown(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown config key {key!r}{hint}"
