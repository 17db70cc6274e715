"""Averages the weights of a segmenter and of the one that its training began from, as WiSE-FT does (arXiv:2109.01903).

    python scripts/average_segmenters.py resume/real resume/base --share 0.6 -o FOLDER

``--share`` is that of the first. FOLDER gets the segmenter and its card; scripts/release_weights makes what depends on it.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from veridice.inference.weights import load_network, save_network
from veridice.training.provenance import source_commit
from veridice.training.weight_average import averaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    (network, card), (other, other_card) = (load_network(folder, "segmenter") for folder in (options.first, options.second))
    network.load_state_dict(averaged(other.state_dict(), network.state_dict(), options.share))
    fields = {name: value for name, value in card.model_dump(mode="json").items() if name != "sha256"}
    people = {split: sorted({*card.people.get(split, []), *other_card.people.get(split, [])}) for split in card.people}
    data = f"mean of two weights; {options.share:.0%}: {card.data} {1 - options.share:.0%}, where it began: {other_card.data}"
    made = {"data": data, "people": people, "started_from": other_card.sha256, "commit": source_commit(), "metrics": {}}
    made["created"] = datetime.now(UTC).strftime("%Y-%m-%d")
    saved = save_network(options.output, network, {**fields, **made})
    sys.stdout.write(f"{saved.data}\n")


if __name__ == "__main__":
    main()
