"""One SQLite file in which what was acknowledged is on the disk.

Write-ahead log with full synchronisation: a transaction that returned survives a killed process and a power cut
(https://sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veridice.errors import OutputError

PATIENCE_S = 20


class Database:
    """Tables in a file; may be used from many threads and processes.

    Args:
        file: made when absent, readable by its owner alone.
        schema: statements that make the tables where they are absent.
        mend: how an error that stops it from being made is mended.

    Raises:
        OutputError: it cannot be made or is no such file.
    """

    def __init__(self, file: Path, schema: str, mend: str) -> None:
        self.file = file
        self._local = threading.local()
        self._writing = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            # By hand: executescript() would commit half of it.
            with self.writing() as connection:
                for statement in schema.split(";\n"):
                    connection.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"{file}: {getattr(error, 'strerror', None) or error}; {mend}") from error

    @property
    def _connection(self) -> sqlite3.Connection:
        """One a thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.file, timeout=PATIENCE_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection = connection
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block has ended."""
        with self._writing:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def rows(self, question: str, *values: Any) -> list[sqlite3.Row]:
        """All rows that answer a question."""
        return self._connection.execute(question, values).fetchall()

    def close(self) -> None:
        """Close this thread's connection and bring the log into the file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
