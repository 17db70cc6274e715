"""Asks an archive that speaks DICOMweb for new studies: QIDO finds them, WADO fetches them. Needs the extra ``dicom``."""

from __future__ import annotations

import logging
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from veridice.gateway.inbox import Inbox
from veridice.gateway.send import web_client
from veridice.gateway.tls import TlsFiles

LOG = logging.getLogger("veridice.gateway")
FIELDS = {"study": "0020000D", "series": "0020000E", "modality": "00080060", "model": "00081090", "count": "00201209"}
LOOKED_AT = ("MR", "SEG")
PAGE = 200


class Poller:
    """Fetches series that are new, or have grown, since they were fetched last.

    Args:
        url: of the service.
        inbox: gets the images.
        days: how far back studies are looked for.
        tls: what is shown to it; None: nothing.

    Raises:
        InputError: the address is none.
    """

    def __init__(self, url: str, inbox: Inbox, days: int, tls: TlsFiles | None = None) -> None:
        self._client, self._inbox, self._days = web_client(url, tls), inbox, days

    def turn(self) -> int:
        """Look once; how many images came.

        Raises:
            requests.RequestException: the archive does not answer.
        """
        since = date.today() - timedelta(days=self._days)
        wanted = {"StudyDate": f"{since:%Y%m%d}-", "ModalitiesInStudy": "MR"}
        studies = self._client.search_for_studies(search_filters=wanted, limit=PAGE, get_remaining=True)
        return sum(self._study(_value(study, "study")) for study in studies)

    def _study(self, study: str) -> int:
        """One study that makes trouble keeps no other from being fetched."""
        try:
            return self._series_of(study)
        except Exception as error:
            LOG.warning("study %s: cannot be fetched (%s)", self._inbox.queue.hashed(study), type(error).__name__)
            return 0

    def _series_of(self, study: str) -> int:
        fields = ["NumberOfSeriesRelatedInstances", "Modality", "ManufacturerModelName"]
        came = 0
        for series in self._client.search_for_series(study, fields=fields):
            if _value(series, "modality") not in LOOKED_AT or _value(series, "model") == "veridice":
                continue
            name, count = _value(series, "series"), int(_value(series, "count") or 0)
            hashed = self._inbox.queue.hashed(f"{study}/{name}")
            if count and count == self._inbox.queue.seen(hashed):
                continue
            taken, all_had_room = self._fetch(study, name)
            came += taken
            if all_had_room:  # else they are asked for again
                self._inbox.queue.saw(hashed, count)
        return came

    def _fetch(self, study: str, series: str) -> tuple[int, bool]:
        """Every image as the archive has it, compressed or not; how many came, and whether none lacked room."""
        came, all_had_room = 0, True
        for dataset in self._client.iter_series(study, series, media_types=(("application/dicom", "*"),)):
            with tempfile.NamedTemporaryFile(dir=self._inbox.incoming, suffix=".dcm", delete=False) as file:
                path = Path(file.name)
            try:
                dataset.save_as(path, enforce_file_format=True)
                refusal, said = self._inbox.take(path)
                LOG.log(logging.WARNING if refusal else logging.INFO, "%s%s", said, f"; refused: {refusal}" if refusal else "")
                came += not refusal
                all_had_room &= refusal != "no room"
            finally:
                path.unlink(missing_ok=True)
        return came, all_had_room


def _value(found: dict[str, Any], name: str) -> str:
    values = found.get(FIELDS[name], {}).get("Value") or [""]
    return str(values[0])
