"""Figures of an experiment, each a function of judged cases; the same cases give the same files. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from veridice.experiment.results.evaluation import pool
from veridice.experiment.results.resampling import point
from veridice.io.atomic import staged_output
from veridice.metrics import failure_detection as fd

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people of every colour vision tell apart (Okabe and Ito 2008)."""
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (7, 1, 1, 1, 1, 1)), (0, (3, 2)), "-")
GREY, LIGHT = "#555555", "#BBBBBB"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "veridice",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 150,
}
LABELS = {
    "entropy_sum": "sum of entropy",
    "error_sum": "sum of error",
    "regressor_image": "image and prediction",
    "regressor_uncertainty": "uncertainty and prediction",
    "regressor_error": "error and prediction",
    "volume": "predicted volume (baseline)",
    "pairwise_dice": "pairwise Dice (baseline)",
    "training_mean": "mean Dice of training",
    "combination": "combination",
}
"""What methods are called in figures; others by their name."""
UNITS = {"entropy_sum": " (bit)", "absolute_error_sum": " (FLAIR in 0 to 1)", "error_sum": " (FLAIR in 0 to 1)"}
TRUE = "true Dice"


def label(method: str) -> str:
    """What a method is called; a name in figures is text, not a formula."""
    return LABELS.get(method, method.replace("_", " ").replace("$", r"\$"))


@contextmanager
def saved(
    folder: Path, name: str, columns: int, size: tuple[float, float], rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of panels, row after row; at the end ``name.png`` and ``name.svg`` in ``folder``, without date or program."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(panels.flat)
        with staged_output(folder) as stage:
            figure.savefig(stage / f"{name}.png", metadata={"Software": None})
            figure.savefig(stage / f"{name}.svg", metadata={"Date": None, "Creator": None})


def _rows(judged: pd.DataFrame, method: str) -> pd.DataFrame:
    return judged[judged["method"] == method].sort_values("case", kind="stable")


def _present(judged: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    known = set(judged["method"])
    return [method for method in methods if method in known]


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:z.2f}".replace("-", "−")


def _chance(p: float) -> str:
    return "p –" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _dice_limits(*values: Any) -> tuple[float, float]:
    """Limits of a Dice axis, from the fifth below what is shown."""
    lowest = min(float(np.min(column)) for column in values)
    return max(np.floor(5 * (lowest - 0.02)) / 5, 0.0) - 0.01, 1.01


def _square(axes: Axes, limits: tuple[float, float]) -> None:
    """Dice against Dice: both axes alike."""
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.xaxis.set_major_locator(ticker.MultipleLocator(0.2))
    axes.yaxis.set_major_locator(ticker.MultipleLocator(0.2))


def _mark_failures(axes: Axes, judged: pd.DataFrame, across: bool = False) -> None:
    style: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": ":", "zorder": 1}
    failure_dice = float(judged["failure_dice"].iloc[0])
    axes.axhline(failure_dice, label=f"{failure_dice:g}, failed below", **style)
    if across:
        axes.axvline(failure_dice, **style)


def figure2(judged: pd.DataFrame, folder: Path) -> None:
    """The paper's Figure 2, ``figure2.png`` and ``.svg``: sums of a map against the true Dice, with the regression line and
    the 95 % confidence band of its mean; all test cases, by data set.

    Raises:
        OutputError: the folder cannot be written.
    """
    methods = _present(judged, ("entropy_sum", "error_sum"))
    if not methods:
        return
    with saved(folder, "figure2", len(methods), (4.2 * len(methods), 4.1)) as (figure, panels):
        for axes, method in zip(panels, methods, strict=True):
            rows = _rows(judged, method).dropna(subset=["score"])
            _scatter(axes, rows, "score")
            score, dice = rows["score"].to_numpy(float), rows["dice"].to_numpy(float)
            _regression(axes, score, dice)
            linear = fd.pearson(score, dice)
            axes.set_title(f"r = {_number(linear.r)}, {_chance(linear.p)}, n = {len(rows)}")
            _mark_failures(axes, judged)
            axes.set(xlabel=label(method) + UNITS.get(method, ""), ylim=_dice_limits(judged["dice"]))
            axes.locator_params(axis="x", nbins=5)
            axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        panels[0].set_ylabel(TRUE)
        _shared_legend(figure, panels)


def _scatter(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    for number, (dataset, group) in enumerate(rows.groupby(rows["dataset"].fillna("").astype(str), sort=True)):
        marker, colour = MARKERS[number % len(MARKERS)], PALETTE[number % len(PALETTE)]
        style: dict[str, Any] = {"marker": marker, "color": colour, "s": 22, "alpha": 0.75, "linewidths": 0}
        axes.scatter(group[column], group["dice"], label=label(str(dataset)) or "unnamed", **style)


def _regression(axes: Axes, x: fd.Numbers, y: fd.Numbers) -> None:
    """Least squares and the confidence band of the mean of ``y`` at each ``x`` (Student's t)."""
    if len(x) < 3 or np.ptp(x) == 0:
        return
    line = stats.linregress(x, y)
    at = np.linspace(x.min(), x.max(), 100)
    residual = np.sqrt(((y - line.intercept - line.slope * x) ** 2).sum() / (len(x) - 2))
    spread = residual * np.sqrt(1 / len(x) + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    half, mean = stats.t.ppf(0.975, len(x) - 2) * spread, line.intercept + line.slope * at
    axes.fill_between(at, mean - half, mean + half, color=LIGHT, alpha=0.45, linewidth=0, zorder=0)
    axes.plot(at, mean, color="#222222", linewidth=1.4)


def _shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=min(4, len(entries)))


def figure3(judged: pd.DataFrame, folder: Path) -> None:
    """The paper's Figure 3, ``figure3.png`` and ``.svg``: predicted against true Dice, one panel for each method, with the
    identity and the 0.75 below which a segmentation is rejected and has failed.

    Raises:
        OutputError: the folder cannot be written.
    """
    methods = _present(judged, ("regressor_image", "regressor_uncertainty", "regressor_error"))
    if not methods:
        return
    with saved(folder, "figure3", len(methods), (3.3 * len(methods), 4.3)) as (figure, panels):
        shown = judged[judged["method"].isin(methods)]
        limits = _dice_limits(shown["predicted_dice"], shown["dice"])
        for axes, method in zip(panels, methods, strict=True):
            rows = _rows(judged, method)
            known = pool(rows)
            axes.plot([0, 1], [0, 1], color="#222222", linewidth=1)
            _mark_failures(axes, judged, across=True)
            _scatter(axes, rows, "predicted_dice")
            r, error = fd.pearson(known.prediction, known.dice).r, np.abs(known.error).mean()
            measures = f"r = {_number(r)}, MAE = {error:.3f}, n = {len(rows)}"
            axes.set_title(f"{label(method)}\n{measures}")
            axes.set_xlabel("predicted Dice")
            _square(axes, limits)
        panels[0].set_ylabel(TRUE)
        _shared_legend(figure, panels)


def risk_coverage(judged: pd.DataFrame, folder: Path, methods: Sequence[str]) -> None:
    """``risk-coverage.png`` and ``.svg``: mean 1 - Dice of the accepted cases by the share that is accepted, between the
    order of the truth and that of chance. At most seven methods.

    Raises:
        OutputError: the folder cannot be written.
    """
    methods = _present(judged, methods)[: len(PALETTE)]
    if not methods:
        return
    with saved(folder, "risk-coverage", 1, (7.4, 4.2)) as (_, (axes,)):
        first = _rows(judged, methods[0])
        dice = first["dice"].to_numpy(float)
        best = fd.risk_coverage(dice, dice)
        axes.axhline(best.risk[-1], color=GREY, linewidth=1, linestyle=":", label="random order: 1.00", zorder=3)
        for number, method in enumerate(methods):
            known = pool(_rows(judged, method))
            curve, area = fd.risk_coverage(known.confidence, known.dice), point(known)["normalised_aurc"]
            style = {"color": PALETTE[number], "linestyle": DASHES[number], "linewidth": 1.7}
            axes.plot(100 * curve.coverage, curve.risk, label=f"{label(method)}: {_number(area)}", **style)
        axes.plot(100 * best.coverage, best.risk, color=LIGHT, linewidth=2.5, label="optimal order: 0.00", zorder=1)
        axes.set(xlabel="accepted scans (%), most trusted first", ylabel="mean risk, 1 − Dice, of accepted", xlim=(0, 100))
        axes.set_ylim(bottom=0)
        axes.set_title(f"n = {len(dice)}, {int((dice < first['failure_dice']).sum())} of them failed")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), title="normalised area", alignment="left")


