"""Does a ranking loss help the predictor? On masks of training, each predicted by fits without its person.

python benchmarks/ranking_loss.py [--results results/judge]

The forests against a small network on the same scores, with the squared loss alone and with a ranking loss beside it (pairs of
masks of one scan, as in SegAE, arXiv:2601.14406), and against their mean; and what ships, the mean of forests and networks of
scikit-learn's with the squared loss. For each: mean absolute error, rank correlation over all masks and within scans, and at
needed Dices of 0.70 and 0.75 the share of the good masks that lie above all but 5 % of the bad ones by the predicted Dice.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.model_selection import GroupKFold
from torch import nn

from veridice.quality.predictor import BASE, evidence_in, fit_predictor, from_odds, log_odds
from veridice.training.assessed_masks import masks_to_learn

FOLDS, BETTER, STEPS, NETWORKS = 5, 0.03, 300, 3
SMALLEST_GAP = 0.02
"""Pairs whose Dices differ by less are not ranked."""


def network_prediction(train: pd.DataFrame, rest: pd.DataFrame, ranking: float) -> np.ndarray:
    """Mean of some networks that correct the odds of the expected Dice, as the forest does."""
    names = list(evidence_in(train))
    middle = train[names].median()
    values, others = (part[names].fillna(middle).to_numpy(np.float64) for part in (train, rest))
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    inputs, tests = (torch.tensor(((part - mean) / scale).clip(-4, 4), dtype=torch.float32) for part in (values, others))
    bases = [torch.tensor(log_odds(part[BASE].to_numpy()), dtype=torch.float32) for part in (train, rest)]
    dice = torch.tensor(train["dice"].to_numpy(), dtype=torch.float32)
    wanted = torch.tensor(log_odds(train["dice"].to_numpy()), dtype=torch.float32)
    first, second = pairs(train)
    order = torch.sign(dice[first] - dice[second])
    found = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(len(names), 48), nn.SiLU(), nn.Dropout(0.2), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1)
        )
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
        for _ in range(STEPS):
            odds = bases[0] + network(inputs)[:, 0]
            loss = nn.functional.huber_loss(odds, wanted)
            if ranking:
                loss = loss + ranking * nn.functional.softplus(-order * (odds[first] - odds[second])).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            found.append(from_odds((bases[1] + network(tests)[:, 0]).numpy().astype(np.float64)))
    return np.mean(found, axis=0)


def pairs(masks: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the masks of all pairs of one scan whose Dices differ."""
    dice = masks["dice"].to_numpy()
    both = [np.array(np.triu_indices(len(rows), 1)) for rows in masks.groupby("scan").indices.values()]
    ends = [rows[pair] for rows, pair in zip(masks.groupby("scan").indices.values(), both, strict=True)]
    first, second = np.concatenate(ends, axis=1)
    apart = np.abs(dice[first] - dice[second]) >= SMALLEST_GAP
    return first[apart], second[apart]


def describe(name: str, masks: pd.DataFrame, predicted: np.ndarray) -> str:
    dice = masks["dice"].to_numpy()
    within = [
        stats.spearmanr(predicted[rows], dice[rows]).statistic
        for rows in masks.groupby("scan").indices.values()
        if len(rows) > 3
    ]
    powers = []
    for needed in (0.7, 0.75):
        limit = np.quantile(predicted[dice < needed], 0.95)
        powers.append(f"{needed:.2f}: {np.mean(predicted[dice >= needed + BETTER] > limit):.2f}")
    parts = [f"MAE {np.abs(predicted - dice).mean():.4f}", f"Spearman {stats.spearmanr(predicted, dice).statistic:.3f}"]
    parts += [f"within scans {np.nanmean(within):.3f}", f"power {', '.join(powers)}"]
    return f"{name:34s} {'  '.join(parts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    masks = masks_to_learn(parser.parse_args().results)
    rankings = (0.0, 0.3, 1.0)
    found = {
        name: np.zeros(len(masks))
        for name in ("what ships", "forests", *(f"network, ranking {weight:g}" for weight in rankings))
    }
    for train, rest in GroupKFold(FOLDS, shuffle=True, random_state=0).split(masks, groups=masks["person"]):
        known, others = masks.iloc[train].reset_index(drop=True), masks.iloc[rest].reset_index(drop=True)
        fitted = fit_predictor(known)
        found["what ships"][rest] = fitted.predict(others)[0]
        found["forests"][rest] = replace(fitted, networks=None).predict(others)[0]
        for weight in rankings:
            found[f"network, ranking {weight:g}"][rest] = network_prediction(known, others, weight)
    for weight in rankings:
        found[f"mean of forests and ranking {weight:g}"] = (found["forests"] + found[f"network, ranking {weight:g}"]) / 2
    title = f"{len(masks)} masks of {masks['person'].nunique()} people of training, predicted without them"
    sys.stdout.write("\n".join([title, *(describe(name, masks, values) for name, values in found.items())]) + "\n")


if __name__ == "__main__":
    main()
