"""The charts of the group report: Vega-Lite specifications, what each number is called, and the script that draws them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import vl_convert

from veridice.metrics.catalogue import MEASURES, Measure, label

VERDICT_SCALE = {"domain": ["accept", "review", "reject", "none"]}
SHAPES = {**VERDICT_SCALE, "range": ["circle", "triangle-up", "square", "diamond"]}
COLOURS = {**VERDICT_SCALE, "range": ["#009E73", "#E69F00", "#D55E00", "#7f8896"]}
"""Okabe and Ito's bluish green, orange and vermilion: told apart by colour-blind eyes, and by their shapes besides."""

TICKS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
FIRST = ("predicted_dice", "failure_probability", "lesion_volume_ml", "unfamiliarity", "brain_volume_ml", "pairwise_dice")
"""Drawn beside the worklist; any other number can be chosen there."""
NO_MEASURES = ("rank", "known", "interval_low", "interval_high")


@cache
def drawing_script() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed, as ``vl-convert`` carries them: made offline, once a process."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("\r\n", "\n")


def measures(table: pd.DataFrame, min_dice: float | None) -> dict[str, dict[str, Any]]:
    """Columns that can be drawn: name, scale, a scale near the values, axis, a value to mark. The first ones first.

    Args:
        table: one row a scan; numbers among its columns that are finite somewhere are measures.
        min_dice: marked on the axis of the predicted Dice when given.
    """
    numeric = [str(name) for name in table if pd.api.types.is_numeric_dtype(table[name]) and name not in NO_MEASURES]
    ordered = [name for name in FIRST if name in numeric] + [name for name in numeric if name not in FIRST]
    found = {}
    for name in ordered:
        values = table[name].to_numpy(np.float64, na_value=np.nan)
        values = values[np.isfinite(values)]
        if len(values) and not pd.api.types.is_bool_dtype(table[name]):
            axis = _axis(MEASURES.get(name), float(values.min()), float(values.max()))
            found[name] = {"label": label(name), "mark": min_dice if name == "predicted_dice" else None, **axis}
    return found


def _axis(measure: Measure | None, low: float, high: float) -> dict[str, Any]:
    axis: dict[str, Any] = {"tickCount": 5, "labelOverlap": "greedy"}
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    ends = [_short(low - margin), _short(high + margin)]
    near = {"domain": ends, "zero": False, "nice": False}
    if measure and measure.fraction and low >= 0 and high <= 1:
        close = {**near, "domain": [max(0.0, ends[0]), min(1.0, ends[1])]}
        return {"scale": {"domain": [0, 1], "nice": False}, "near": close, "axis": axis}
    if measure and measure.skewed and low >= 0 and high > 0:
        ticks = [on_step for on_step in TICKS if on_step <= high] if high >= 3 else None
        scale = {"type": "symlog", "constant": 1, "domain": [0, high * 1.05], "nice": False}
        return {"scale": scale, "near": scale, "axis": {"labelOverlap": "greedy", "values": ticks} if ticks else axis}
    if max(abs(low), abs(high)) >= 10_000 or high - low >= 8:
        axis["format"] = "~s" if max(abs(low), abs(high)) >= 10_000 else ",.0f"
    return {"scale": near, "near": near, "axis": axis}


def _short(value: float) -> float:
    return value if value == 0 else round(value, 4 - math.ceil(math.log10(abs(value))))


VALUE = {"field": "value", "type": "quantitative"}
LANE = {
    "field": "lane",
    "type": "quantitative",
    "scale": {"domain": {"expr": "[-0.5, length(lanes) - 0.5]"}, "reverse": True, "nice": False, "zero": False},
    "axis": {
        "values": {"expr": "sequence(length(lanes))"},
        "labelExpr": "lanes[datum.value]",
        "title": None,
        "grid": False,
        "ticks": False,
        "domain": False,
        "labelLimit": 170,
        "labelPadding": 9,
    },
}
DATES = {"title": None, "labelOverlap": "greedy", "tickCount": 6, "format": "%b %Y"}
TIME = {"field": "time", "type": "temporal", "scale": {"type": "utc"}, "axis": DATES}
MARK_LINE = {"type": "rule", "color": {"expr": "soft"}, "strokeDash": [4, 3], "strokeWidth": 1.5}
BRUSH = {"name": "brush", "select": {"type": "interval", "encodings": ["x"], "clear": False}}


