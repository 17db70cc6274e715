"""Data sets as people keep them, to cases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from veridice.case import Case
from veridice.errors import InputError

FILE_COLUMNS = ("flair", "t1", "mask", "brain_mask", "ventricles")
SPLITS = ("train", "validation", "test")


def read_manifest(table: Path, root: Path) -> list[Case]:
    """Read a CSV manifest: columns ``id, patient, split`` and any of the file columns, relative to ``root``.

    Raises:
        InputError: a column or file is missing, a split is unknown, or one patient stands in two splits.
    """
    if not table.is_file():
        raise InputError(f"{table}: no such manifest; give a CSV file with columns id, patient, split, flair, ...")
    try:
        rows = pd.read_csv(table, dtype=str, comment="#", keep_default_na=False).fillna("")
    except ValueError as error:  # what pandas and the decoder raise for anything that is no table
        raise InputError(f"{table}: not a CSV table ({' '.join(str(error).split())}); save it as UTF-8 CSV") from error
    missing = {"id", "patient", "split"} - set(rows.columns)
    if missing:
        raise InputError(f"{table}: columns {', '.join(sorted(missing))} are missing")
    cases = []
    for row in rows.to_dict("records"):
        if row["split"] not in SPLITS:
            raise InputError(f"{table}: case {row['id']} has split '{row['split']}'; use one of {', '.join(SPLITS)}")
        files = {name: root / row[name] for name in FILE_COLUMNS if row.get(name)}
        for path in files.values():
            if not path.is_file():
                raise InputError(f"{table}: case {row['id']} names {path}, which does not exist; check --data")
        cases.append(Case(id=row["id"], patient=row["patient"], split=row["split"], **files))
    splits = rows.groupby("patient")["split"].nunique()
    if (splits > 1).any():
        raise InputError(f"{table}: patient {splits.index[splits > 1][0]} stands in more than one split")
    return cases
