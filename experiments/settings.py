"""The config of a command: embedded defaults, then a TOML file, then ``--set``, then flags."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedmeta.config import Config, ConfigError, flatten, known_keys, parse

FRONTIER = "frontier"
"""The table of a file that holds the axes of a frontier."""


def read(
    path: Path | None, sets: Iterable[str] = (), flags: Mapping[str, Any] | None = None
) -> Config:
    """The validated config of a command.

    Args:
        path: a TOML file, or None for the embedded default.
        sets: ``key=value`` texts; the value is read as TOML, and as it stands where it is none or
            where the key takes a text (`evaluation.shots=5`).
        flags: dotted keys from flags; None values are passed over.

    Raises:
        ConfigError: a missing or malformed file, or settings that do not fit.
    """
    file = _file(path) if path else {}
    values = flatten(parse({key: value for key, value in file.items() if key != FRONTIER}))
    values |= dict(_pair(text) for text in sets)
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    return parse(values)


def frontier(path: Path | None) -> dict[str, Any]:
    """The table of ``fedmeta frontier`` in a config, which no other command reads.

    Raises:
        ConfigError: a missing or malformed file.
    """
    table = (_file(path) if path else {}).get(FRONTIER, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{FRONTIER} = {table!r}: expected a table, [{FRONTIER}]")
    return table


def left(folder: Path | None) -> Path | None:
    """The config of a run that was left in a folder; None without one."""
    if folder is None:
        return None
    from experiments import artifacts  # pyarrow takes a while, and `--help` does not need it

    return artifacts.reopen(folder) / "config.toml"


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {str(path)!r}; check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"config file {str(path)!r} cannot be read as TOML: {error}") from None


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: expected key=value, as in federation.rounds=50")
    return key.strip(), _value(key.strip(), value.strip())


def _value(key: str, text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    default, _ = known_keys().get(key, (None, ""))
    return text if isinstance(default, str) and not isinstance(value, str) else value
