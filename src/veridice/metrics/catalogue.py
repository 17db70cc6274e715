"""Each number that is stored, once: what it is called, what it means, its unit, how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A column of the study's table, a score of a scan, or both.

    Args:
        meaning: for the dictionary beside the table, and for the page of a scan.
        label: what pages call it; empty: after its name.
        unit: as BIDS writes it; empty: none, or said in the meaning.
        fraction: its axis always runs from 0 to 1.
        skewed: drawn on a scale that spreads the small values and still has a place for zero.
    """

    meaning: str
    label: str = ""
    unit: str = ""
    fraction: bool = False
    skewed: bool = False


def _volume(meaning: str, label: str, skewed: bool = True) -> Measure:
    return Measure(meaning, label, unit="mL", skewed=skewed)


PLACE_NAMES = {
    "periventricular": "Periventricular",
    "juxtacortical": "Juxtacortical or cortical",
    "infratentorial": "Infratentorial",
    "deep_white": "Deep white matter",
}
"""Places of lesions in words (:mod:`veridice.quality.lesion_places`)."""
MEASURES = {
    "participant_id": Measure("Participant"),
    "session_id": Measure("Session"),
    "scan": Measure("Beginning of the scan's file names"),
    "rank": Measure("Place in the worklist: 1 is the scan that is most worth a look"),
    "status": Measure("done; failed: it could not be judged; missing: it was not tried yet"),
    "reason": Measure("Why there is no judgement"),
    "verdict": Measure("accept, review or reject"),
    "study_verdict": Measure(
        "accept: accepted together with others of the study, so that few of the accepted are bad; look: a person should look"
    ),
    "predicted_spread": Measure("Expected size of the error of the predicted Dice"),
    "p_bad": Measure("p-value of the test that the true Dice is below the wanted one; none where no mask could be accepted"),
    "p_gross": Measure("The same for a Dice that is lower by 0.1"),
    "p_good": Measure("p-value of the test that the true Dice is at or above the wanted one"),
    "predicted_dice": Measure("Dice that the mask is expected to have", "Predicted Dice", fraction=True),
    "quality_class": Measure("poor, fair or good: the likeliest class of quality; none where it is not told"),
    "interval_low": Measure("Lower end of the interval of the true Dice"),
    "interval_high": Measure("Upper end"),
    "coverage": Measure("Share of true values in such intervals, for scans like the calibration's"),
    "failure_probability": Measure("Chance that the true Dice is below the wanted one", "Chance of a bad mask", fraction=True),
    "expected_gain": Measure(
        "Expected shortfall of the Dice below the wanted one, which a look would make good", "Expected gain in Dice"
    ),
    "known": Measure("Whether the models know such scans"),
    "rating": Measure("What a person said of the mask in *_rating.json"),
    "judged_mask": Measure("own, or the file name of the mask that was given"),
    "lesion_volume_ml": _volume("Volume of the judged mask", "Lesion volume, ml"),
    "own_volume_ml": _volume("Volume of the mask that veridice draws", "Lesion volume of veridice's own mask, ml"),
    "brain_volume_ml": _volume("Volume of the brain", "Brain volume, ml", skewed=False),
    "looks_missed_ml": _volume("Volume of the places that look like missed lesions", "Looks missed, ml"),
    "lesion_count": Measure("Connected parts of the judged mask", "Lesions", skewed=True),
    **{
        f"{place}_{what}": measure
        for place, name in PLACE_NAMES.items()
        for what, measure in (
            ("count", Measure(f"Lesions of the judged mask that are {name.lower()}", f"{name} lesions", skewed=True)),
            ("volume_ml", _volume(f"Their volume: {name.lower()}", f"{name} lesions, ml")),
        )
    },
    "pairwise_dice": Measure(
        "Mean Dice over all pairs of stochastic passes; 1: they all draw the same mask", "Agreement among passes", fraction=True
    ),
    "agreement_mean": Measure(
        "Mean Dice of the mask with the passes, in the FLAIR's grid", "Agreement of the mask with the passes", fraction=True
    ),
    "sample_agreement": Measure("The same on the cube", "Agreement of the mask with the passes, cube", fraction=True),
    "expected_dice": Measure("Dice expected from the lesion probabilities alone", fraction=True),
    "critic_dice": Measure("Dice expected by the critic, which looks at scan and mask", "Expected Dice, critic", fraction=True),
    "critic_false_ml": _volume("Volume that the critic expects to be marked wrongly", "Marked wrongly, ml"),
    "critic_missed_ml": _volume("Volume that the critic expects to be missed", "Missed, ml"),
    "predicted_dice_image": Measure(
        "Dice by the regression network on FLAIR, T1w and mask, not clipped", "Predicted Dice, image + mask"
    ),
    "predicted_dice_uncertainty": Measure("The same on entropy and mask", "Predicted Dice, uncertainty + mask"),
    "predicted_dice_error": Measure("The same on reconstruction error and mask", "Predicted Dice, error + mask"),
    "mean_foreground_entropy": Measure(
        "Mean entropy in the mask, bits; 0: certain, 1: a coin toss in every voxel", "Mean entropy in the mask"
    ),
    "non_boundary_entropy": Measure(
        "Mean entropy away from borders, which are doubtful whatever the quality, bits", "Mean entropy away from borders"
    ),
    "patch_maximum_entropy": Measure(
        "Mean entropy of the most doubtful patch of 10 voxels' edge, bits", "Entropy of the most doubtful patch"
    ),
    "structural_uncertainty": Measure(
        "1 - mean overlap (IoU) of the passes with their mean; 0: they draw the same", "Disagreement of passes and their mean"
    ),
    "lesion_uncertainty": Measure("The same lesion by lesion, mean", "Disagreement lesion by lesion"),
    "entropy_sum": Measure(
        "Voxel-wise sum of the entropy on the cube, bits; low sums often mean that little was found", "Entropy, voxel-wise sum"
    ),
    "error_sum": Measure(
        "Voxel-wise sum of the signed reconstruction error, FLAIR in 0 to 1", "Reconstruction error, voxel-wise sum"
    ),
    "absolute_error_sum": Measure("Voxel-wise sum of its absolute value", "Absolute error, voxel-wise sum"),
    "variance_sum": Measure(
        "Voxel-wise sum of the variance, in which the passes differ", "Predictive variance, voxel-wise sum"
    ),
    "mutual_information_sum": Measure(
        "Voxel-wise sum of the mutual information, bits: doubt of the network as opposed to blur in the image",
        "Mutual information, voxel-wise sum",
    ),
    "soft_dice_confidence": Measure(
        "Dice expected from our mean probability alone, of our own mask", "Soft Dice confidence", fraction=True
    ),
    "shadow_size": Measure(
        "Voxels of the cube in the shadow of our mean probability: neither in nor out", "Size of the shadow"
    ),
    "shadow_share": Measure("The shadow in sizes of the core, which is surely in", "Shadow against core"),
    "passes_volume_ml": _volume("Mean volume of the stochastic passes", "Lesion volume of the passes, ml"),
    "passes_volume_deviation_ml": _volume(
        "Standard deviation of the volume of the passes: how far they do not know how much there is", "Its deviation, ml"
    ),
    "unfamiliarity": Measure("Distance from the scans that the models know; 1 is the most that is tolerated"),
    "site": Measure("From participants.tsv"),
    "scanner": Measure("Maker, model and field strength, from the sidecar"),
    "acquired": Measure("Time of acquisition, from *_scans.tsv or *_sessions.tsv"),
    "warnings": Measure("What a reader should know"),
    "report": Measure("Page of the scan"),
    "thumbnail": Measure("Picture of the scan with its mask"),
}
ON_PAGE_ALONE = (
    "sample_agreement",
    "patch_maximum_entropy",
    "variance_sum",
    "mutual_information_sum",
    "soft_dice_confidence",
    "shadow_size",
    "shadow_share",
)
STUDY_COLUMNS = tuple(name for name in MEASURES if name not in ON_PAGE_ALONE)
"""Of ``veridice.tsv``, in this order."""
PAGE_SCORES = (
    "predicted_dice_image",
    "predicted_dice_uncertainty",
    "predicted_dice_error",
    "pairwise_dice",
    "agreement_mean",
    "sample_agreement",
    "mean_foreground_entropy",
    "non_boundary_entropy",
    "patch_maximum_entropy",
    "structural_uncertainty",
    "lesion_uncertainty",
    "entropy_sum",
    "error_sum",
    "absolute_error_sum",
    "variance_sum",
    "mutual_information_sum",
    "soft_dice_confidence",
    "shadow_size",
    "shadow_share",
    "lesion_count",
)
"""Scores on the page of a scan, in this order."""


