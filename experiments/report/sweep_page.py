"""The page of a sweep: gains of methods at values of settings."""

from typing import Any

from experiments.report.parts import Columns, Page, Plot, Series, Table, plain, share, unit_of
from fedmeta.methods import METHODS


def sweep(content: dict[str, Any]) -> Page:
    """Gains of methods at values of settings."""
    unit = unit_of(content["measure"])
    tables, plots, said = [], [], []
    for number, panel in enumerate(content["panels"]):
        titled = panel["title"] != panel["key"]
        title = f"{panel['title']}, by {panel['key']}" if titled else f"Gain by {panel['key']}"
        points = panel["points"]
        names = [name for name in points[0]["methods"] if METHODS[name].personalizes]
        x = [point["value"] for point in points]
        lines, rows = [], []
        for at, name in enumerate(names):
            cells = [point["methods"][name] for point in points]
            figures = [
                None if c["gain"] is None else {"mean": c["gain"], "ci95": c["ci95"]} for c in cells
            ]
            mean, low, high = unit.spreads(figures)
            lines.append(Series(name, x, mean, low, high, tone=at))
            rows += [
                [plain(name), plain(value), unit.spread(figure), share(cell["hurt_share"]),
                 plain("yes" if cell["pays"] else "no")]
                for value, figure, cell in zip(x, figures, cells, strict=True)
            ]  # fmt: skip
        seeds = f" and {content['seeds']} seeds" if content["seeds"] > 1 else ", one seed"
        caption = (
            "Gain over the best one model for all at each value. 95 % bootstrap intervals over"
            f" test users{seeds}."
        )
        plots.append(
            Plot(f"sweep-{number + 1}", panel["title"] if titled else title, caption,
                 panel["key"], unit.gain, {"": lines}, zero=True)
        )  # fmt: skip
        columns: Columns = [
            ("method", ("method",)), (panel["key"], ("value",)),
            ("gain [95 %]", ("gain", "low", "high")), ("hurt", ("hurt_share",)),
            ("pays", ("pays",)),
        ]  # fmt: skip
        note = "Pays: the whole interval is above zero."
        tables.append(Table(f"sweep-{number + 1}", title, columns, rows, note))
        last = points[-1]
        said.append(f"At {panel['key']} = {last['value']}: {last['verdict']}")
    facts = [("seeds", str(content["seeds"])), ("measure", unit.axis)]
    return Page("fedmeta: sweep", "\n".join(said), facts, tables, plots, [], "", "", [])
