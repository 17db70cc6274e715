"""What is segmented and judged: lesions, or another structure. Frozen, from a TOML file; everything else asks it."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from veridice.config import Settings, load_settings
from veridice.errors import InputError

Contrast = Literal["flair", "t1"]
CONTRASTS = {"flair": "FLAIR", "t1": "T1w"}
WORD = re.compile(r"(?<![\w/.-])(?:lesions?|FLAIR)(?![\w/-]|\.\w)")
Image = TypeVar("Image")


class Task(Settings):
    """One structure in one kind of scan."""

    name: str = Field(description="short name, for commands and folders")
    target: str = Field(description="what is segmented, as messages and file names call it: one word")
    contrasts: tuple[Contrast, ...] = Field(
        ("flair", "t1"), min_length=1, max_length=2, description="images; the first is needed and decides the grid"
    )
    truth: Literal["mask", "brain_mask", "ventricles"] = Field("mask", description="column of a manifest with the true mask")
    parts: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="name and label of each part in a mask; none: everything that is not 0 is one part"
    )
    whole_head: bool = Field(
        True, description="the scan shows a head, in which a brain is looked for; else it is a crop, taken as it is"
    )
    scattered: bool = Field(True, description="many separate pieces, each listed, as lesions are; else one of a kind")
    min_dice: float = Field(0.75, ge=0, le=1, description="Dice that a mask needs to be of use")
    training: str = Field("default", description="training configuration")
    experiment: str = Field("laptop", description="experiment configuration")
    cite: str = Field("", description="whose data the weights that ship learnt from")

    def __hash__(self) -> int:
        # Pydantic's own fails at the labels of the parts.
        return hash(self.model_dump_json())

    @property
    def count(self) -> int:
        """Number of parts."""
        return max(1, len(self.parts))

    @property
    def reference(self) -> str:
        """The contrast that decides the grid, as people and BIDS call it."""
        return CONTRASTS[self.contrasts[0]]

    @property
    def own_mask(self) -> str:
        """Name of the mask that veridice draws, among the maps of a result."""
        return f"{self.target}_mask"

    @property
    def probability(self) -> str:
        """Name of its mean probability, among the maps of a result."""
        return f"{self.target}_probability"

    def say(self, text: str) -> str:
        """A sentence that was written of lesions on a FLAIR, in the words of this task; names of files stay as they are."""
        words = {"lesion": self.target, "lesions": self.target, "FLAIR": self.reference}
        return WORD.sub(lambda found: words[found[0]], text)

    def rename(self, name: str) -> str:
        """The same of the name of a map or a file of ours."""
        return name.replace("lesion", self.target).replace("FLAIR", self.reference)

    def take(self, **images: Image | None) -> tuple[Image, Image | None]:
        """The image that decides the grid and, where there is one, the second, of all that were given by name.

        Raises:
            InputError: the first is not there, or one that this task does not take.
        """
        given = {name: image for name, image in images.items() if image is not None}
        if more := sorted(set(given) - set(self.contrasts)):
            raise InputError(f"task '{self.name}' takes no {CONTRASTS[more[0]]}: leave out --{more[0]}")
        if self.contrasts[0] not in given:
            raise InputError(f"task '{self.name}' needs a {self.reference}: give --{self.contrasts[0]}")
        return given[self.contrasts[0]], given.get(self.contrasts[-1]) if len(self.contrasts) > 1 else None


@cache
def load_task(name_or_path: str) -> Task:
    """Read a task: a shipped one (``lesion``, ``brain``, ``hippocampus``, ``ventricles``) or a TOML file.

    Raises:
        ConfigError: no such file or name, not TOML, or a field that is unknown or out of range.
    """
    return load_settings(Task, name_or_path, resources.files("veridice") / "configs" / "tasks")


LESION = Task(name="lesion", target="lesion")
"""What veridice is made for."""