def label(name: str) -> str:
    """What pages call a number; one that is not in the catalogue is called after its name."""
    known = MEASURES.get(name)
    return (known.label if known else "") or name.replace("_", " ").strip().capitalize() or name


LESION_COLUMNS = {
    "number": "Value in the map *_desc-lesions_dseg",
    "place": "mask: part of the judged mask; missed: drawn by veridice alone, looks like a missed lesion",
    "confidence": "Chance that it is a lesion, by a model of the other columns (docs/any-mask.md)",
    "region": "periventricular, juxtacortical (or cortical), infratentorial or deep_white (docs/places.md)",
    "volume_ml": "Volume in millilitres",
    "x": "Centre of mass, mm, RAS+ of the FLAIR's affine",
    "y": "As x",
    "z": "As x",
    "mean_probability": "Mean lesion probability over its voxels",
    "highest_probability": "Highest lesion probability of its voxels",
    "share_of_passes": "Share of the stochastic passes in which any of its voxels is a lesion",
    "brightness": "Mean FLAIR minus the brain's median, in interquartile ranges of the brain",
}
"""Of ``*_lesions.tsv``, with what they mean."""
CRITIC_COLUMN = {"critic_chance": "Mean chance of a lesion over its voxels, by the critic"}
"""The same, where the weights have a critic."""
