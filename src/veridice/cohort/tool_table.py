"""Tools compared over a study: one table of scans and tools, what is stated of each two, and the page. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice.assessment.compare import COMPARISON_SUFFIX, ComparedMask, Comparison, read_comparison
from veridice.cohort.records import COMPARISON, read_record
from veridice.errors import InputError
from veridice.io.atomic import write_json, write_text, written
from veridice.io.bids import neutral_cell, write_dataset_files
from veridice.io.bids_dataset import BidsScan, describe_scans
from veridice.quality.decision import AGREEMENT_WEIGHT
from veridice.quality.tool_order import KIND_ERROR, Pair, ToolMean, compare_pairs, tool_means
from veridice.report.comparison_page import write_comparison_page

COLUMNS = {
    "participant_id": "Participant",
    "session_id": "Session",
    "scan": "Beginning of the scan's file names",
    "tool": "Tool that made the mask; veridice: our own",
    "status": "done; absent: the tool has no mask that could be judged; failed: the scan could not be judged",
    "reason": "Why there is no judgement",
    "predicted_dice": "Dice that the mask is expected to have",
    "predicted_spread": "Expected size of the error of the predicted Dice",
    "interval_low": "Lower end of the interval of the true Dice",
    "interval_high": "Upper end",
    "verdict": "accept, review or reject",
    "volume_ml": "Lesion volume, mL",
    "volume_ratio": "The volume over the median of all tools' volumes of the scan",
    "lesion_count": "Connected parts of the mask",
    "place": "Place among the masks of the scan: 1 is expected to be best",
    "agreement_with_others": "Mean Dice with the other masks of the scan, each counting by its predicted Dice",
    "agreement_with_passes": "Mean Dice with the stochastic passes of veridice",
    "own_volume_ml": "Lesion volume that veridice sees, mL",
    "slice_mm": "Largest edge of a voxel, mm",
    "known": "Whether the scan is of a kind that the models know",
    "site": "Site, from participants.tsv",
    "scanner": "Scanner, from the sidecars",
}
"""Of ``comparison.tsv``, a row a scan and tool."""
PAGE = "comparison.html"
LOADS, SLICES = (0, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)
"""Limits of groups: ml that veridice sees, mm."""
FEWEST_IN_GROUP = 3
"""People below which a group of scans is not shown."""


def tabulate_tools(
    output: Path, dataset: Path, scans: Sequence[BidsScan], tools: Sequence[str], checksums: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, Comparison]]:
    """A row a scan and tool with :data:`COLUMNS`, and the stored comparisons by scan.

    Args:
        output: folder of derivatives.
        dataset: root of the data set.
        scans: that the table is about.
        tools: names, ours among them where it is compared.
        checksums: of what each scan is to be compared with.
    """
    rows, found = [], {}
    for scan in scans:
        names = {"participant_id": f"sub-{scan.subject}", "session_id": f"ses-{scan.session}" if scan.session else None}
        comparison, reason = _stored(output, scan.name, checksums[scan.name])
        if comparison is not None:
            found[scan.name] = comparison
        rows += [{**names, "scan": scan.name, "tool": tool, **_row(comparison, tool, reason)} for tool in tools]
    table = pd.DataFrame(rows).merge(describe_scans(dataset, scans), on="scan", how="left").reindex(columns=list(COLUMNS))
    table["volume_ml"] = table["volume_ml"].astype(float)
    volumes = table.groupby("scan")["volume_ml"].transform("median")
    table["volume_ratio"] = table["volume_ml"] / volumes.where(volumes > 0)
    return table, found


def _stored(output: Path, scan: str, checksum: str) -> tuple[Comparison | None, str]:
    record = read_record(output, f"{scan}{COMPARISON}")
    if record is None or record.settings != checksum:
        return None, "not judged yet: give the same command again"
    name = next((name for name in record.files if name.endswith(COMPARISON_SUFFIX)), None)
    with suppress(OSError, ValueError):
        if record.status == "done" and name is not None:
            return read_comparison(output / name), ""
    return None, record.reason or "its stored comparison cannot be read: remove its record and give the command again"


def _row(comparison: Comparison | None, tool: str, reason: str) -> dict[str, Any]:
    if comparison is None:
        return {"status": "failed", "reason": reason}
    scan = {"own_volume_ml": comparison.own_volume_ml, "slice_mm": comparison.slice_mm, "known": comparison.known}
    for mask in comparison.masks:
        if mask.tool == tool:
            place = 1 + sum(_worth(other) > _worth(mask) for other in comparison.masks)
            low, high = mask.interval
            judged = mask.model_dump(exclude={"interval", "thumbnail", "spread", "warnings"})
            more = {"predicted_spread": mask.spread, "interval_low": low, "interval_high": high, "place": place}
            return {**scan, **judged, **more, "status": "done"}
    return {**scan, "status": "absent", "reason": comparison.problems.get(tool, "no mask")}


def _worth(mask: ComparedMask) -> float:
    """What masks of a scan are ordered by; equal masks share a place."""
    return round(mask.predicted_dice + AGREEMENT_WEIGHT * (mask.agreement_with_others or 0.0), 6)


def group_means(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean predicted Dice of each tool by load, slice thickness, scanner and site: where each fails.

    Returns:
        Rows of ``what``, ``group``, ``people`` and ``means`` by tool; groups of few people are left out.
    """
    done = table[table["status"] == "done"]
    groups = {
        "Lesion volume, ml": pd.cut(done["own_volume_ml"], LOADS, right=False).map(_between),
        "Slice thickness, mm": pd.cut(done["slice_mm"], SLICES, right=False).map(_between),
        "Scanner": done["scanner"],
        "Site": done["site"],
    }
    rows = []
    for what, names in groups.items():
        for group, part in done.groupby(names, observed=True, sort=False):
            people = part["participant_id"].nunique()
            if people >= FEWEST_IN_GROUP and part["scan"].nunique() < done["scan"].nunique():
                rows.append({"what": what, "group": group, "people": people, "means": _mean_by_tool(part)})
    return rows


