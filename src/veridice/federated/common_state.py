"""Where a federation stands at the server: common weights of the last round, metrics, what happened to sites. No Flower."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from veridice.errors import ConfigError, InputError
from veridice.federated.updates import Arrays
from veridice.io.atomic import append_line, make_folder, replaced, write_json, write_text
from veridice.io.weight_cards import read_card

ROUNDS, EVENTS, SITES, AGREED = "rounds.csv", "events.txt", "sites.json", "agreed.txt"


def claim(folder: Path, fingerprint: str) -> None:
    """Make the folder of a member; refuse one where something else was agreed.

    Raises:
        ConfigError: it holds another federation.
    """
    make_folder(folder)
    stored = folder / AGREED
    if stored.exists() and stored.read_text(encoding="utf-8").strip() != fingerprint:
        raise ConfigError(f"{folder}: another federation was begun there; give another output, or delete this one")
    write_text(stored, f"{fingerprint}\n")


@dataclass(frozen=True)
class CommonState:
    """The folder of a server.

    Args:
        folder: made when absent.
    """

    folder: Path

    def claim(self, fingerprint: str) -> None:
        """Make the folder; refuse one where something else was agreed.

        Raises:
            ConfigError: it holds another federation.
        """
        claim(self.folder, fingerprint)

    def rounds_done(self, network: str) -> int:
        """Rounds whose common weights are there."""
        return max((int(file.stem.split("-")[1]) for file in self._files(network)), default=0)

    def weights(self, network: str) -> dict[str, np.ndarray[Any, Any]]:
        """Common weights after the last round.

        Raises:
            InputError: the file is damaged.
        """
        file = self.folder / network / f"round-{self.rounds_done(network):04d}.safetensors"
        try:
            return dict(load_file(file))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: damaged; delete it to go on from the round before") from error

    def keep(self, network: str, number: int, arrays: Arrays) -> None:
        """Keep the common weights after a round, and those of the round before."""
        make_folder(self.folder / network)
        with replaced(self.folder / network / f"round-{number:04d}.safetensors") as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
        for old in self._files(network)[:-2]:
            old.unlink()

    def note(self, network: str, number: int, by_site: Mapping[str, Mapping[str, float]]) -> None:
        """Keep the metrics that sites gave for the common weights after a round; nothing, where none gave any."""
        if not by_site:
            return
        rows = self._rows()
        if not rows.empty:
            rows = rows[(rows["network"] != network) | (rows["round"] < number)]
        new = pd.DataFrame([{"network": network, "round": number, "site": site, **said} for site, said in by_site.items()])
        write_text(self.folder / ROUNDS, pd.concat([rows, new] if len(rows) else [new]).to_csv(index=False))

    def metrics(self, network: str) -> pd.DataFrame:
        """Rows of network, round and site with the metrics of one network."""
        rows = self._rows()
        return rows[rows["network"] == network].reset_index(drop=True)

    def _rows(self) -> pd.DataFrame:
        file = self.folder / ROUNDS
        return pd.read_csv(file) if file.exists() else pd.DataFrame({"network": [], "round": [], "site": []})

    def tell(self, line: str) -> None:
        """Note what happened, for the person at the server."""
        append_line(self.folder / EVENTS, line)

    def name_sites(self, sites: Mapping[int, Mapping[str, str]]) -> None:
        """Keep ``name`` and ``key`` of each site that is let in, by its number at the server."""
        write_json(self.folder / SITES, {str(number): dict(site) for number, site in sites.items()})

    def sites(self) -> dict[int, dict[str, str]]:
        """What :meth:`name_sites` kept."""
        file = self.folder / SITES
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {int(number): site for number, site in stored.items()}

    def site_name(self, number: int) -> str:
        """Name of a site by its number at the server."""
        return self.sites().get(number, {}).get("name", f"site {number}")

    def finished(self, network: str) -> bool:
        """Whether the final weights of a network are there."""
        return (self.folder / "weights" / f"{network}.json").exists() and bool(read_card(self.folder / "weights", network))

    def _files(self, network: str) -> list[Path]:
        return sorted((self.folder / network).glob("round-*.safetensors"))