def specifications() -> dict[str, dict[str, Any]]:
    """``lanes``: values along x, a lane a group; ``time``: values over time. The page's script fills in data and axes.

    Fields: ``row`` (index), ``value`` or ``time``, ``lane`` (number of the group plus jitter), ``verdict``. Named data:
    ``rest`` and ``shown`` (scans outside and inside the worklist's filters), ``lit``, ``marks``, ``boxes``, ``trend``.
    """
    return {"lanes": _chart(*_lane_layers(), LANE, VALUE), "time": _chart(*_trend_layers(), VALUE, TIME)}


Layers = list[dict[str, Any]]


def _chart(below: Layers, above: Layers, y: dict[str, Any], x: dict[str, Any]) -> dict[str, Any]:
    place = {"x": x, "y": y}
    verdict = {
        "color": {"field": "verdict", "type": "nominal", "scale": COLOURS, "legend": None},
        "shape": {"field": "verdict", "type": "nominal", "scale": SHAPES, "legend": None},
    }
    rest = {"type": "point", "filled": True, "size": 10, "opacity": 0.45, "color": {"expr": "faint"}}
    shown = {"type": "point", "filled": True, "size": {"expr": "pointSize"}, "opacity": {"expr": "pointOpacity"}}
    ring = {"type": "point", "filled": True, "size": 130, "stroke": {"expr": "ink"}, "strokeWidth": 2.5, "opacity": 1}
    line = {"type": "rule", "color": {"expr": "ink"}, "strokeWidth": 1}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": "transparent",
        "params": [
            {"name": "lanes", "value": []},
            *[{"name": name, "value": "#888"} for name in ("ink", "soft", "faint")],
            *[{"name": name, "value": 1} for name in ("pointSize", "pointOpacity")],
        ],
        "layer": [
            *below,
            {"data": {"name": "rest"}, "mark": rest, "encoding": place},
            {"data": {"name": "shown"}, "mark": shown, "encoding": {**place, **verdict}, "params": [BRUSH]},
            *above,
            {"data": {"name": "lit"}, "mark": line, "encoding": {"x": x}},
            {"data": {"name": "lit"}, "mark": ring, "encoding": {**place, **verdict}},
        ],
        "config": _colours(),
    }


def _lane_layers() -> tuple[Layers, Layers]:
    """What lies below the dots, and what above."""
    box = {"type": "rect", "color": {"expr": "faint"}, "opacity": 0.6}
    median = {"type": "rule", "color": {"expr": "ink"}, "strokeWidth": 2}
    edges = {"y": {**LANE, "field": "lane_low"}, "y2": {"field": "lane_high"}}
    quartiles = {"x": {**VALUE, "field": "value_low"}, "x2": {"field": "value_high"}}
    below = [
        {"data": {"name": "boxes"}, "mark": box, "encoding": {**quartiles, **edges}},
        {"data": {"name": "marks"}, "mark": MARK_LINE, "encoding": {"x": VALUE}},
    ]
    return below, [{"data": {"name": "boxes"}, "mark": median, "encoding": {"x": VALUE, **edges}}]


def _trend_layers() -> tuple[Layers, Layers]:
    line = {"type": "line", "color": {"expr": "ink"}, "strokeWidth": 2}
    below = [{"data": {"name": "marks"}, "mark": MARK_LINE, "encoding": {"y": VALUE}}]
    return below, [{"data": {"name": "trend"}, "mark": line, "encoding": {"x": TIME, "y": VALUE}}]


def _colours() -> dict[str, Any]:
    soft = {"expr": "soft"}
    axis = {"labelColor": soft, "titleColor": soft, "gridColor": {"expr": "faint"}, "tickColor": soft, "domainColor": soft}
    font = "system-ui, 'Segoe UI', Roboto, sans-serif"
    text = {"titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11, "labelFont": font, "titleFont": font}
    return {"view": {"stroke": None}, "axis": {**axis, **text, "gridOpacity": 0.6}, "font": font}
