"""The reference of config keys, generated from the code: ``python -m experiments.reference``."""

import typing
from pathlib import Path

from fedmeta.config import Config
from fedmeta.sections.section import Section

PAGE = Path(__file__).parents[1] / "docs" / "config.md"

HEAD = """# Config keys

One TOML file, flat or nested; the same dotted keys go after `--set` and, as strings in one
quoted list, after `flwr run . --run-config`. Written by `python -m experiments.reference`; do not
edit. What the method prefers where a value is 0 or `auto` is in [methods.md](methods.md), and the
`config.toml` of a run has the values that were taken.
"""


def render() -> str:
    """The page, one table per section."""
    parts = [HEAD]
    for name, field in Config.model_fields.items():
        section = type(field.default)
        parts.append(f"\n## `[{name}]`\n\n{(section.__doc__ or '').strip()}\n\n")
        parts.append("| key | default | values | |\n|---|---|---|---|\n")
        parts.extend(_rows(name, section))
    return "".join(parts)


def _rows(name: str, section: type[Section]) -> list[str]:
    rows = []
    for field in section.model_fields.values():
        default = f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"
        default = default.replace("True", "true").replace("False", "false")
        text = (field.description or "").replace("|", "\\|")
        values = _values(field.annotation, field.metadata)
        rows.append(f"| `{name}.{field.alias}` | {default} | {values} | {text} |\n")
    return rows


def _values(annotation: object, metadata: list[object]) -> str:
    """The type and its range, in words."""
    choices = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}
    words = [kind.get(annotation, str(annotation)) if isinstance(annotation, type) else "text"]
    for rule in metadata:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            bound = getattr(rule, attribute, None)
            if bound is not None:
                words.append(f"{sign} {bound:g}")
    return " ".join(words)


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
