"""Cohorts: who is simulated, on which scanners, how hard; written as a BIDS data set, in parallel, resumable."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice._version import __version__
from veridice.errors import InputError, OutputError
from veridice.io.atomic import held, is_new, write_json, write_text
from veridice.io.nifti import write_image
from veridice.parallel import do_missing
from veridice.simulate.donors import choose_donors
from veridice.simulate.follow_up import follow_up
from veridice.simulate.patient import simulate_patient
from veridice.simulate.plan import PatientPlan, draw_plan, on_another_scanner
from veridice.simulate.scanners import ANY, SCANNERS
from veridice.simulate.severity import MIX, SEVERITIES, Severity

TRUTH = Path("derivatives") / "truth"
LEAST_FACTOR, MOST_FACTOR = 0.5, 2.0
"""Between these the lesion load of a visit lies, over that of the visit before."""


@dataclass(frozen=True)
class Cohort:
    """A recipe for patients 0, 1, 2 ...

    Args:
        name: what it is called.
        seed: of everything that is drawn.
        donors: a split or people, see :func:`choose_donors`.
        severity_shares: how often each of easy, ordinary, hard and broken comes.
        scanners: taken in turn.
        patients: how many it has unless another number is asked for.
        same_scanner: further visits are on the scanner of the first; else each is on any other.
        brains_in_turn: each patient gets the next brain, not one that is drawn: as many patients as brains share none.
    """

    name: str
    seed: int
    donors: str
    severity_shares: tuple[float, float, float, float]
    scanners: tuple[str, ...] = (ANY,)
    patients: int = 100
    brains_in_turn: bool = False
    same_scanner: bool = True

    def plan(self, index: int) -> PatientPlan:
        """Parameters of patient ``index``."""
        rng = np.random.default_rng([self.seed, index, 1])
        severity: Severity = SEVERITIES[rng.choice(len(SEVERITIES), p=self.severity_shares)]
        scanner = self.scanners[index % len(self.scanners)]
        donors = choose_donors(self.donors)
        if self.brains_in_turn:
            brains = [donor for donor in donors if donor.kind == "anatomy"]
            donors = (brains[index % len(brains)], *(donor for donor in donors if donor.kind != "anatomy"))
        return draw_plan(index, self.seed, severity, scanner, donors)

    def visits(self, index: int, count: int) -> list[PatientPlan]:
        """Parameters of the visits of patient ``index``; the lesions of every second patient do not change."""
        rng = np.random.default_rng([self.seed, index, 2])
        plans = [self.plan(index)]
        for _ in range(count - 1):
            factor = float(np.exp(rng.uniform(np.log(LEAST_FACTOR), np.log(MOST_FACTOR)))) if index % 2 else 1.0
            next_visit = follow_up(plans[-1], factor, int(rng.integers(2**31)))
            plans.append(next_visit if self.same_scanner else on_another_scanner(next_visit, int(rng.integers(2**31))))
        return plans


COHORTS = {
    cohort.name: cohort
    for cohort in (
        Cohort("training", 1000, "training", MIX),
        Cohort("validation", 2000, "validation", MIX),
        Cohort("test", 3000, "reserved", (0.25, 0.25, 0.25, 0.25)),
        Cohort("test-ordinary", 3100, "reserved", (0.0, 1.0, 0.0, 0.0), patients=40),
        Cohort(
            "paper-sim",
            4000,
            "reserved",
            MIX,
            tuple(name for name, scanner in SCANNERS.items() for _ in range(scanner.patients)),
            sum(scanner.patients for scanner in SCANNERS.values()),
        ),
        Cohort("many-brains", 5000, "more-calibration,more-coverage", MIX, patients=81, brains_in_turn=True),
    )
}
"""Seeds and shares are fixed before any network that ships is trained."""


def write_cohort(
    folder: Path,
    cohort: Cohort,
    count: int,
    jobs: int = 1,
    on_step: Callable[[], None] = lambda: None,
    visits: int = 1,
) -> list[PatientPlan]:
    """Write patients 0 ... ``count`` - 1 of ``cohort`` as a BIDS data set; finished ones are kept.

    Args:
        folder: of the data set.
        cohort: who is simulated.
        count: patients.
        jobs: processes.
        on_step: called after each scan.
        visits: of each patient; more than one are sessions.

    Raises:
        OutputError: the folder holds another cohort or cannot be written.
    """
    width = max(3, len(str(count)))
    tasks = []
    for index in range(count):
        for visit, plan in enumerate(cohort.visits(index, visits), start=1):
            tasks.append((folder, f"sub-{index + 1:0{width}d}" + (f"_ses-{visit}" if visits > 1 else ""), plan))
    try:
        with held(folder):
            _claim(folder, cohort, visits)
            do_missing(tasks, _is_done, _write_patient, jobs, on_step)
            _write_tables(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); give another -o folder") from error
    return [plan for _, _, plan in tasks]


def _claim(folder: Path, cohort: Cohort, visits: int) -> None:
    record = {"name": cohort.name, "seed": cohort.seed, "donors": cohort.donors, "scanners": list(cohort.scanners)}
    record["severity_shares"] = list(cohort.severity_shares)
    record |= {"visits": visits} if visits > 1 else {}
    record |= {"brains_in_turn": True} if cohort.brains_in_turn else {}
    record |= {} if cohort.same_scanner else {"same_scanner": False}
    path = folder / TRUTH / "cohort.json"
    if path.exists():
        with suppress(ValueError):
            if json.loads(path.read_text(encoding="utf-8")) == record:
                return
        raise OutputError(f"{folder}: holds another simulated cohort; give another -o folder or the same options")
    if not is_new(folder):
        raise OutputError(f"{folder}: is not empty and holds no simulated cohort; give a new -o folder")
    path.parent.mkdir(parents=True)
    name = f"veridice simulated cohort: {cohort.name}"
    write_json(folder / "dataset_description.json", _description(f"{name} (simulated, no real patients)", "raw"))
    write_json(folder / TRUTH / "dataset_description.json", _description(f"{name}, truth", "derivative"))
    write_text(folder / "README.md", README)
    # What BIDS has no name for.
    write_text(folder / TRUTH / ".bidsignore", "cohort.json\n*_desc-simulation_parameters.json\n")
    write_json(path, record)


README = """# Simulated brain scans with white-matter lesions

