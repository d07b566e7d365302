"""What the owner of a node allows, whatever a server asks: his file, in his folder.

The server ships the run's config, and under Flower even code. The policy is read from the node's
own folder by the package that its owner has installed, and nothing that is sent changes it.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from clients.refused import RefusedError
from fedmeta.sections.section import Count, Natural, NonNegative, Section

FILE = "policy.toml"


class Policy(Section):
    """The rules; each is a key of ``policy.toml``. The defaults hold for what is left out."""

    units: list[Literal["off", "example", "local", "central"]] = Field(
        ["off", "example", "local", "central"],
        description="protection of what leaves the node: none; noise per example or per user, made"
        " here; or by the server, which is then trusted with single contributions",
    )
    methods: list[str] = Field([], description="methods that may be run; empty: all")
    backbones: list[str] = Field(
        ["auto", "minilm", "hashing", "identity"],
        description="encoders that may be loaded, by name",
    )
    devices: list[str] = Field(["cpu"], description="where the node may compute")
    max_clip: Annotated[float, Field(gt=0.0)] = Field(
        10.0, description="largest clip under privacy"
    )
    min_noise: NonNegative = Field(
        0.3, description="smallest noise multiplier under privacy, of the noise over the clip"
    )
    epsilon_budget: NonNegative = Field(
        10.0,
        description="largest epsilon of all that leaves under privacy, over all runs; 0: no limit",
    )
    max_delta: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        1e-4, description="largest delta at which epsilon is told"
    )
    max_rounds: Count = Field(10_000, description="most rounds of a run")
    max_steps: Count = Field(500, description="most steps of a descent")
    max_trials: Count = Field(100, description="most ways to personalize in an evaluation")
    max_rate: Annotated[float, Field(gt=0.0)] = Field(
        1000.0, description="largest learning rate or other real setting of a method"
    )
    max_examples: Count = Field(10_000, description="most support or query examples in a round")
    max_parameters: Count = Field(2_000_000, description="most numbers in a model")
    max_width: Count = Field(8192, description="most numbers in a feature vector")
    paths: list[str] = Field(
        [], description="folders on this disk that a config may name; empty: none"
    )
    tell_size: bool = Field(
        True, description="tell the number of examples, in runs without privacy"
    )
    tell_scores: bool = Field(True, description="tell scores on held-out examples when asked")
    train_after_scores: bool = Field(
        False, description="train under privacy though scores were told, which are in no epsilon"
    )
    test_noise: bool = Field(
        False, description="accept noise from the run's seed, which hides nothing: for tests"
    )
    keep_answers: Natural = Field(3, description="replies that are kept for a repeated message")


def read(folder: Path) -> Policy:
    """The policy of a node's folder; the defaults where there is no file.

    Raises:
        RefusedError: a file that cannot be read or has unknown or unusable keys: a rule that is
            not understood is not ignored.
    """
    path = folder / FILE
    if not path.exists():
        return Policy()
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RefusedError("node", f"{path} cannot be used: {error}") from None


def parse(values: Mapping[str, Any]) -> Policy:
    """A policy from its keys.

    Raises:
        ValueError: an unknown key, or a value that its rule does not take.
    """
    try:
        return Policy.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{name} = {first['input']!r:.100}: {first['msg'].lower()}") from None


def text() -> str:
    """The default policy as a commented TOML file, for an owner to edit."""
    lines = []
    for field in Policy.model_fields.values():
        value = field.default
        shown = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
        lines += [f"# {field.description}", f"{field.alias} = {shown}", ""]
    return "\n".join(lines)
