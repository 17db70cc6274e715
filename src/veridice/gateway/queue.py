"""What the gateway knows, whatever becomes of its processes: images, what came of each study, what is still to be sent.

No name, number, date or UID of a patient is stored: studies, patients and images are known by hashes with the site's own salt.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from veridice.io.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
    key TEXT PRIMARY KEY, patient TEXT NOT NULL, state TEXT NOT NULL, generation INTEGER NOT NULL, first REAL NOT NULL,
    changed REAL NOT NULL, due REAL NOT NULL DEFAULT 0, tries REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    verdict TEXT NOT NULL DEFAULT '', predicted_dice REAL, objects TEXT NOT NULL DEFAULT '[]',
    published TEXT NOT NULL DEFAULT '[]', delivered TEXT NOT NULL DEFAULT '[]', first_refused REAL NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0, options TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS images (
    key TEXT NOT NULL, image TEXT NOT NULL, digest TEXT NOT NULL, file TEXT NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (key, image));
CREATE TABLE IF NOT EXISTS polled (series TEXT PRIMARY KEY, images INTEGER NOT NULL);
"""
Taken = Literal["new", "known", "other content", "other patient"]
MOST_TRIES = 3
"""Of a judgement that ended without a word, as when memory ran out."""
FORGIVEN = 0.9
"""Part of a try that does not count, where the gateway itself ended: hardly the study's fault, unless it always happens."""


class Sent(NamedTuple):
    """An object that went, or may have gone, to the archive."""

    sop_class: str
    series: str
    instance: str
    file: str


@dataclass(frozen=True)
class StudyRow:
    """One study as it stands.

    Args:
        key: hash of its UID.
        state: ``received``, ``judging``, ``judged`` (not sent yet), ``sent``, or ``failed``, which has a reason and waits for
            more images or for a person.
        generation: grows with each new image; what was made from an older one no longer counts.
        changed: seconds since 1970 when the last image came, or the state changed.
        objects: that are to be sent, or were.
        published: all that are, or may be, in the archive.
        delivered: UIDs of those that it certainly has.
        first_refused: seconds since 1970 when the archive first refused one; 0: it did not.
        revision: how often its results took the place of earlier ones.
        options: what a person asked for when trying again.
    """

    key: str
    state: str
    generation: int
    first: float
    changed: float
    tries: float
    reason: str
    verdict: str
    predicted_dice: float | None
    images: int
    objects: tuple[Sent, ...] = ()
    published: tuple[Sent, ...] = ()
    delivered: frozenset[str] = frozenset()
    first_refused: float = 0.0
    revision: int = 0
    options: dict[str, Any] | None = None


