"""The desk's memory: one SQLite file in the study's folder. What was acknowledged is on the disk, and nothing is deleted."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from veridice.config import Frozen
from veridice.errors import OutputError
from veridice.io.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (code TEXT PRIMARY KEY, token TEXT NOT NULL, adjudicator INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS ratings (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, scan TEXT NOT NULL, rater TEXT NOT NULL, version TEXT NOT NULL,
    rating TEXT NOT NULL, score INTEGER, reasons TEXT NOT NULL, comment TEXT NOT NULL, seconds REAL, rated TEXT NOT NULL,
    judged_mask TEXT NOT NULL, verdict TEXT, predicted_dice REAL, adjudicates INTEGER NOT NULL DEFAULT 0,
    source TEXT NOT NULL DEFAULT 'desk', withdrawn INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS ratings_by_scan ON ratings (scan, rater, id);
CREATE TABLE IF NOT EXISTS drawings (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, scan TEXT NOT NULL, rater TEXT NOT NULL, version TEXT NOT NULL, file TEXT NOT NULL,
    dice REAL, volume_ml REAL, drawn TEXT NOT NULL, state TEXT NOT NULL, result TEXT NOT NULL DEFAULT '{}',
    withdrawn INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS drawings_by_scan ON drawings (scan, id);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, body TEXT NOT NULL, due REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    delivered TEXT, trouble TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, at TEXT NOT NULL, rater TEXT NOT NULL, what TEXT NOT NULL,
    scan TEXT NOT NULL, detail TEXT NOT NULL);
"""


LATEST = "SELECT max(id) FROM ratings WHERE withdrawn = 0 GROUP BY scan, rater, adjudicates"


class StoredRating(Frozen):
    """What one rater said of one mask.

    Args:
        id: grows with time.
        version: of the scan's results that were looked at, see :class:`veridice.review.studied.StudiedScan`.
        adjudicates: whether it decides where others differ.
    """

    id: int = 0
    key: str = Field(max_length=64)
    scan: str
    rater: str
    version: str
    rating: str
    score: int | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    seconds: float | None = None
    rated: str
    judged_mask: str
    verdict: str | None = None
    predicted_dice: float | None = None
    adjudicates: bool = False
    source: str = "desk"


class StoredDrawing(Frozen):
    """One saved correction of a mask.

    Args:
        file: relative to the study's folder.
        dice: with the mask that was judged.
        state: ``draft``, then ``waiting`` to be judged again, ``done`` or ``failed``.
        result: of that judgement.
    """

    id: int
    key: str | None = None
    scan: str
    rater: str
    version: str
    file: str
    dice: float | None = None
    volume_ml: float | None = None
    drawn: str
    state: str
    result: dict[str, Any] = Field({})


