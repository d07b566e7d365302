"""Plots as Plotly figures: plain data that its JavaScript, or its Python package, reads."""

import math
from typing import Any

from experiments import drawing
from experiments.report.parts import Plot, Series

TONES = {"helped": "#0072B2", "same": "#7F7F7F", "hurt": "#D55E00", "faint": "#7F7F7F"}
"""Of what is said of users: blue and vermilion, which any colour vision tells apart."""
SYMBOLS = ("circle", "square", "diamond", "triangle-down", "triangle-up", "cross", "x", "star",
           "triangle-left", "triangle-right")  # fmt: skip
DASHES = ("solid", "dash", "dashdot", "dot")


def figures(plot: Plot) -> dict[str, dict[str, Any]]:
    """A Plotly figure (`data`, `layout`) for each view of a plot."""
    return {
        name: {
            "data": [_trace(one, plot, bar_width(series)) for one in series],
            "layout": layout(plot, series),
        }
        for name, series in plot.views.items()
    }


def bar_width(series: list[Series]) -> float | None:
    """Of bars that divide 0 to 100 among users: one for each; None: bars stand at words.

    Left alone, one user who is helped would get another width than twenty who are hurt.
    """
    places = [place for one in series if one.kind == "bars" for place in one.x]
    return None if not places or any(isinstance(p, str) for p in places) else 100 / len(places)


def colour_of(series: Series) -> str:
    """The colour of a series on a light ground."""
    tone = series.tone
    return TONES[tone] if isinstance(tone, str) else drawing.COLOURS[tone % len(drawing.COLOURS)]


def layout(plot: Plot, series: list[Series]) -> dict[str, Any]:
    """Axes and legend; colours of ground and text are the page's."""
    forest = any(one.kind == "forest" for one in series)
    bars = any(one.kind == "bars" for one in series)
    x: dict[str, Any] = {"title": {"text": plot.x}, "automargin": True, "zeroline": False}
    y: dict[str, Any] = {"title": {"text": plot.y}, "automargin": True, "zeroline": False}
    values = x if forest else y
    values |= {"zeroline": plot.zero, **({"rangemode": "tozero"} if plot.zero else {})}
    if any(isinstance(place, str) for one in series for place in one.x):
        # In the order given: an epsilon of 10 comes after one of 2.
        places = dict.fromkeys(place for one in series for place in one.x)
        x |= {"type": "category", "categoryorder": "array", "categoryarray": list(places)}
    if forest:
        y |= {"type": "category", "ticklabelstandoff": 6}
    for name, axis in (("x", x), ("y", y)):
        if name in plot.log:
            axis |= {"type": "log", "dtick": "D2"}  # 1, 2, 5: nine digits a decade run together
    if sorted_users := bar_width(series) is not None:
        x |= {"range": [0, 100]}
    numbers = [place for one in series for place in one.x if isinstance(place, int)]
    if numbers and max(numbers) - min(numbers) < 10 and "dtick" not in x:
        x |= {"dtick": 1}  # there is no round 4.5
    beside = x.get("type") == "category" and {one.kind for one in series} == {"points"}
    if beside and not plot.zero:  # which Plotly would begin at zero
        ends = [v for one in series for v in (*one.low, *one.high, *one.y) if v is not None]
        pad = 0.06 * (max(ends) - min(ends)) if ends else 0.0
        y |= {"range": [min(ends) - pad, max(ends) + pad]} if pad else {}
    few = max((len(one.x) for one in series), default=0) < 3  # else two bars fill a wide page
    height = 120 + 26 * max((len(one.y) for one in series), default=0) if forest else 380
    return {
        "xaxis": x,
        "yaxis": y,
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "showlegend": any(not one.hidden for one in series),
        "legend": {"orientation": "h", "y": 1.03, "x": 0, "yanchor": "bottom"},
        "hovermode": "closest",
        # Points with intervals over the same word stand beside each other.
        **({"scattermode": "group", "scattergap": 0.4} if beside else {}),
        **({"barmode": "overlay" if sorted_users else "group"} if bars else {}),
        **({"bargap": 0.0 if sorted_users else 0.7 if few else 0.3} if bars else {}),
    }


def _trace(series: Series, plot: Plot, width: float | None) -> dict[str, Any]:
    colour = colour_of(series)
    trace: dict[str, Any] = {
        "name": series.name,
        "x": [_short(v) for v in series.x],
        "y": [_short(v) for v in series.y],
        "showlegend": not series.hidden,
    }
    if series.kind == "bars":
        trace |= {"type": "bar", "marker": {"color": colour, "line": {"width": 0}}}
        trace |= {} if width is None else {"width": width}
        if len(series.x) <= 8 and any(isinstance(place, str) for place in series.x):
            texts = [_told(v) for v in trace["y"]]  # of no height: told too
            trace |= {"text": texts, "textposition": "outside", "cliponaxis": False}
        return trace
    at = series.tone if isinstance(series.tone, int) else 0
    marker: dict[str, Any] = {"color": colour, "size": 7, "symbol": SYMBOLS[at % len(SYMBOLS)]}
    if series.tone == "faint":
        marker |= {"size": 5, "opacity": 0.45}
    trace |= {"type": "scatter", "mode": "markers", "marker": marker}
    if series.kind == "line":
        dash = DASHES[at // len(drawing.COLOURS) % len(DASHES)]
        trace |= {"mode": "lines+markers", "line": {"color": colour, "width": 2, "dash": dash}}
        if len(series.x) > 40:
            trace["mode"] = "lines"
    if series.low:
        forest = series.kind == "forest"
        values = series.x if forest else series.y
        trace["error_x" if forest else "error_y"] = _error(series, values, colour)
        # Hovering tells the ends of the interval as they are, and not as distances.
        trace["customdata"] = [
            [_short(low), _short(high)] for low, high in zip(series.low, series.high, strict=True)
        ]
        value, place = ("x", "y") if forest else ("y", "x")
        trace["hovertemplate"] = (
            f"%{{{place}}}: %{{{value}:.4g}} [%{{customdata[0]:.4g}}, %{{customdata[1]:.4g}}]"
        )
    return trace


def _error(series: Series, values: Any, colour: str) -> dict[str, Any]:
    rows = list(zip(values, series.low, series.high, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [_gap(value, high) for value, _, high in rows],
        "arrayminus": [_gap(low, value) for value, low, _ in rows],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def _gap(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else _short(high - low)


def _told(value: Any) -> str:
    """A number at a bar; thousands in full, not as 1.25e+03."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _short(value: Any) -> Any:
    """A number with five digits, which is more than is seen; not finite: None."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None
