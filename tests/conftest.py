"""Where tests are run, they share :mod:`shared`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """The process that only hands tests out to workers is spared the seconds that torch takes."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("shared")
