"""Keep the defaults that Flower reads from pyproject.toml equal to `fedmeta.config`.

Flower accepts a key in ``flwr run --run-config`` only if pyproject.toml declares it, so every
key is declared there with its default, between two marker lines. After a change to
`fedmeta.config`, run ``python -m experiments.flower_config``; a test compares the two.
"""

from pathlib import Path
from typing import Any

import tomli_w

from fedmeta.config import known_keys

BEGIN = "# begin: written by `python -m experiments.flower_config`\n"
END = "# end\n"
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


class FlowerConfigError(ValueError):
    """A pyproject.toml that has no place for the block."""


def render() -> str:
    """The block: one ``[tool.flwr.app.config.SECTION]`` table for each section."""
    tables: dict[str, dict[str, Any]] = {}
    for key, (default, _) in known_keys().items():
        section, name = key.split(".", 1)
        tables.setdefault(section, {})[name] = default
    # Flower joins nested tables with dots, which gives back exactly the keys of `known_keys`.
    return tomli_w.dumps({"tool": {"flwr": {"app": {"config": tables}}}})


def split(text: str) -> tuple[str, str, str]:
    """What stands before, between and after the markers, the markers not included.

    Raises:
        FlowerConfigError: the markers are not there exactly once, in order.
    """
    for marker in (BEGIN, END):
        if text.count(marker) != 1:
            raise FlowerConfigError(
                f"pyproject.toml has {text.count(marker)} lines {marker.strip()!r}, expected 1: "
                "put one pair of marker lines where the block shall stand"
            )
    before, rest = text.split(BEGIN)
    if END not in rest:
        raise FlowerConfigError(
            f"pyproject.toml has {END.strip()!r} before {BEGIN.strip()!r}: swap the marker lines"
        )
    block, after = rest.split(END)
    return before, block, after


def rewrite(path: Path = PYPROJECT) -> None:
    """Put the current block between the markers of a pyproject.toml."""
    before, _, after = split(path.read_text(encoding="utf-8"))
    path.write_text(before + BEGIN + render() + END + after, encoding="utf-8")


if __name__ == "__main__":
    rewrite()
