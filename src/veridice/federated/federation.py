"""What a federation agrees on, and what each of its members keeps for itself; one TOML file holds both. No Flower."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from veridice.config import Settings, load_settings
from veridice.errors import ConfigError, WeightsError
from veridice.io.weight_cards import bundled_weights, read_card
from veridice.training.settings import TrainingSettings, load_training_settings

FederatedNetwork = Literal[
    "segmenter", "critic", "reconstructor", "regressor-image", "regressor-uncertainty", "regressor-error"
]
WEIGHTS = "weights"
"""Folder of the common weights at a site and at the server."""
ORDER: tuple[FederatedNetwork, ...] = (
    "segmenter",
    "critic",
    "reconstructor",
    "regressor-image",
    "regressor-uncertainty",
    "regressor-error",
)
"""In which networks are learnt: each may need those before it."""
BUNDLED = "bundled"
Needed = Annotated[float, Field(gt=0, lt=1)]


class Privacy(Settings):
    """Differential privacy of a whole site: no site's part in a round may be told from what comes out, up to an ε."""

    clip: float = Field(description="largest length of a site's change of the weights; longer ones are shortened", gt=0)
    noise: float = Field(description="standard deviation of the noise, in units of ``clip``", gt=0)
    delta: float = Field(1e-5, gt=0, lt=1, description="chance by which the ε may fail")


