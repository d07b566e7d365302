"""The table in docs/methods.md, from the registry: ``python -m experiments.methods_page``.

Only what stands between the two marks is written; the text around it is by hand.
"""

from pathlib import Path

from fedmeta.methods import METHODS
from fedmeta.methods.method import Method

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
BEGIN = "<!-- begin: written by `python -m experiments.methods_page` -->\n"
END = "<!-- end -->\n"
COLUMNS = (
    "method", "a user sends", "a user keeps", "a new user", "trains on", "server",
    "inner rate, steps", "cost", "needs", "source",
)  # fmt: skip


def render() -> str:
    """The tables, one per family, in the order of the registry."""
    families: dict[str, list[Method]] = {}
    for method in METHODS.values():
        families.setdefault(method.family, []).append(method)
    parts = [BEGIN]
    for family, methods in families.items():
        parts.append(f"\n### {family[0].upper()}{family[1:]}\n\n")
        parts.append(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n")
        parts.extend(f"| {' | '.join(map(_cell, _row(method)))} |\n" for method in methods)
    return "".join([*parts, "\n", END])


def _row(method: Method) -> tuple[str, ...]:
    defaults = method.defaults
    server = f"{defaults.optimizer} at {defaults.server_rate:g}" if method.contribute else "-"
    return (
        f"`{method.name}`",
        method.communicates,
        method.keeps,
        method.newcomer if method.personalizes else "takes the global model",
        _trains_on(method),
        server,
        f"{defaults.rate:g}, {defaults.steps}",
        method.cost,
        ", ".join(sorted(method.needs)) or "-",
        method.source,
    )


def _trains_on(method: Method) -> str:
    if method.contribute is None:
        return "-"
    return "support and query" if method.splits else "all examples"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def placed(page: str) -> str:
    """A page with the tables between its marks.

    Raises:
        ValueError: the marks are not there.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE.name}: expected one line {BEGIN!r} and one line {END!r}")
    before, _, rest = page.partition(BEGIN)
    return before + render() + rest.partition(END)[2]


def main() -> None:
    """Write the page."""
    PAGE.write_text(placed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
