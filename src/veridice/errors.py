"""Errors a user can meet. Every message says what is wrong, where, and how to mend it."""

from __future__ import annotations


class VeridiceError(Exception):
    """Root of all errors that veridice raises on purpose; its text is one line for a person."""


class InputError(VeridiceError):
    """An input file or option cannot be judged (exit code 3)."""


class GeometryError(InputError):
    """Shapes or affines that are unusable, or that do not belong together."""


class OutputError(VeridiceError):
    """A result could not be written; nothing half-written is left behind (exit code 3)."""


class WeightsError(VeridiceError):
    """Network weights that are missing, damaged or of another network (exit code 3)."""


class ConfigError(VeridiceError):
    """A configuration file that cannot be used (exit code 3)."""


class ClusterError(VeridiceError):
    """A cluster that was lost while it worked (exit code 3)."""
