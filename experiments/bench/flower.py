"""``fedmeta bench flower``: users per second through Ray, ours and stock Flower's."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from experiments.bench import ours, stock, users
from fedmeta.config import ConfigError

STOCK_NODES = 1000
STOCK_ROUNDS = 2


def rows(
    cohorts: Sequence[int],
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
    stock_nodes: int = STOCK_NODES,
    backend: str = "ray",
) -> Iterator[dict[str, Any]]:
    """One row for each cohort size, on the same users.

    Args:
        cohorts: users a round.
        rounds: rounds that are measured, after one that is not.
        say: told what is going on.
        stock_nodes: virtual clients of stock Flower; 0: it is not run.
        backend: ``ray``, or ``inline`` for a quick try.

    Raises:
        StockError: stock Flower failed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="fedmeta-bench-") as folder:
        path = Path(folder) / "users.npz"
        users.write(path, max(*cohorts, stock_nodes))
        rate = float("nan")
        if stock_nodes:
            say(f"stock Flower: {STOCK_ROUNDS + 1} rounds of {stock_nodes} virtual clients")
            rate = stock.measure(path, stock_nodes, STOCK_ROUNDS)
        for cohort in cohorts:
            say(f"fedmeta: {rounds + 1} rounds of {cohort} users")
            found = ours.measure(path, cohort, rounds, backend)
            yield {
                "work": users.WORK.name,
                "users": cohort,
                "users_per_s": found.users_per_s,
                "stock_users_per_s": rate,
                "ratio": found.users_per_s / rate,
                "peak_rss_mb": found.peak_rss_mb,
            }


def cohorts_of(text: str) -> list[int]:
    """Cohort sizes from a comma-separated list.

    Raises:
        ConfigError: not positive numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--users {text!r}: expected comma-separated numbers, as in 1000,10000")
    return [int(part) for part in parts]


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title=f"users per second; stock Flower with {STOCK_NODES:,} virtual clients")
    for heading in ("users a round", "fedmeta", "stock Flower", "ratio", "peak memory, MB"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(
            f"{one['users']:,}",
            f"{one['users_per_s']:,.0f}",
            f"{one['stock_users_per_s']:,.0f}",
            f"{one['ratio']:.0f}x",
            f"{one['peak_rss_mb']:,.0f}",
        )
    return out
