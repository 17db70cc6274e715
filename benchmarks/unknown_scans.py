"""Which odd scans are told, and how many known ones seem odd? By people who were left out of the fit and of its limits.

``python benchmarks/unknown_scans.py --data FOLDER``: every scan of the manifest, simulated patients, and odd versions of all
(:mod:`.ood_scans`); what was seen is kept in ``--rows`` and used again. Each kind is also left out of the fit with its
like (``never shown``). ``--install WEIGHTS`` then fits all of them, but for ``lesjak_raw``, into the judge that is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.imaging.scan import Scan
from veridice.inference.passes import choose_backend
from veridice.io.datasets import read_manifest
from veridice.io.scan_reader import read_scan
from veridice.io.weight_cards import bundled_weights, read_card
from veridice.quality.image_features import describe_scan
from veridice.quality.model import load_quality_model, save_quality_model
from veridice.quality.ood import FOLDS, KNOWN, PARTS, OodDetector
from veridice.simulate.ood_scans import CORRUPTIONS
from veridice.training.ood_examples import Appearance, describe_all, fit_to_looks, real_appearances, simulated_appearances
from veridice.training.settings import DataSettings

ALIKE = (("T1w given as FLAIR", "FLAIR and T1w exchanged"), ("knee", "abdomen", "phantom"))
"""Kinds that are left out together."""
RAW, TABRIZ = "raw-", "tabriz-"
RAW_KINDS = 4


def raw_looks(data: Path) -> list[Appearance]:
    """Whole heads as they came from the scanner; their people may be reserved, so for tests alone."""

    def read(folder: Path) -> tuple[Scan, dict[str, Any]]:
        scan = read_scan(folder / "flair.nii.gz", folder / "t1.nii.gz")
        facts = {"simulated": False, "severity": "", "whole_head": True}
        return scan, {**facts, "slice_mm": max(scan.flair.geometry.voxel_spacing)}

    folders = sorted((data / "lesjak_raw").iterdir())
    return [Appearance(f"{RAW}{folder.name}", f"{RAW}{folder.name}", partial(read, folder), RAW_KINDS, 0) for folder in folders]


def judged(ood: OodDetector, rows: pd.DataFrame) -> pd.DataFrame:
    """Parts and unfamiliarity of each row; infinite where nothing could be measured."""
    refused = dict.fromkeys(PARTS, np.inf)
    found = [
        refused if row.descriptors is None else ood.parts(row.descriptors, np.array(row.features))
        for row in rows[["descriptors", "features"]].itertuples()
    ]
    parts = pd.DataFrame(found, index=rows.index)
    return parts.assign(unfamiliarity=parts.max(axis=1))


def folds(rows: pd.DataFrame, seed: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Rows of some people and those of the others."""
    for train, rest in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(rows, groups=rows["person"]):
        yield rows.iloc[train], rows.iloc[rest]