class Agreement(Settings):
    """What all members have in common. Whoever has another one is refused."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="of the federation")
    training: str = Field("federated", description="training configuration: a TOML file, or one that ships")
    networks: tuple[FederatedNetwork, ...] = Field(("segmenter",), min_length=1, description="that are learnt, in this order")
    start: Literal["", "bundled"] = Field("", description="'bundled' goes on from the weights that ship; empty: from nothing")
    rounds: int = Field(10, ge=1, le=10_000, description="of each network")
    steps: int = Field(50, ge=1, description="optimiser steps of each site in a round")
    proximal: float = Field(0.0, ge=0, description="pull towards the common weights, FedProx's μ; 0 is FedAvg")
    minimum_sites: int = Field(2, ge=1, description="sites without whose answers a round does not count")
    wait_minutes: float = Field(60.0, gt=0, description="how long a round waits for a site")
    min_dice: tuple[Needed, ...] = Field(
        (0.7, 0.75), description="needed Dice that the common decision is made for; none: none"
    )
    quantiles: int = Field(0, ge=0, le=10_000, description="scores are shared as so many quantiles; 0: all of them, sorted")
    privacy: Privacy | None = Field(None, description="differential privacy; none: none")

    @model_validator(mode="after")
    def _networks_in_order(self) -> Self:
        if list(self.networks) != sorted(set(self.networks), key=ORDER.index):
            raise ValueError(f"networks must be different and in this order: {', '.join(ORDER)}")
        if self.privacy and self.quantiles == 0 and self.min_dice:
            raise ValueError("scores that are shared one by one undo what the noise hides; set quantiles, or min_dice = []")
        return self


class ServerSettings(Settings):
    """The computer that collects weights."""

    host: str = Field("0.0.0.0", description="address that sites reach it by; 127.0.0.1: only this computer")  # noqa: S104
    port: int = Field(9092, ge=1, le=65535)
    certificate: Path = Field(description="PEM file, valid for the server's name and for 127.0.0.1")
    key: Path = Field(description="PEM file")
    authority: Path = Field(description="PEM file of who signed the certificate")
    sites: tuple[Path, ...] = Field(
        min_length=1, description="public key of each site that may take part; the site is called after the file"
    )
    output: Path = Field(description="folder of weights and metrics; gone on with when there")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({key.stem for key in self.sites}) < len(self.sites):
            raise ValueError("sites are called after the files of their keys, so these need different names")
        return self


class SiteSettings(Settings):
    """One hospital."""

    server: str = Field(pattern=r"^[^\s/:]+:\d{1,5}$", description="name and port of the server")
    authority: Path = Field(description="PEM file of who signed the server's certificate")
    key: Path = Field(description="private key of this site; its public key is given to the server")
    manifest: Path = Field(description="CSV of the scans: id, patient, split, flair, t1, mask")
    data: Path = Field(description="folder that the manifest's files are relative to")
    output: Path = Field(description="folder of checkpoints, metrics and the common weights")
    port: int = Field(9094, ge=1, le=65535, description="of this site's own processes, on 127.0.0.1 alone")


class SimulatedSite(Settings):
    """One hospital of a simulation."""

    manifest: Path = Field(description="CSV of the scans: id, patient, split, flair, t1, mask")
    data: Path = Field(description="folder that the manifest's files are relative to")


class Simulation(Settings):
    """A whole federation on this computer: real processes, over TLS on 127.0.0.1."""

    output: Path = Field(description="folder of all members; gone on with when there")
    sites: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], SimulatedSite] = Field(min_length=1)


class Federation(Settings):
    """The whole file; paths in it are relative to its folder."""

    federation: Agreement
    server: ServerSettings | None = None
    site: SiteSettings | None = None
    simulation: Simulation | None = None

    def fingerprint(self) -> str:
        """Checksum of all that members have to agree on, the training configuration with it but for where things lie."""
        training = self.training.model_dump(mode="json")
        for name in ("manifest", "root", "cubes", "jobs"):
            del training["data"][name]
        for stage in ("segmenter", "reconstructor", "regressor"):
            for name in ("workers", "devices", "checkpoint_every"):
                del training[stage][name]
        agreed = self.federation.model_dump(mode="json", exclude={"training"})
        parts = [agreed, training, shipped_cards(self.training.data.task.name)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def training(self) -> TrainingSettings:
        """Of every site."""
        return load_training_settings(self.federation.training)


def shipped_cards(task: str) -> dict[str, str]:
    """Checksums of the weights that ship for a task; none, where none do. All members start from the same, and judge alike."""
    try:
        folder = bundled_weights(task)
    except WeightsError:
        return {}
    names = [file.stem for file in sorted(folder.glob("*.json")) if file.stem != "calibration"]
    return {name: read_card(folder, name).sha256 for name in names}


def load_federation(path: Path, role: Literal["server", "site", "simulation"]) -> Federation:
    """Read the file of one member, with absolute paths.

    Args:
        path: TOML.
        role: whose section is needed.

    Raises:
        ConfigError: no such file, a section or field is missing or wrong, or a file that it names is absent.
        WeightsError: a common decision is asked for a task without a judge.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the federation's TOML file to --config")
    read = load_settings(Federation, str(path), path.parent)
    if getattr(read, role) is None:
        raise ConfigError(f"{path}: has no section [{role}]; see docs/federated.md")
    folder = path.parent.absolute()
    content = _absolute(read.model_dump(), folder)
    if (beside := folder / read.federation.training).is_file():
        content["federation"]["training"] = str(beside)
    for name, value in _paths(content[role]):
        if name != "output" and not value.exists():
            raise ConfigError(f"{path}: field '{role}.{name}': {value} does not exist")
    absolute = Federation.model_validate(content)
    data = absolute.training.data
    if absolute.federation.min_dice and (grid := read_card(bundled_weights(data.task.name), "segmenter").grid) != data.grid:
        raise ConfigError(f"{path}: the judge of masks is for a cube of {grid}, not {data.grid}; set min_dice = []")
    return absolute


def _absolute(content: Any, folder: Path) -> Any:
    """The same with all paths relative to ``folder`` made absolute."""
    if isinstance(content, Path):
        return folder / content
    if isinstance(content, dict):
        return {name: _absolute(value, folder) for name, value in content.items()}
    return tuple(_absolute(value, folder) for value in content) if isinstance(content, tuple) else content


def _paths(section: dict[str, Any], before: str = "") -> Iterator[tuple[str, Path]]:
    """All paths of a section with the names of their fields."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path):
                yield f"{before}{name}", one