def now() -> str:
    """This moment, UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store(Database):
    """Ratings, drawings, raters, waiting messages and the log of who did what.

    Args:
        file: made when absent, readable by its owner alone.

    Raises:
        OutputError: it cannot be made or is no such file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file, SCHEMA, "ratings cannot be kept there; give a study in a folder of yours")

    def fact(self, name: str, value: Any = None) -> Any:
        """A stored fact of the study; the first ``value`` that is given for it stays."""
        if value is not None:
            with self.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        found = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(found[0]["value"]) if found else None

    def tokens(self, raters: Sequence[str], adjudicator: str | None, renew: bool = False) -> dict[str, str]:
        """The token of each rater, the adjudicator among them; a new rater gets one.

        Args:
            raters: codes.
            adjudicator: code of the one who decides where others differ.
            renew: throw the known tokens away first.
        """
        wanted = dict.fromkeys([*raters, *([adjudicator] if adjudicator else [])])
        with self.writing() as connection:
            for code in wanted:
                connection.execute("INSERT OR IGNORE INTO raters VALUES (?, ?, 0)", (code, secrets.token_urlsafe(24)))
                if renew:
                    connection.execute("UPDATE raters SET token = ? WHERE code = ?", (secrets.token_urlsafe(24), code))
            connection.execute("UPDATE raters SET adjudicator = (code = ?)", (adjudicator or "",))
        known = {row["code"]: row["token"] for row in self.rows("SELECT code, token FROM raters")}
        return {code: known[code] for code in wanted}

    def say(self, rater: str, what: str, scan: str = "", detail: str = "") -> None:
        """Add a line to the log of who did what."""
        with self.writing() as connection:
            _say(connection, rater, what, scan, detail)

    def add_rating(self, rating: StoredRating, message: str | None = None) -> bool:
        """Keep a rating, and a message that is to be sent of it; False where the same one was kept before.

        An imported one that is older than what the rater said here since is kept, and does not count.
        """
        row = {**rating.model_dump(exclude={"id"}), "reasons": json.dumps(rating.reasons)}
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        with self.writing() as connection:
            # Names of columns are those of the class above.
            done = connection.execute(f"INSERT OR IGNORE INTO ratings ({names}) VALUES ({places})", row)  # noqa: S608
            if not done.rowcount:
                return False
            if rating.source == "import":
                newer = "SELECT 1 FROM ratings WHERE scan = ? AND rater = ? AND withdrawn = 0 AND id != ? AND rated > ?"
                values = (done.lastrowid, rating.scan, rating.rater, done.lastrowid, rating.rated)
                # The inner question is ours.
                connection.execute(f"UPDATE ratings SET withdrawn = 1 WHERE id = ? AND EXISTS ({newer})", values)  # noqa: S608
            _say(connection, rating.rater, "rating", rating.scan, rating.rating)
            if message is not None:
                connection.execute("INSERT INTO messages (body, due) VALUES (?, 0)", (message,))
        return True

    def withdraw_rating(self, scan: str, rater: str, adjudicates: bool = False) -> bool:
        """Take back the latest rating of a rater on a scan, so that the one before counts again; False without any."""
        with self.writing() as connection:
            done = connection.execute(
                "UPDATE ratings SET withdrawn = 1 WHERE id = (SELECT max(id) FROM ratings WHERE scan = ? AND rater = ? AND"
                " adjudicates = ? AND withdrawn = 0)",
                (scan, rater, adjudicates),
            )
            if done.rowcount:
                _say(connection, rater, "rating taken back", scan, "")
            return bool(done.rowcount)

    def ratings(self, everything: bool = False) -> list[StoredRating]:
        """The rating that counts of each rater and scan, the oldest first; or ``everything`` that was not taken back.

        Of a rater who adjudicates, his word as a judge and his word as a rater both count.
        """
        latest = "" if everything else f" AND id IN ({LATEST})"
        rows = self.rows(f"SELECT * FROM ratings WHERE withdrawn = 0{latest} ORDER BY id")  # noqa: S608 (ours)
        return [_rating(row) for row in rows]

    def ratings_of(self, scan: str) -> list[StoredRating]:
        """As :meth:`ratings`, of one scan."""
        rows = self.rows(
            "SELECT * FROM ratings WHERE id IN (SELECT max(id) FROM ratings WHERE withdrawn = 0 AND scan = ? GROUP BY rater,"
            " adjudicates) ORDER BY id",
            scan,
        )
        return [_rating(row) for row in rows]

    def add_drawing(self, drawing: StoredDrawing) -> StoredDrawing:
        """Keep a drawing, whose file is on the disk already; a rater has one draft of a scan, which goes when one is saved."""
        row = {**drawing.model_dump(exclude={"id"}), "result": json.dumps(drawing.result)}
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        with self.writing() as connection:
            connection.execute(
                "UPDATE drawings SET withdrawn = 1 WHERE scan = ? AND rater = ? AND state = 'draft'",
                (drawing.scan, drawing.rater),
            )
            done = connection.execute(f"INSERT INTO drawings ({names}) VALUES ({places})", row)  # noqa: S608 (ours)
            if drawing.state != "draft":
                _say(connection, drawing.rater, "drawing", drawing.scan, drawing.file)
        return drawing.model_copy(update={"id": int(done.lastrowid or 0)})

    def drawing_of(self, key: str) -> StoredDrawing | None:
        """The drawing that was kept with this key, taken back or not; None where none was."""
        found = self.rows("SELECT * FROM drawings WHERE key = ?", key)
        return _drawing(found[0]) if found else None

    def drawn_scans(self) -> list[str]:
        """Scans that anybody ever saved a drawing of."""
        return [row["scan"] for row in self.rows("SELECT DISTINCT scan FROM drawings WHERE state != 'draft'")]

    def withdraw_drawing(self, scan: str, rater: str) -> StoredDrawing | None:
        """Take back the latest drawing of a rater on a scan, a draft first; None without any."""
        found = self.rows(
            "SELECT * FROM drawings WHERE scan = ? AND rater = ? AND withdrawn = 0"
            " ORDER BY state = 'draft' DESC, id DESC LIMIT 1",
            scan,
            rater,
        )
        if not found:
            return None
        with self.writing() as connection:
            connection.execute("UPDATE drawings SET withdrawn = 1 WHERE id = ?", (found[0]["id"],))
            _say(connection, rater, "drawing taken back", scan, found[0]["file"])
        return _drawing(found[0])

    def drawings(self, scan: str | None = None) -> list[StoredDrawing]:
        """Those that were not taken back, drafts among them, the oldest first."""
        wanted = "" if scan is None else " AND scan = ?"
        values = () if scan is None else (scan,)
        rows = self.rows(f"SELECT * FROM drawings WHERE withdrawn = 0{wanted} ORDER BY id", *values)  # noqa: S608 (ours)
        return [_drawing(row) for row in rows]

    def judged_again(self, drawing: int, state: str, result: dict[str, Any]) -> None:
        """Keep what came of judging a drawing."""
        with self.writing() as connection:
            connection.execute("UPDATE drawings SET state = ?, result = ? WHERE id = ?", (state, json.dumps(result), drawing))
        self._local.connection = None


