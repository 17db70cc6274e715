"""Writes the table of parameter counts into docs/networks.md, from the networks themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from torch import nn

from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet

NETWORKS: dict[str, nn.Module] = {
    "`McUnet`, 16 features, stem 2 (`default`)": McUnet(features=16, depth=4, stem=2),
    "`McUnet`, 16 features (`paper`)": McUnet(features=16),
    "`ReconstructionUnet`, 16 features, stem 2 (`default`)": ReconstructionUnet(features=16, depth=4, stem=2),
    "`ReconstructionUnet`, 16 features (`paper`)": ReconstructionUnet(features=16),
    "`RegressionNet`, image + mask": RegressionNet(in_channels=3),
    "`RegressionNet`, uncertainty + mask or error + mask": RegressionNet(in_channels=2),
}


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def table() -> str:
    """Markdown table of all networks."""
    rows = [f"| {name} | {parameter_count(network):,} |" for name, network in NETWORKS.items()]
    return "\n".join(["| network | parameters |", "|---|---:|", *rows])


def main(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- counts -->\n).*?(<!-- /counts -->)", re.DOTALL)
    path.write_text(marked.sub(lambda match: match[1] + table() + "\n" + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