def left_out(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows, judged by fits on other people: ``unfamiliarity``, its parts, and ``never_shown`` with its limit fitted anew."""
    tested = []
    for train, rest in folds(rows, seed):
        found = judged(fit_to_looks(train, seed), rest)
        blind = pd.Series(np.nan, rest.index)
        for kinds in families(rows):
            fitted = fit_to_looks(train[~train["kind"].isin(kinds)], seed)
            asked = rest[rest["kind"].isin(kinds)]
            blind[asked.index] = judged(fitted, asked)["unfamiliarity"]
        tested.append(rest.join(found).assign(never_shown=blind))
        print(f"  a fold of {rest['person'].nunique()} people is done", flush=True)  # noqa: T201
    return pd.concat(tested)


def families(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Kinds that are left out together."""
    together = {kind: family for family in ALIKE for kind in family}
    return list(dict.fromkeys(together.get(kind, (kind,)) for kind in CORRUPTIONS if kind in set(rows["kind"])))


def by_kind(tested: pd.DataFrame) -> pd.DataFrame:
    """Share told and AUROC against the known scans of the same sort, for each kind and sort of scan."""
    table = []
    for kind in [kind for kind in CORRUPTIONS if kind in set(tested["kind"])]:
        line: dict[str, Any] = {"kind": kind}
        for sort, group in (("simulated", tested[tested["simulated"]]), ("real", tested[~tested["simulated"]])):
            odd, known = group[group["kind"] == kind], group[group["kind"] == KNOWN]
            line |= {f"{sort} n": len(odd), f"{sort} told": (odd["unfamiliarity"] > 1).mean()}
            line[f"{sort} AUROC"] = auroc(odd["unfamiliarity"], known["unfamiliarity"])
            line[f"{sort} told, never shown"] = (odd["never_shown"] > 1).mean()
        odd = tested[tested["kind"] == kind]
        table.append(line | {part: (odd[part] > 1).mean() for part in PARTS})
    return pd.DataFrame(table).set_index("kind").round(2)


def auroc(odd: pd.Series, known: pd.Series) -> float:
    """Chance that an odd scan is less familiar than a known one."""
    values = np.nan_to_num(np.concatenate([odd, known]), posinf=1e9)
    return float(roc_auc_score([1] * len(odd) + [0] * len(known), values)) if len(odd) and len(known) else np.nan


def false_alarms(tested: pd.DataFrame) -> pd.DataFrame:
    """Share of known scans that seem odd, by sort, severity, slice thickness, head or stripped."""
    known = tested[tested["kind"] == KNOWN]
    sort = np.where(known["simulated"], "simulated", "real")
    slices = pd.cut(known["slice_mm"], [0, 2, 5, 20], labels=["to 2 mm", "2 to 5 mm", "over 5 mm"]).astype(str)
    groups = {
        "all": pd.Series("all", known.index),
        "sort": pd.Series(sort, known.index),
        "severity": known["severity"].where(known["simulated"]),
        "slices": sort + pd.Series(", slices ", known.index) + slices,
        "head": sort + known["whole_head"].map({True: ", whole head", False: ", stripped"}),
    }
    lines = []
    for names in groups.values():
        for name, group in known.groupby(names):
            flagged = int((group["unfamiliarity"] > 1).sum())
            lines.append({"known scans": name, "n": len(group), "flagged": flagged, "share": round(flagged / len(group), 3)})
    return pd.DataFrame(lines).set_index("known scans")


def elsewhere(rows: pd.DataFrame, prefix: str, seed: int) -> str:
    """Known scans of a scanner that was left out of the fit altogether."""
    other_patients = rows["person"].str.startswith(prefix)
    raw = rows["person"].str.startswith(RAW)
    ood = fit_to_looks(rows[~other_patients & ~raw], seed)
    asked = rows[other_patients]
    found, known = judged(ood, asked)["unfamiliarity"], asked["kind"] == KNOWN
    flagged, odd = int((found[known] > 1).sum()), (found[~known] > 1).mean()
    values = ", ".join(f"{value:.2f}" for value in found[known])
    return f"{prefix}*: {flagged} of {known.sum()} known scans flagged ({values}); {odd:.2f} of {(~known).sum()} odd ones"


def seconds() -> float:
    """Of the descriptors of one scan."""
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 128)] * 3, indexing="ij"))
    brain = (place**2).sum(axis=0) < 0.6
    flair = (np.where(brain, 0.6, 0.02) + rng.normal(0, 0.02, brain.shape)).clip(0, 1).astype(np.float32)
    start = time.perf_counter()
    for _ in range(5):
        describe_scan(flair, brain, (1.2, 1.5, 1.2))
    return (time.perf_counter() - start) / 5


def install(rows: pd.DataFrame, weights: Path, seed: int) -> None:
    """Put the familiarity of all that may be learnt from into the judge that is there."""
    ood = fit_to_looks(rows[~rows["person"].str.startswith(RAW)], seed)
    card = read_card(weights, "predictor").model_dump(exclude={"name", "kind", "arguments", "sha256"})
    card["created"] = datetime.now(UTC).strftime("%Y-%m-%d")
    save_quality_model(weights, load_quality_model(weights, ood), card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--patients", type=int, default=60, help="that are simulated")
    parser.add_argument("--rows", type=Path, default=Path("runs/unknown_scans"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--install", type=Path, metavar="WEIGHTS")
    arguments = parser.parse_args()
    appearances = simulated_appearances(arguments.patients)
    appearances += real_appearances(read_manifest(arguments.manifest, arguments.data), DataSettings()) + raw_looks(
        arguments.data
    )
    models = load_models(bundled_weights(), with_quality=False)
    done = iter(range(1, len(appearances) + 1))
    on_step = lambda: print(f"  {next(done)} of {len(appearances)} scans", flush=True)  # noqa: E731, T201
    rows = describe_all(appearances, models, choose_backend(InferenceSettings()), arguments.seed, arguments.rows, on_step)
    if arguments.install:
        install(rows, arguments.install, arguments.seed)
        return
    tested = left_out(rows[~rows["person"].str.startswith(RAW)], arguments.seed)
    lines = [by_kind(tested).to_string(), false_alarms(tested).to_string()]
    lines += [elsewhere(rows, prefix, arguments.seed) for prefix in (RAW, TABRIZ)]
    print("\n\n".join([*lines, f"descriptors: {seconds():.2f} s a scan"]))  # noqa: T201


if __name__ == "__main__":
    main()
