"""What is said between server and sites, as Flower's records. Nothing but what stands here crosses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

CONFIG = "VERIDICE_FEDERATION"
"""Environment variable with the member's TOML file, for the processes that Flower starts."""
ARRAYS, SAID, METRICS = "arrays", "config", "metrics"
"""Names of the records: weights; what is asked; numbers."""
EXAMPLES = "num-examples"
"""Flower's name of how much a site counts."""
FINGERPRINT, NETWORK, ROUND, TEXT = "fingerprint", "network", "round", "text"
KEEP, SCORES, FINISH = "query.keep", "query.scores", "query.finish"
"""Questions beside training and evaluation: keep these final weights; share the scores of your masks; this is the common
decision, and that was all."""
BUSY = "this site is busy, or cannot write; see its own log"
LACKS = "this site has not got the networks that were learnt before"
"""Reasons of errors that the server acts upon."""


def federation_file() -> Path:
    """The TOML file of this member."""
    return Path(os.environ[CONFIG])


def to_record(arrays: Mapping[str, np.ndarray[Any, Any]]) -> ArrayRecord:
    """Weights as a record."""
    return ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()})


def from_record(record: ArrayRecord) -> dict[str, np.ndarray[Any, Any]]:
    """Weights of a record; nothing is unpickled."""
    return {name: array.numpy() for name, array in record.items()}
