"""Settings, frozen and checked; every field explains itself. Read from TOML and written back beside the results."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from veridice.errors import ConfigError, InputError

LARGEST_SEED = 2**31 - 1
"""Seeds of single passes and steps are made from it by a factor of a million, within 64 bits."""


class Frozen(BaseModel):
    """Base of what is stored: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Frozen):
    """Base of all settings; their numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class InferenceSettings(Settings):
    """How one scan is judged."""

    passes: int = Field(20, ge=2, description="stochastic passes (paper: 20)")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="the same scan and seed give the same answer")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    engine: Literal["auto", "openvino", "torch"] = Field("auto", description="auto: OpenVINO on a CPU where it is installed")
    min_dice: Annotated[float, Field(ge=0, le=1)] | Literal["second-expert"] | None = Field(
        None, description="Dice that a mask needs to be of use; second-expert: what such a one would reach; none: 0.75 (paper)"
    )
    max_missed: float = Field(0.05, gt=0, le=0.5, description="of the bad masks that may be accepted")
    max_wasted: float = Field(0.05, gt=0, le=0.5, description="of the good masks that may be rejected")
    shadow: bool = Field(False, description="whether the map of what is surely in, surely out and between is made")
    coverage: float = Field(0.9, gt=0, lt=1, description="share of scans whose true Dice lies in the interval")


SomeSettings = TypeVar("SomeSettings", bound="Settings")


def load_settings(model: type[SomeSettings], name_or_path: str, shipped: Traversable, **overrides: object) -> SomeSettings:
    """Read a TOML file, or one of those in the package's folder ``shipped`` by its name; ``overrides`` replace its fields.

    Raises:
        ConfigError: no such file or name, not TOML, or a field that is unknown or out of range.
    """
    path, bundled = Path(name_or_path), shipped / f"{name_or_path}.toml"
    if path.is_file():
        content = path.read_bytes()
    elif path.name == name_or_path and bundled.is_file():
        content = bundled.read_bytes()
    else:
        names = sorted(p.name.removesuffix(".toml") for p in shipped.iterdir() if p.name.endswith(".toml"))
        raise ConfigError(f"no configuration '{name_or_path}': give a TOML file or one of {', '.join(names)}")
    try:
        return model.model_validate(tomllib.loads(content.decode()) | overrides)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name_or_path}: not TOML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        place = f"field '{field}': " if field else ""
        raise ConfigError(f"{name_or_path}: {place}{first['msg'].removeprefix('Value error, ')}") from error


def to_toml(settings: Settings) -> str:
    """The settings as TOML text, readable by :func:`load_training_settings`."""
    return tomli_w.dumps(settings.model_dump(mode="json"))


Contrast = Literal["flair", "t1"]
CONTRASTS = {"flair": "FLAIR", "t1": "T1w"}
WORD = re.compile(r"(?<![\w/.-])(?:lesions?|FLAIR|brain)(?![\w/-]|\.\w)")
Image = TypeVar("Image")


class Task(Settings):
    """One structure in one kind of scan."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="short name, for commands and folders")
    target: str = Field(
        pattern=r"^[A-Za-z0-9]+$", description="what is segmented, as messages and file names call it: one word"
    )
    contrasts: tuple[Contrast, ...] = Field(
        ("flair", "t1"), min_length=1, max_length=2, description="images; the first is needed and decides the grid"
    )
    truth: Literal["mask", "brain_mask", "ventricles"] = Field("mask", description="column of a manifest with the true mask")
    parts: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], Annotated[int, Field(ge=1, le=65535)]] = Field(
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

    @model_validator(mode="after")
    def _all_differ(self) -> Self:
        if len(set(self.contrasts)) < len(self.contrasts) or len(set(self.parts.values())) < len(self.parts):
            raise ValueError("contrasts and the labels of parts must differ")
        return self

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
        if self.contrasts[0] == "flair" and self.target == "lesion":
            return text
        words = {"lesion": self.target, "lesions": self.target, "FLAIR": self.reference}
        # What would be the brain is all of a crop.
        words["brain"] = "brain" if self.whole_head else "image"
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
    """Read a task: a shipped one (``lesion``, ``brain``, ``hippocampus``) or a TOML file.

    Raises:
        ConfigError: no such file or name, not TOML, or a field that is unknown or out of range.
    """
    return load_settings(Task, name_or_path, files("veridice") / "configs" / "tasks")


LESION = Task(name="lesion", target="lesion")
"""What veridice is made for."""