def _say(connection: sqlite3.Connection, rater: str, what: str, scan: str, detail: str) -> None:
    connection.execute(
        "INSERT INTO audit (at, rater, what, scan, detail) VALUES (?, ?, ?, ?, ?)", (now(), rater, what, scan, detail)
    )


def _rating(row: sqlite3.Row) -> StoredRating:
    known = {name: row[name] for name in row.keys() if name != "withdrawn"}  # noqa: SIM118 (a Row is no dictionary)
    return StoredRating(**{**known, "reasons": json.loads(row["reasons"]), "adjudicates": bool(row["adjudicates"])})


def _drawing(row: sqlite3.Row) -> StoredDrawing:
    known = {name: row[name] for name in row.keys() if name != "withdrawn"}  # noqa: SIM118
    return StoredDrawing(**{**known, "result": json.loads(row["result"])})


FOLDER = "review"
"""Of ratings and drawings, in the study's folder."""
FILE, LOCK = "ratings.sqlite", "desk.lock"


@contextmanager
def kept_open(output: Path) -> Iterator[Store]:
    """The store of a study, also beside a desk that has it open.

    Raises:
        OutputError: nothing can be written there.
    """
    store = Store(output / FOLDER / FILE)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def kept_alone(output: Path) -> Iterator[Store]:
    """The store of a study, which no other desk has open.

    Raises:
        OutputError: another has, or nothing can be written there.
    """
    try:
        (output / FOLDER).mkdir(exist_ok=True)
        lock = FileLock(output / FOLDER / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise OutputError(f"{output}: another veridice review has this study open; use its link, or end it first") from error
    except OSError as error:
        raise OutputError(
            f"{output}: is read-only ({error.strerror or error}), so no rating could be kept; give a copy that you may write to"
        ) from error
    with lock, kept_open(output) as store:
        yield store
