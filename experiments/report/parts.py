"""What a page is made of: plots, tables and facts, without a word on how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # which takes seconds to import
    from fedmeta.metrics import Metric

Number = float | None
Tone = int | Literal["helped", "same", "hurt", "faint"]
"""The colour of a series: a number in the order of methods, or what it says of users."""


class Series(NamedTuple):
    """One line, cloud of points or set of bars.

    Attributes:
        name: for the legend.
        x, y: the points; None: there is none. Texts are categories.
        low, high: the interval of each value (of ``x`` in a forest, else of ``y``); empty: none.
        kind: how it is drawn; `forest`: values along x, categories down y.
        tone: its colour.
        hidden: not in the legend.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[Any]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    kind: Literal["line", "points", "bars", "forest"] = "line"
    tone: Tone = 0
    hidden: bool = False


Columns = list[tuple[str, tuple[str, ...]]]
"""The heading of each column of a table, and the names of its numbers in CSV."""


class Plot(NamedTuple):
    """One picture.

    Attributes:
        key: name of its files and anchor.
        title: what it shows.
        caption: what a reader must know: whom values and intervals are over, K, seeds, users.
        x, y: titles of the axes, with units.
        views: its series; where there are several sets, a reader chooses by name.
        log: axes on a logarithmic scale, out of "xy".
        zero: whether zero is marked on the axis of values.
        missing: why there is no such picture; then there are no views.
    """

    key: str
    title: str
    caption: str = ""
    x: str = ""
    y: str = ""
    views: dict[str, list[Series]] = {}  # noqa: RUF012
    log: str = ""
    zero: bool = False
    missing: str = ""


class Cell(NamedTuple):
    """A cell of a table: what is shown, and the numbers behind it for sorting and for CSV."""

    text: str
    values: tuple[Any, ...]


class Table(NamedTuple):
    """A table that sorts and exports.

    Attributes:
        key: name of its file.
        title: what it shows.
        columns: its columns.
        rows: cells, as many as columns.
        note: below it.
    """

    key: str
    title: str
    columns: Columns
    rows: list[list[Cell]]
    note: str = ""


class Page(NamedTuple):
    """A whole report.

    Attributes:
        title: heading.
        verdict: the sentence on top.
        facts: short pairs below it.
        tables, plots: in this order.
        notes: sentences that a reader needs to read the figures right.
        command: repeats what is shown; with ``config``, where there is one.
        config: the resolved config as TOML.
        origin: versions, seeds, digests: a table of rows.
    """

    title: str
    verdict: str
    facts: list[tuple[str, str]]
    tables: list[Table]
    plots: list[Plot]
    notes: list[str]
    command: str
    config: str
    origin: list[tuple[str, str]]


class Unit(NamedTuple):
    """How a measure is shown: accuracy in per cent, errors as they are."""

    metric: Metric

    @property
    def scale(self) -> float:
        """What values are multiplied with."""
        return 100.0 if self.metric.name == "accuracy" else 1.0

    @property
    def axis(self) -> str:
        """Title of an axis of values."""
        return "accuracy, %" if self.metric.name == "accuracy" else self.words

    @property
    def gain(self) -> str:
        """Title of an axis of gains."""
        return "gain, points" if self.metric.name == "accuracy" else f"gain in {self.words}"

    @property
    def words(self) -> str:
        """The measure in full."""
        return {"mae": "mean absolute error"}.get(self.metric.name, self.metric.name)

    def text(self, value: Number, signed: bool = False) -> str:
        """A value for people; "-" where there is none."""
        if value is None or value != value:
            return "-"
        digits = 1 if self.metric.name == "accuracy" else 3
        return f"{self.scale * value:{'+' if signed else ''}.{digits}f}"

    def of(self, values: Sequence[Number]) -> list[Number]:
        """Values for an axis."""
        return [None if v is None or v != v else self.scale * v for v in values]

    def spreads(self, values: Sequence[dict[str, Any] | None]) -> tuple[list[Number], ...]:
        """Means, lows and highs of figures, for axes."""
        mean = self.of([None if v is None else v["mean"] for v in values])
        low, high = (
            self.of([None if v is None else v["ci95"][at] for v in values]) for at in (0, 1)
        )
        return mean, low, high

    def value(self, value: Number, name: str = "") -> Cell:
        """A cell with one value."""
        return Cell(self.text(value), (value,))

    def spread(self, figure: dict[str, Any] | None, signed: bool = True) -> Cell:
        """A cell with a mean and its 95 % interval, out of ``mean`` and ``ci95``."""
        if figure is None or figure["mean"] is None:
            return Cell("-", (None, None, None))
        low, high = figure["ci95"]
        text = f"{self.text(figure['mean'], signed)} [{self.text(low, signed)},"
        return Cell(f"{text} {self.text(high, signed)}]", (figure["mean"], low, high))


def unit_of(measure: str) -> Unit:
    """The unit of a measure by its name in artefacts."""
    from fedmeta.metrics import METRICS

    return Unit(next(metric for metric in METRICS.values() if metric.name == measure))


def plain(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, (text,))


def count(value: float | None, form: str = ",.0f") -> Cell:
    """A cell with a number that is no measure."""
    return Cell("-" if value is None else format(value, form), (value,))


def share(value: float | None) -> Cell:
    """A cell with a share in per cent."""
    return Cell("-" if value is None else f"{100 * value:.0f} %", (value,))
