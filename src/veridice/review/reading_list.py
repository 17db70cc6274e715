"""What each rater has before him: the scans in order, what comes next, how far he is, and what can be promised of the rest."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from veridice.quality.calibration import CalibrationSet
from veridice.quality.decision import MAX_GROSS, MIN_DICE, Flags, people_with_bad_masks
from veridice.review.agreement import agreement, differing, final_rating, readings
from veridice.review.options import DeskOptions, NotFoundError
from veridice.review.order import Worklist, standing, updated_chances, updated_gain
from veridice.review.store import Store, StoredRating
from veridice.review.studied import StudiedScan, describe
from veridice.types import Numbers

HELD_S = 900
"""So long a scan that a rater has open is not given to another."""
RECENT = 20
"""Ratings that the pace is taken from."""


class ReadingList:
    """The scans of a study as raters get them.

    Args:
        scans: of :func:`.open_study`.
        store: of this study.
        options: how it is rated.
        known: the calibration that the judgements rest on.
    """

    def __init__(self, scans: Mapping[str, StudiedScan], store: Store, options: DeskOptions, known: CalibrationSet) -> None:
        self.scans, self._store, self._options = scans, store, options
        self._seed = store.fact("seed", uuid.uuid4().hex)
        self._held: dict[str, dict[str, float]] = {}
        self._turn = threading.Lock()
        self.names = [name for name, scan in scans.items() if scan.needs_look]
        self._place = {name: number for number, name in enumerate(self.names)}
        self._worklist = _worklist([scans[name] for name in self.names])
        self._updated = (-1, self._worklist.chance, self._worklist.gain)
        first = next((scan.assessment for scan in scans.values() if scan.assessment), None)
        limits = first.model if first else {}
        same = first is not None and first.calibration is not None and first.calibration.sha256 == known.checksum
        needed = MIN_DICE if limits.get("for_load_ml") is not None else limits.get("min_dice", MIN_DICE)
        self._witnesses = int(people_with_bad_masks(known, needed)) if same else None
        self._max_gross = limits.get("max_gross") or MAX_GROSS

    def ratings(self) -> list[StoredRating]:
        """Those that count: of the results as they are now. A scan that was judged again waits to be looked at again."""
        return [
            said for said in self._store.ratings() if said.scan in self.scans and said.version == self.scans[said.scan].version
        ]

    def ratings_of(self, name: str) -> list[StoredRating]:
        """As :meth:`ratings`, of one scan."""
        return [said for said in self._store.ratings_of(name) if said.version == self.scans[name].version]

    def _seen_and_bad(self) -> tuple[int, Flags, Flags]:
        """What tells this state from others, which masks were rated, and which of them are bad."""
        ratings = self.ratings()
        by_scan: dict[str, list[StoredRating]] = {}
        for rating in ratings:
            by_scan.setdefault(rating.scan, []).append(rating)
        seen, bad = np.zeros((2, len(self.names)), bool)
        for name, said in by_scan.items():
            if (place := self._place.get(name)) is not None:
                seen[place], bad[place] = True, final_rating(said).rating != "accept"
        return hash(tuple(rating.id for rating in ratings)), seen, bad

    def _chances(self) -> tuple[Numbers, Numbers]:
        """Chance of a bad mask and expected gain of a look, brought up to date since the last rating."""
        state, seen, bad = self._seen_and_bad()
        if state != self._updated[0]:
            chances, _ = updated_chances(self._worklist, seen, bad)
            self._updated = (state, chances, updated_gain(self._worklist, chances))
        return self._updated[1:]

    def standing(self) -> dict[str, Any]:
        """What can be promised of the masks that nobody has looked at; see :class:`.order.Standing`."""
        _, seen, bad = self._seen_and_bad()
        told = standing(self._worklist, seen, bad, self._options.max_bad, self._witnesses, self._max_gross)
        return {**vars(told), "max_bad": self._options.max_bad}

    def _number(self, *parts: str) -> float:
        """A number in [0, 1) that follows from the study and from words."""
        digest = hashlib.sha256("\0".join([self._seed, *parts]).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _needed(self, name: str) -> int:
        return self._options.readings if self._number("double", name) < self._options.double else 1

    def _order(self, rater: str) -> list[str]:
        """All scans that can be looked at, the next first: by expected gain, or shuffled for a blind rater."""
        if self._options.hides(rater):
            return sorted(self.names, key=lambda name: self._number(rater, name))
        gain = self._chances()[1]
        return [self.names[place] for place in np.lexsort((np.arange(len(gain)), -gain))]

    def list_for(self, rater: str) -> list[dict[str, Any]]:
        """A row a scan, in the order in which the rater gets them; those that could not be judged come last."""
        chances, gain = self._chances()
        mine, counts = self._said_by(rater)
        edited = {drawing.scan for drawing in self._store.drawings() if drawing.state != "draft"}
        rows = []
        for name in [*self._order(rater), *(name for name in self.scans if name not in self._place)]:
            row = describe(self.scans[name])
            if self._options.hides(rater):
                row = {key: row[key] for key in ("scan", "participant", "session", "status", "reason")}
            elif (place := self._place.get(name)) is not None:
                row |= {"chance": float(chances[place]), "gain": float(gain[place]), "ratings": counts[name]}
                row["edited"] = name in edited
            rows.append({**row, "mine": mine[name].rating if name in mine else None})
        return rows

    def _said_by(self, rater: str) -> tuple[dict[str, StoredRating], Counter[str]]:
        """Ratings of this rater by scan, and how many raters said something of each."""
        ratings = self.ratings()
        judge = rater == self._options.adjudicator
        mine = {said.scan: said for said in ratings if said.rater == rater and said.adjudicates == judge}
        return mine, Counter(said.scan for said in ratings if not said.adjudicates)

    def next_for(self, rater: str, after: Sequence[str] = ()) -> str | None:
        """The scan that a rater is to look at next, which no other gets for a while; None when nothing is left.

        Args:
            rater: code.
            after: scans to pass over: those that the rater has open or skipped.
        """
        mine, counts = self._said_by(rater)
        with self._turn:
            moment = time.monotonic()
            others = Counter(name for name in self._held for holder in self._holders(name, moment) if holder != rater)
            for name in self._queue(rater):
                full = rater != self._options.adjudicator and counts[name] + others[name] >= self._needed(name)
                if name in mine or name in after or full:
                    continue
                self._held.setdefault(name, {})[rater] = moment
                return name
        return None

    def _holders(self, name: str, moment: float) -> list[str]:
        return [holder for holder, since in self._held[name].items() if moment - since < HELD_S]

    def hold(self, rater: str, name: str) -> None:
        """A scan that a rater has open is not given to others for a while."""
        with self._turn:
            self._held.setdefault(name, {})[rater] = time.monotonic()

    def release(self, rater: str, name: str) -> None:
        """A scan that the rater is done with is no longer kept for him."""
        with self._turn:
            self._held.get(name, {}).pop(rater, None)

    def _queue(self, rater: str) -> list[str]:
        if rater != self._options.adjudicator:
            return self._order(rater)
        differ = set(differing(self.ratings()))
        return [name for name in self._order(rater) if name in differ]

    def chance(self, name: str) -> float:
        """That the mask of a scan is bad, brought up to date."""
        return float(self._chances()[0][self._place[name]])

    def progress(self, rater: str) -> dict[str, Any]:
        """How far a rater is: ``done``, ``left`` of the queue, ``pace`` in seconds a scan, ``undecided`` differences."""
        mine, counts = self._said_by(rater)
        queue = self._queue(rater)
        judge = rater == self._options.adjudicator
        left = sum(1 for name in queue if name not in mine and (judge or counts[name] < self._needed(name)))
        times = [said.seconds for said in mine.values() if said.seconds][-RECENT:]
        told = {"done": len(mine), "left": left, "pace": float(np.median(times)) if times else None}
        return told if self._options.hides(rater) else {**told, "standing": self.standing()}

    def agreement(self, rater: str) -> dict[str, Any]:
        """Agreement of all raters.

        Raises:
            NotFoundError: it is hidden from a blind rater.
        """
        if self._options.hides(rater):
            raise NotFoundError("what others said is hidden while this study is rated blind")
        ratings = self.ratings()
        return {**agreement(ratings), "readings": readings(ratings)}


def _worklist(scans: Sequence[StudiedScan]) -> Worklist:
    """Chances and tests of all masks; where nothing is known, either is as likely."""
    sites = {site: number for number, site in enumerate(sorted({scan.site for scan in scans}))}

    def column(name: str) -> Numbers:
        return np.array([0.5 if (value := scan.value(name)) is None else value for scan in scans], np.float64)

    def tests(name: str) -> Numbers:
        # As in the table of the study: of a scan that nobody accepts unseen the tests say nothing.
        found = [scan.assessment for scan in scans if scan.assessment]
        return np.array([np.nan if a.for_review else a.p_values.get(name, np.nan) for a in found], np.float64)

    return Worklist(
        chance=column("failure_probability"),
        gain=column("expected_gain"),
        p_bad=tests("bad"),
        p_gross=tests("gross"),
        site=np.array([sites[scan.site] for scan in scans], np.int64),
    )