class Queue(Database):
    """Studies on their way; may be used from many threads and processes.

    Args:
        file: made when absent, readable by its owner alone.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file, SCHEMA, "give a folder of yours to --inbox")
        with self.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('salt', ?)", (secrets.token_hex(32),))
        self._salt = bytes.fromhex(self.rows("SELECT value FROM facts WHERE name = 'salt'")[0]["value"])

    def hashed(self, text: str) -> str:
        """A name for something that must not be named: 16 letters, of this site alone."""
        return hmac.new(self._salt, text.encode(), hashlib.sha256).hexdigest()[:16]

    def what_is_known(self, key: str, patient: str, image: str, digest: str) -> Taken:
        """Whether an image is new, was there before, or contradicts what was.

        Args:
            key, patient, image: hashes of the study's UID, of who it is, of the image's UID.
            digest: of its content.
        """
        study = self.rows("SELECT patient FROM studies WHERE key = ?", key)
        if study and study[0]["patient"] != patient:
            return "other patient"
        known = self.rows("SELECT digest FROM images WHERE key = ? AND image = ?", key, image)
        if known:
            return "known" if known[0]["digest"] == digest else "other content"
        return "new"

    def add_image(self, key: str, patient: str, image: str, digest: str, file: str, size: int) -> None:
        """Note a new image that lies on the disk; its study waits to be judged, again if need be.

        Args:
            key, patient, image, digest: as :meth:`what_is_known` takes them.
            file: its name in the study's folder.
            size: bytes.
        """
        now = time.time()
        with self.writing() as connection:
            connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?)", (key, image, digest, file, size))
            connection.execute(
                "INSERT INTO studies (key, patient, state, generation, first, changed) VALUES (?, ?, 'received', 1, ?, ?) "
                "ON CONFLICT (key) DO UPDATE "
                "SET state = 'received', generation = generation + 1, changed = ?, tries = 0, due = 0",
                (key, patient, now, now, now),
            )

    def size(self, key: str) -> tuple[int, int]:
        """Images of a study and their bytes."""
        row = self.rows("SELECT count(*) AS n, coalesce(sum(bytes), 0) AS bytes FROM images WHERE key = ?", key)[0]
        return row["n"], row["bytes"]

    def claim(self, quiet_s: float) -> StudyRow | None:
        """The study that has been quiet the longest, which is now being judged; None where none has been for so long."""
        with self.writing() as connection:
            row = connection.execute(
                "SELECT key FROM studies WHERE state = 'received' AND changed <= ? ORDER BY changed LIMIT 1",
                (time.time() - quiet_s,),
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE studies SET state = 'judging', tries = tries + 1, due = ? WHERE key = ?", (time.time(), row["key"])
            )
        return self.study(row["key"])

    def anything_due(self, quiet_s: float) -> bool:
        """Whether :meth:`claim` would find a study, or one is held by a judge that may be gone."""
        question = "SELECT 1 FROM studies WHERE state = 'judging' OR (state = 'received' AND changed <= ?) LIMIT 1"
        return bool(self.rows(question, time.time() - quiet_s))

    def judged(self, study: StudyRow, verdict: str, predicted_dice: float, objects: list[Sent], revision: int = 0) -> bool:
        """Note what came of a study; False where more images came meanwhile, so that it counts for nothing."""
        found = {"verdict": verdict, "predicted_dice": predicted_dice, "objects": json.dumps(objects), "revision": revision}
        return self._end(study, "judging", "judged", **found)

    def failed(self, study: StudyRow, state: str, reason: str) -> bool:
        """Note that a study in a state can go no further; False where more images came meanwhile."""
        return self._end(study, state, "failed", reason=reason)

    def wait_again(self, study: StudyRow, reason: str) -> bool:
        """A judgement could not be kept, as when the disk is full: it is judged again after as long a quiet."""
        return self._end(study, "judging", "received", reason=reason)

    def sent(self, study: StudyRow, reason: str = "") -> bool:
        """Note that the archive has everything that it takes, and that what it had before was taken back."""
        return self._end(study, "judged", "sent", published=json.dumps(study.objects), reason=reason, first_refused=0.0)

    def delivered(self, study: StudyRow, instance: str) -> None:
        """Note that the archive has an object."""
        with self.writing() as connection:
            row = connection.execute("SELECT delivered FROM studies WHERE key = ?", (study.key,)).fetchone()
            known = sorted({*json.loads(row["delivered"]), instance})
            connection.execute("UPDATE studies SET delivered = ? WHERE key = ?", (json.dumps(known), study.key))

    def _end(self, study: StudyRow, state: str, new: str, **values: Any) -> bool:
        fields = {"reason": "", "tries": 0, "due": 0.0, "changed": time.time(), **values, "state": new}
        setting = ", ".join(f"{name} = ?" for name in fields)  # names are ours
        with self.writing() as connection:
            done = connection.execute(
                f"UPDATE studies SET {setting} WHERE key = ? AND generation = ? AND state = ?",  # noqa: S608
                (*fields.values(), study.key, study.generation, state),
            )
        return done.rowcount == 1

    def forgive(self) -> None:
        """The gateway begins: what was being judged when it ended counts little against a study."""
        with self.writing() as connection:
            connection.execute("UPDATE studies SET tries = max(tries - ?, 0) WHERE state = 'judging'", (FORGIVEN,))

    def recover(self) -> list[str]:
        """Studies whose judge is gone wait again; those that it went with too often fail. Returns keys of the latter."""
        reason = f"the judge ended without a word {MOST_TRIES} times, as when memory runs out"
        with self.writing() as connection:
            lost = connection.execute(
                "UPDATE studies SET state = 'failed', reason = ? WHERE state = 'judging' AND tries >= ? RETURNING key",
                (reason, MOST_TRIES),
            ).fetchall()
            connection.execute("UPDATE studies SET state = 'received' WHERE state = 'judging'")
        return [row["key"] for row in lost]

    def judging_since(self) -> float | None:
        """Seconds since 1970 when the judgement that goes on was begun."""
        rows = self.rows("SELECT min(due) AS since FROM studies WHERE state = 'judging'")
        return rows[0]["since"]

    def next_to_send(self) -> StudyRow | None:
        """A judged study whose time has come."""
        rows = self.rows(
            "SELECT key FROM studies WHERE state = 'judged' AND due <= ? ORDER BY due, changed LIMIT 1", time.time()
        )
        return self.study(rows[0]["key"]) if rows else None

    def publish(self, study: StudyRow, objects: list[Sent]) -> None:
        """Note, before the first of them goes, that objects may be in the archive from now on."""
        known = {one.instance: one for one in (*study.published, *objects)}
        with self.writing() as connection:
            connection.execute("UPDATE studies SET published = ? WHERE key = ?", (json.dumps(list(known.values())), study.key))

    def try_later(self, study: StudyRow, seconds: float, reason: str, refused: bool = False) -> None:
        """The archive did not take a study, or refused it: once more after so many seconds, unless it is judged anew."""
        now = time.time()
        with self.writing() as connection:
            connection.execute(
                "UPDATE studies SET due = ?, tries = tries + 1, reason = ?, "
                "first_refused = CASE WHEN ? AND first_refused = 0 THEN ? ELSE first_refused END "
                "WHERE key = ? AND generation = ? AND state = 'judged'",
                (now + seconds, reason, refused, now, study.key, study.generation),
            )

    def try_again(self, key: str, options: dict[str, Any]) -> bool:
        """A person wants a study judged once more; False where there is none of this key, or its images are gone."""
        with self.writing() as connection:
            done = connection.execute(
                "UPDATE studies "
                "SET state = 'received', generation = generation + 1, changed = 0, tries = 0, due = 0, options = ? "
                "WHERE key = ? AND EXISTS (SELECT 1 FROM images WHERE images.key = studies.key)",
                (json.dumps(options), key),
            )
        return done.rowcount == 1

    def done_before(self, moment: float, unsent_too: bool = False) -> list[str]:
        """Keys of studies, still with images, that were sent or failed before a moment; or judged, if there is no archive."""
        question = (
            "SELECT DISTINCT studies.key FROM studies JOIN images ON images.key = studies.key "
            "WHERE (state IN ('sent', 'failed') OR (? AND state = 'judged')) AND changed < ?"
        )
        return [row["key"] for row in self.rows(question, unsent_too, moment)]

    def emptied(self, key: str, moment: float) -> bool:
        """Forget the images of a study, not what became of it; False where it changed after a moment, and keeps them."""
        with self.writing() as connection:
            done = connection.execute(
                "DELETE FROM images WHERE key = ? AND EXISTS "
                "(SELECT 1 FROM studies WHERE key = ? AND state NOT IN ('received', 'judging') AND changed < ?)",
                (key, key, moment),
            )
        return done.rowcount > 0

    def study(self, key: str) -> StudyRow:
        """As it stands now."""
        row = self.rows("SELECT * FROM studies WHERE key = ?", key)[0]
        return StudyRow(
            key=row["key"],
            state=row["state"],
            generation=row["generation"],
            first=row["first"],
            changed=row["changed"],
            tries=row["tries"],
            reason=row["reason"],
            verdict=row["verdict"],
            predicted_dice=row["predicted_dice"],
            images=self.size(key)[0],
            objects=tuple(Sent(*one) for one in json.loads(row["objects"])),
            published=tuple(Sent(*one) for one in json.loads(row["published"])),
            delivered=frozenset(json.loads(row["delivered"])),
            first_refused=row["first_refused"],
            revision=row["revision"],
            options=json.loads(row["options"]),
        )

    def studies(self) -> list[StudyRow]:
        """All of them, the last one changed first."""
        return [self.study(row["key"]) for row in self.rows("SELECT key FROM studies ORDER BY changed DESC")]

    def seen(self, series: str) -> int:
        """How many images of a series (a hash) the archive had when it was last fetched."""
        rows = self.rows("SELECT images FROM polled WHERE series = ?", series)
        return rows[0]["images"] if rows else 0

    def saw(self, series: str, images: int) -> None:
        """Note how many it had."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO polled VALUES (?, ?)", (series, images))
