"""The configuration of a run: frozen sections, one set of dotted keys everywhere.

The same keys serve TOML files (flat or nested), ``--set key=value`` and ``flwr run
--run-config``; every value is a scalar, because Flower's run config admits nothing else.
A zero or ``auto`` where the description says so means "what the method prefers".
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from fedmeta.sections.data import BackboneConfig, DataConfig
from fedmeta.sections.devices import DevicesConfig
from fedmeta.sections.method import HeadConfig, MethodConfig
from fedmeta.sections.privacy import PrivacyConfig
from fedmeta.sections.robust import RobustConfig
from fedmeta.sections.run import EvaluationConfig, FederationConfig, RunConfig, ServerConfig
from fedmeta.sections.section import Section
from fedmeta.sections.validation import ValidationConfig

Scalar = bool | int | float | str


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names key, value, rule and remedy."""


class Config(Section):
    """A whole run. ``Config()`` is the embedded default of ``fedmeta simulate``."""

    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    head: HeadConfig = HeadConfig()
    method: MethodConfig = MethodConfig()
    server: ServerConfig = ServerConfig()
    federation: FederationConfig = FederationConfig()
    devices: DevicesConfig = DevicesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    robust: RobustConfig = RobustConfig()
    validation: ValidationConfig = ValidationConfig()
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