No person was scanned for this. Anatomies and lesions come from donors (named in `participants.tsv` and in the parameters
of each patient), contrasts and scanners are drawn. True masks of lesions, brain and ventricles and all parameters lie in
`derivatives/truth`. Donors: Lesjak et al. 2017, doi:10.1007/s12021-017-9348-7 (CC-BY 4.0); MNI152 (nilearn).
Donors named `anatomy-IXI...` are brains of the IXI data set (CC BY-SA 3.0); what is made of them keeps that licence.
"""


def _description(name: str, kind: str) -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": kind,
        "License": "CC-BY-4.0",
        "GeneratedBy": [{"Name": "veridice simulate", "Version": __version__}],
    }


def _names(folder: Path, scan: str) -> tuple[Path, Path, Path]:
    place = Path(*scan.split("_")) / "anat"
    truth = folder / TRUTH / place
    return folder / place, truth, truth / f"{scan}_desc-simulation_parameters.json"


def _is_done(task: tuple[Path, str, PatientPlan]) -> bool:
    folder, scan, plan = task
    parameters = _names(folder, scan)[2]
    with suppress(OSError, ValueError, KeyError):
        return bool(json.loads(parameters.read_text(encoding="utf-8"))["plan"] == plan.model_dump(mode="json"))
    return False


def _write_patient(task: tuple[Path, str, PatientPlan]) -> None:
    """Simulate one scan into a hidden folder, then move it to its place; the parameters come last."""
    folder, scan, plan = task
    patient = simulate_patient(plan)
    scans, truth, parameters = _names(folder, scan)
    with tempfile.TemporaryDirectory(prefix=".veridice-", dir=folder) as name:
        stage = Path(name)
        for kind, volume in (("FLAIR", patient.flair), ("T1w", patient.t1)):
            write_image(stage / f"{scan}_{kind}.nii.gz", volume)
            write_json(stage / f"{scan}_{kind}.json", _sidecar(plan, kind))
        masks = {
            "lesion": (patient.lesions, "Lesion"),
            "brain": (patient.brain, "Brain"),
            "ventricles": (patient.ventricles, "ROI"),
        }
        for kind, (volume, type_) in masks.items():
            write_image(stage / f"{scan}_label-{kind}_mask.nii.gz", volume)
            sidecar = {"Type": type_, "Description": f"true {kind} mask (simulated)"}
            write_json(stage / f"{scan}_label-{kind}_mask.json", sidecar)
        for place in (scans, truth):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        for file in sorted(stage.iterdir()):
            file.replace((truth if "_label-" in file.name else scans) / file.name)
    write_json(parameters, {"lesion_load_ml": round(patient.lesion_load_ml, 4), "plan": plan.model_dump(mode="json")})


def _sidecar(plan: PatientPlan, kind: str) -> dict[str, Any]:
    acquisition = plan.flair_acquisition if kind == "FLAIR" else plan.t1_acquisition
    return {
        "Manufacturer": "simulated",
        "ManufacturersModelName": plan.scanner,
        "MagneticFieldStrength": 3,
        "SliceThickness": round(acquisition.voxel_spacing[acquisition.slice_axis], 3),
        "SkullStripped": not plan.whole_head,
    }


def _write_tables(folder: Path) -> None:
    """Tables of all patients that are there, also those of an earlier call that asked for more; a row a patient, or a visit."""
    rows = []
    for file in sorted((folder / TRUTH).glob("sub-*/**/*_parameters.json")):
        with suppress(ValueError, KeyError):  # a damaged one that was not asked for
            record = json.loads(file.read_text(encoding="utf-8"))
            plan = PatientPlan.model_validate(record["plan"])
            drawn = plan.model_dump(include={"severity", "scanner", "whole_head"})
            made = {"lesion_load_ml": record["lesion_load_ml"], "donors": " ".join(plan.donors)}
            names = dict(zip(("participant_id", "session_id"), file.name.split("_desc-")[0].split("_"), strict=False))
            rows.append({**names, **drawn, **made})
    table = pd.DataFrame(rows)
    if "session_id" in table:
        for participant, visits in table.groupby("participant_id"):
            text = visits[["session_id", "lesion_load_ml"]].to_csv(sep="\t", index=False)
            write_text(folder / str(participant) / f"{participant}_sessions.tsv", text)
        table = table.drop_duplicates("participant_id").drop(columns=["session_id", "lesion_load_ml"])
        write_json(folder / "sessions.json", {"lesion_load_ml": COLUMNS["lesion_load_ml"]})
    write_text(folder / "participants.tsv", table.to_csv(sep="\t", index=False))
    write_json(folder / "participants.json", {name: COLUMNS[name] for name in table.columns[1:]})


COLUMNS = {
    "severity": {"Description": "how hard the scan was made", "Levels": {name: name for name in SEVERITIES}},
    "scanner": {"Description": "row of Table 3 that gave the grid, or any (drawn)"},
    "whole_head": {"Description": "False: skull-stripped"},
    "lesion_load_ml": {"Description": "true lesion volume", "Units": "mL"},
    "donors": {"Description": "donor of the brain, then of the lesions (files of the package)"},
}


def custom_cohort(name: str, seed: int | None, donors: str | None, severity: str | None, scanner: str | None) -> Cohort:
    """A named cohort with some of its choices replaced.

    Raises:
        InputError: a name that is not known.
    """
    asked = {"cohort": (name, COHORTS), "severity": (severity, SEVERITIES), "scanner": (scanner, (ANY, *SCANNERS))}
    for what, (value, known) in asked.items():
        if value is not None and value not in known:
            raise InputError(f"{what} '{value}': unknown; use one of {', '.join(known)}")
    base = COHORTS[name]
    shares = tuple(float(s == severity) for s in SEVERITIES) if severity else base.severity_shares
    choose_donors(donors or base.donors)
    return replace(
        base,
        name=base.name if (seed, donors, severity, scanner) == (None,) * 4 else f"{base.name}, altered",
        seed=base.seed if seed is None else seed,
        donors=donors or base.donors,
        severity_shares=(shares[0], shares[1], shares[2], shares[3]),
        scanners=(scanner,) if scanner else base.scanners,
    )