def calibration(judged: pd.DataFrame, folder: Path, methods: Sequence[str]) -> None:
    """``calibration.png`` and ``.svg``: mean true Dice of equally large bins of predicted Dice, with 95 % bootstrap
    intervals over patients. Cases of equal predicted Dice share a bin.

    Raises:
        OutputError: the folder cannot be written.
    """
    methods = _present(judged, methods)
    if not methods:
        return
    with saved(folder, "calibration", len(methods), (3.1 * len(methods), 3.7)) as (_, panels):
        tables = [calibration_bins(_rows(judged, method)) for method in methods]
        limits = _dice_limits(*(table[column] for table in tables for column in ("predicted", "low")))
        for axes, method, table in zip(panels, methods, tables, strict=True):
            axes.plot([0, 1], [0, 1], color="#222222", linewidth=1)
            predicted, true = table["predicted"].to_numpy(float), table["true"].to_numpy(float)
            ends = [true - table["low"].to_numpy(float), table["high"].to_numpy(float) - true]
            axes.errorbar(predicted, true, ends, color=PALETTE[0], fmt="o", markersize=5, capsize=2.5)
            sizes = f"{len(table)} bins of {table['n'].min()} to {table['n'].max()}"
            axes.set_title(f"{label(method)}\nn = {table['n'].sum()}, {sizes}")
            axes.set_xlabel("mean predicted Dice")
            _square(axes, limits)
        panels[0].set_ylabel("mean true Dice, 95 % interval")


def calibration_bins(rows: pd.DataFrame, bins: int = 5, resamples: int = 2000) -> pd.DataFrame:
    """Of one method's test cases: ``n``, mean ``predicted`` and ``true`` Dice, and its interval, for bins of about equal
    size that never part cases of equal predicted Dice.
    """
    predicted = rows["predicted_dice"].to_numpy(float)
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    member = np.searchsorted(edges, predicted, side="right")
    table = []
    for _, group in rows.groupby(member, sort=True):
        interval = fd.bootstrap(lambda dice: float(dice.mean()), group["dice"], clusters=group["patient"], resamples=resamples)
        means = {"predicted": group["predicted_dice"].mean(), "true": group["dice"].mean()}
        table.append({"n": len(group), **means, **vars(interval)})
    return pd.DataFrame(table)
