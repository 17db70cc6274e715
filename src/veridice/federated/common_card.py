"""What a federation begins with, and the card of what it ends with. No Flower."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from veridice._version import __version__
from veridice.errors import ConfigError
from veridice.federated.common_networks import arrays_of, build_network
from veridice.federated.common_state import CommonState
from veridice.federated.federation import BUNDLED, Federation
from veridice.inference.weights import load_network
from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.training.provenance import source_commit


def initial_arrays(federation: Federation, network: str) -> dict[str, np.ndarray[Any, Any]]:
    """Common weights before the first round.

    Raises:
        ConfigError: the weights that ship are of another layout.
        WeightsError: none of this network ship.
    """
    fresh = build_network(network, federation.training)
    if federation.federation.start == BUNDLED:
        shipped, _ = load_network(bundled_weights(federation.training.data.task.name), network)
        try:
            fresh.load_state_dict(shipped.state_dict())
        except RuntimeError as error:
            raise ConfigError(f"the {network} that ships has another layout than the configuration; leave start out") from error
    return arrays_of(fresh)


def card_of(federation: Federation, state: CommonState, network: str, epsilon: float | None) -> dict[str, Any]:
    """The weight card; of the sites' people it says nothing, since their names stay there.

    Args:
        federation: of the server.
        state: of its folder.
        network: that is finished.
        epsilon: of all that came out so far, this network with it; None: no privacy was promised.
    """
    agreement, training = federation.federation, federation.training
    rows = state.metrics(network)
    last = rows[rows["round"] == rows["round"].max()].dropna(axis="columns") if len(rows) else rows
    metrics = last.drop(columns=["network", "round", "site"], errors="ignore").mean()
    sites = f"{last['site'].nunique()} sites" if len(last) else "its sites"
    private = ""
    if agreement.privacy and epsilon is not None:
        promised = f"ε {epsilon:.3g} at δ {agreement.privacy.delta:g}"
        private = f"; differential privacy of a whole site: {promised}, earlier networks included"
    begun = read_card(bundled_weights(training.data.task.name), network) if agreement.start == BUNDLED else None
    described = WeightCard(
        name=network,
        kind=network.split("-")[0],
        arguments=training.arguments_of(network),
        task=training.data.task.name,
        grid=training.data.grid,
        sha256="",
        configuration=training.name,
        data=f"federation {agreement.name}: {agreement.rounds} rounds of {agreement.steps} steps at {sites}, "
        f"{'FedProx' if agreement.proximal else 'FedAvg'}{private}; metrics are means over the sites' validation people",
        people=begun.people if begun else {},
        started_from=begun.sha256 if begun else "",
        steps=agreement.rounds * agreement.steps,
        best_step=agreement.rounds * agreement.steps,
        seed=training.seed,
        commit=source_commit(),
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        metrics={str(name): float(value) for name, value in metrics.items()},
        version=__version__,
    )
    return described.model_dump(exclude={"sha256"})
