"""What there is: methods, heads, data sources and backbones."""

from rich.markup import escape
from rich.table import Table

from fedmeta.backbones import BACKBONES
from fedmeta.config import ConfigError
from fedmeta.data.sources import DATA
from fedmeta.heads import HEADS, TAKES
from fedmeta.methods import METHODS

Rows = list[dict[str, str]]

TAKEN = {
    "vector": "one vector",
    "tokens": "tokens, or one vector",
    "ids": "texts (encoder in the loop)",
    "numbers": "pixels or characters",
}
"""What heads take of an example, in words."""


def rows(what: str) -> Rows:
    """One row for each thing of a kind, the columns in order.

    Raises:
        ConfigError: no such kind.
    """
    if what == "methods":
        return [
            {
                "name": method.name,
                "family": method.family,
                "source": method.source,
                "communicates": method.communicates,
                "keeps": method.keeps,
                "newcomer": method.newcomer if method.personalizes else "takes the global model",
                "cost": method.cost,
            }
            for method in METHODS.values()
        ]
    if what == "heads":
        return [
            {
                "name": name,
                "what": (head.__doc__ or "").splitlines()[0],
                "takes": TAKEN[TAKES.get(name, "vector")],
                "methods": ", ".join(m for m, one in METHODS.items() if one.makes == name) or "any",
            }
            for name, head in HEADS.items()
        ]
    tables = {"data": DATA, "backbones": BACKBONES}
    if what not in tables:
        raise ConfigError(f"list {what!r}: expected methods, heads, data or backbones")
    return [{"name": name, "what": text} for name, text in tables[what].items()]


def table(what: str, content: Rows) -> Table:
    """The rows as a table."""
    out = Table(title=what)
    for heading in content[0]:
        out.add_column(heading, no_wrap=heading == "name")  # to be found, and to be copied
    for row in content:
        out.add_row(*map(escape, row.values()))
    return out