def _between(group: Any) -> str:
    return f"from {group.left:g}" if np.isinf(group.right) else f"{group.left:g} to {group.right:g}"


def _mean_by_tool(part: pd.DataFrame) -> dict[str, float]:
    """Each person counts once."""
    by_person = part.groupby(["tool", "participant_id"])["predicted_dice"].mean()
    return {str(tool): float(mean) for tool, mean in by_person.groupby("tool").mean().items()}


def summarise(table: pd.DataFrame, tools: Sequence[str]) -> list[dict[str, Any]]:
    """A row a tool, the best first: means with intervals, verdicts, what it lacks, its volumes against the others'."""
    done = _as_rated(table)
    means = {row.tool: row for row in tool_means(done)} if len(done) else {}
    rows = []
    for tool in tools:
        mine, judged = table[table["tool"] == tool], done[done["tool"] == tool]
        mean = means.get(tool, ToolMean(tool, 0, np.nan, np.nan, np.nan))
        rows.append(
            {
                **asdict(mean),
                "scans": len(judged),
                "absent": int((mine["status"] == "absent").sum()),
                "empty": int((judged["lesion_count"] == 0).sum()),
                "accepted": float((judged["verdict"] == "accept").mean()) if len(judged) else np.nan,
                "rejected": float((judged["verdict"] == "reject").mean()) if len(judged) else np.nan,
                "volume_ratio": float(judged["volume_ratio"].median()) if len(judged) else np.nan,
                "best_of": int((judged["place"] == 1).sum()),
            }
        )
    return sorted(rows, key=lambda row: (-row["mean"] if row["mean"] == row["mean"] else 1.0, row["tool"]))


