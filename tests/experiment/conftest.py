"""What the tests of the experiment share."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from veridice.experiment.results import figures


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at them: coarse, and without the layout for which all is drawn twice."""
    monkeypatch.setitem(figures.STYLE, "savefig.dpi", 40)
    monkeypatch.setattr(figures, "Figure", lambda figsize, layout: Figure(figsize=figsize))  # noqa: ARG005
