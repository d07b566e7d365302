"""A page as one HTML file: data, style and scripts inside, nothing asked of a network."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from experiments.plain import plain
from experiments.report.interactive import figures
from experiments.report.parts import Page

ASSETS = Path(__file__).parent / "assets"
MARK = '<meta name="generator" content="fedmeta report">'
"""By which a file is known as one of ours, which may be written anew."""


def html(page: Page) -> str:
    """The text of the file. Whatever comes from a user is escaped where it stands."""
    import jinja2
    from jinja2.utils import htmlsafe_json_dumps

    # Text in a template is escaped unless it says otherwise, and data in scripts are JSON.
    room = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(ASSETS), undefined=jinja2.StrictUndefined
    )
    room.filters["numbers"] = lambda found: json.dumps(plain(found))
    data = htmlsafe_json_dumps({plot.key: figures(plot) for plot in page.plots if plot.views})
    scripts = {"plotly": asset("plotly-basic.min.js"), "report": asset("report.js")}
    values: dict[str, Any] = {
        "page": page,
        "mark": MARK,
        "data": data,
        "style": asset("report.css"),
        # Only these two may run: a script that slipped through would not.
        "hashes": " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values()),
        **scripts,
    }
    return room.get_template("report.html.j2").render(values)


@cache
def asset(name: str) -> str:
    """A file that every page holds."""
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