def _as_rated(table: pd.DataFrame) -> pd.DataFrame:
    """Judged masks with the columns of :mod:`veridice.quality.tool_order`."""
    done = table[table["status"] == "done"]
    return done.assign(person=done["participant_id"], predicted=done["predicted_dice"])


def disagreements(comparisons: dict[str, Comparison], most: int = 20) -> list[dict[str, Any]]:
    """Scans on which tools disagree most: by the lowest Dice of any two masks, and the masks with their pictures."""
    rows = []
    for scan, comparison in comparisons.items():
        pairs = [value for others in comparison.agreement.values() for value in others.values()]
        if pairs:
            rows.append({"scan": scan, "lowest": min(pairs), "mean": float(np.mean(pairs)), "masks": comparison.masks})
    return sorted(rows, key=lambda row: (row["mean"], row["scan"]))[:most]


def write_comparison(
    dataset: Path,
    name: str,
    output: Path,
    scans: Sequence[BidsScan],
    tools: Sequence[str],
    checksums: Mapping[str, str],
    level: float,
) -> tuple[list[dict[str, Any]], list[Pair]]:
    """Write ``comparison.tsv``, ``tools.tsv``, ``pairs.tsv`` and the page; returns what is said of tools and of pairs.

    Args:
        dataset: root of the data set.
        name: what the page calls it.
        output: folder of derivatives.
        scans: that were compared.
        tools: names.
        checksums: of what each scan is compared with, by its name.
        level: error rate of all statements together.

    Raises:
        InputError: no mask could be judged.
        OutputError: nothing can be written there.
    """
    table, comparisons = tabulate_tools(output, dataset, scans, tools, checksums)
    done = _as_rated(table)
    if done.empty:
        raise InputError(f"{output}: no mask could be judged ({table['reason'].dropna().iloc[0]}); mend that first")
    # What the models do not know they cannot order.
    known = done[done["known"].astype(bool)]
    summary, pairs = summarise(table, tools), compare_pairs(known, level) if len(known) else []
    folders = {scan.name: scan.folder.as_posix() for scan in scans}
    pictures = [{**row, "folder": folders[row["scan"]]} for row in disagreements(comparisons)]
    facts = {
        "name": name,
        "level": level,
        "kind_error": KIND_ERROR,
        "scans": len(comparisons),
        "people": int(done["participant_id"].nunique()),
        "failed": len(scans) - len(comparisons),
        "unknown": sum(not comparison.known for comparison in comparisons.values()),
    }
    with written(output):
        write_dataset_files(output)
        _write_tables(output, table, summary, pairs)
        write_comparison_page(output / PAGE, summary, pairs, group_means(table), pictures, _consensus(comparisons), facts)
    return summary, pairs


def _write_tables(output: Path, table: pd.DataFrame, summary: Sequence[dict[str, Any]], pairs: Sequence[Pair]) -> None:
    write_text(output / "comparison.tsv", _tsv(table.assign(known=table["known"].map({True: "yes", False: "no"}))))
    write_json(output / "comparison.json", {column: {"Description": text} for column, text in COLUMNS.items()})
    write_text(output / "tools.tsv", _tsv(pd.DataFrame(summary)))
    columns = [field.name for field in fields(Pair)]
    write_text(output / "pairs.tsv", _tsv(pd.DataFrame([asdict(pair) for pair in pairs], columns=columns)))


def _consensus(comparisons: dict[str, Comparison]) -> dict[str, float]:
    """Mean predicted Dice of what is made of all masks, where that was asked for."""
    with_consensus = [comparison for comparison in comparisons.values() if comparison.consensus]
    if not with_consensus:
        return {}
    names = sorted(mask.tool for mask in with_consensus[0].consensus)
    return {
        name: float(np.mean([mask.predicted_dice for one in with_consensus for mask in one.consensus if mask.tool == name]))
        for name in names
    }


def _tsv(table: pd.DataFrame) -> str:
    return str(table.map(neutral_cell).to_csv(sep="\t", index=False, float_format="%.6g", na_rep="n/a", lineterminator="\n"))
