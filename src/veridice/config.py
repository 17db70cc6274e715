"""Settings, frozen and checked; every field explains itself. Read from TOML and written back beside the results."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veridice.errors import ConfigError

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
