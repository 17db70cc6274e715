"""Settings of a training: the data and the networks. Frozen and checked; every field explains itself."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from veridice.config import LARGEST_SEED, Settings, Task, load_settings, load_task
from veridice.errors import ConfigError

RegressorInput = Literal["image", "uncertainty", "error"]
CHANNELS: dict[str, tuple[str, ...]] = {
    "image": ("flair", "t1", "segmentation"),
    "uncertainty": ("entropy", "segmentation"),
    "error": ("error", "segmentation"),
    "generated": ("generated_error", "segmentation"),
    "generated_plain": ("generated_plain_error", "segmentation"),
}
"""What each regression network sees, the segmentation last (paper, Reg-net). The last two are of an experiment alone: the error
of an image that was generated from the mask, with a discriminator and without."""
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Where training examples come from and how they are varied."""

    manifest: str = Field("", description="CSV of the cases, from the working folder; `--manifest` goes before it")
    root: str = Field("", description="folder that the manifest's files are relative to; `--data` goes before it")
    cubes: str = Field("runs/cubes", description="folder, from the working folder, where scans on the cube are kept")
    grid: int = Field(128, ge=16, description="edge of the cube that every scan is resampled to")
    target: str = Field("lesion", description="what segmenters learn to mark: a shipped task, or the TOML file of one")
    simulated_fraction: float = Field(0.6, ge=0, le=1, description="share of examples from the simulator")
    simulated_patients: int = Field(
        240, ge=0, description="training patients that are simulated, in equal parts from the donor groups"
    )
    simulated_validation: int = Field(12, ge=0, description="patients of the validation cohort beside the real ones")
    donor_groups: tuple[str, ...] = Field(
        ("training",), min_length=1, description="people (or a split) each; no simulated patient mixes two groups"
    )
    left_out: tuple[int, ...] = Field((), description="donor groups that this training must not see, counted from 0")
    jobs: int = Field(2, ge=1, description="processes that simulate")
    t1_absent: float = Field(0.2, ge=0, le=1, description="share of examples whose T1w is withheld (zeros)")
    lesion_centred: float = Field(0.5, ge=0, le=1, description="share of patches around a lesion, where there is one")
    turned_fraction: float = Field(0.3, ge=0, le=1, description="share of examples that are turned, scaled and shifted")
    thickened_fraction: float = Field(
        0.3, ge=0, le=1, description="share of real scans given thicker slices (endless training)"
    )
    mirrored_fraction: float = Field(0.5, ge=0, le=1, description="share of examples that are mirrored left to right")
    rotation: float = Field(0.2, ge=0, description="largest rotation about each axis, radians")
    scaling: float = Field(0.15, ge=0, lt=1, description="largest relative change of size along each axis")
    noise: float = Field(0.08, ge=0, description="largest standard deviation of Gaussian noise, image in [0, 1]")
    bias_chance: float = Field(0.25, ge=0, le=1, description="chance of a further bias field on each contrast")
    bias: float = Field(0.3, ge=0, description="largest coefficient of the polynomial bias field")
    gamma: float = Field(1.4, ge=1, description="contrast exponent is drawn from [1/gamma, gamma]")
    artefact: float = Field(0.05, ge=0, le=1, description="chance of each TorchIO artefact (thick slices, ghosts, spikes)")
    soft_labels: bool = Field(
        False, description="the segmenter learns what share of a voxel of the cube is lesion, not 0 or 1; off is the paper"
    )
    resample_t1: bool = Field(False, description="bring a T1w on another grid to the FLAIR by the two headers; else refused")
    rim_mm: float = Field(4.0, ge=0, description="unlabelled voxels this near to a ventricle mask are not judged")

    @property
    def task(self) -> Task:
        """The task of ``target``."""
        return load_task(self.target)

    @model_validator(mode="after")
    def _some_group_is_left(self) -> Self:
        if not set(range(len(self.donor_groups))) - set(self.left_out):
            raise ValueError("left_out names every donor group")
        return self


class StageSettings(Settings):
    """What the training of each network shares."""

    steps: int = Field(1000, ge=1, description="optimiser steps at most")
    batch_size: int = Field(1, ge=1)
    crop: int = Field(96, ge=0, description="edge of the training patch in voxels; 0 takes the whole grid")
    learning_rate: float = Field(1e-3, gt=0, description="peak of a one-cycle schedule for Adam")
    validate_every: int = Field(200, ge=1, description="steps between two validations")
    checkpoint_every: int = Field(50, ge=1, description="steps between two checkpoints, what an interruption may cost")
    patience: int = Field(10, ge=1, description="validations without a better value until training stops early")
    workers: int = Field(1, ge=0, description="processes that prepare examples beside the training")
    devices: int = Field(1, ge=1, description="GPUs (or CPU processes) that share each step, each with its own batch")

    @property
    def examples(self) -> int:
        """Training examples behind all steps."""
        return self.steps * self.batch_size * self.devices


class SegmenterSettings(StageSettings):
    features: int = Field(8, ge=1, description="channels at the finest level")
    depth: int = Field(5, ge=3, description="levels of the U-net")
    stem: int = Field(1, ge=1, le=4, description="edge of the blocks rearranged from space to depth; 1 is the paper")
    dropout_rate: float = Field(0.2, ge=0, lt=1)
    dropout_kind: Literal["channel", "element"] = "channel"
    cross_entropy: float = Field(1.0, ge=0, description="weight beside the Dice loss; 0 is the paper")
    batch_dice: bool = Field(False, description="one Dice over the patches of a step, not their mean; off is the paper")
    keep_at: tuple[Share, ...] = Field(
        (0.15, 0.4), description="parts of the steps at which weights are kept, as poorer segmenters for the regressors"
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the segmenter's class."""
        return {name: getattr(self, name) for name in ("features", "depth", "stem", "dropout_rate", "dropout_kind")}


class ReconstructorSettings(StageSettings):
    features: int = Field(8, ge=1, description="channels at the finest level")
    depth: int = Field(5, ge=3, description="levels of the U-net")
    stem: int = Field(1, ge=1, le=4, description="edge of the blocks rearranged from space to depth; 1 is the paper")
    residual: bool = Field(False, description="add the output to the input, so that only the hole is learnt")
    ssim_form: Literal["windowed", "printed"] = "windowed"
    hole_weight: float = Field(0.0, ge=0, description="weight of the loss in the hole alone; 0 is the paper")
    ssim_window: int = Field(7, ge=0, description="edge of the SSIM window; 0 is one window over the whole volume")

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the reconstructor's class."""
        return {name: getattr(self, name) for name in ("features", "depth", "stem", "residual")}


class RegressorSettings(StageSettings):
    widths: tuple[Positive, ...] = Field((16, 32, 64, 128), min_length=1)
    pool: int = Field(1, ge=1, description="maps are averaged over blocks of this edge first; 1 is the paper")
    inputs: tuple[RegressorInput, ...] = Field(("image", "uncertainty", "error"), min_length=1)
    huber_delta: float = Field(0.1, gt=0, description="where Huber's loss turns from squared to linear")
    passes: int = Field(8, ge=2, description="stochastic passes behind each training map")
    train_cases: int = Field(160, ge=1, description="segmented scans to learn from")
    validation_cases: int = Field(40, ge=1, description="segmented scans of validation patients")
    binary_fraction: float = Field(0.3, ge=0, le=1, description="share of examples that show a binary, damaged mask")


class EndlessSettings(Settings):
    """A training without end, on patients that are made while it runs; see :mod:`veridice.training.endless`."""

    task: Literal["segmenter", "critic", "anatomy", "reconstructor"] = Field("segmenter", description="what is learnt")
    segmenter: str = Field("src/veridice/weights", description="critic: folder of the segmenter that it begins as and is shown")
    blind_fraction: float = Field(0.3, ge=0, le=1, description="critic: share of examples without that probability")
    heads: str = Field("runs/heads", description="folder of scripts/make_heads.py, from the working folder")
    real_fraction: float = Field(0.0, ge=0, le=1, description="share of new examples that are varied real scans")
    planted_fraction: float = Field(0.5, ge=0, le=1, description="share of real scans that get lesions of another person")
    pool: int = Field(24, ge=1, description="examples at hand; a new one takes the place of the oldest")
    new_every: int = Field(2, ge=1, description="steps between two new examples")
    whole_cubes: float = Field(0.5, ge=0, le=1, description="share of steps on a whole cube; the others take patches")
    crop: int = Field(64, ge=16, description="edge of the patches")
    patches: int = Field(8, ge=1, description="patches of a step, each of another example of the pool")
    learning_rate: float = Field(1e-3, gt=0, description="constant, after a warm-up")
    warm_up: int = Field(200, ge=1, description="steps from 0 to the learning rate, each time that the training is begun")
    averaging: float = Field(0.998, ge=0, lt=1, description="decay a step of the averaged weights, which are those that count")
    validate_every: int = Field(500, ge=1, description="steps between two validations")
    save_every: int = Field(100, ge=1, description="steps between two resume points")


class PredictorSettings(Settings):
    """The prediction of any mask's Dice, from evidence; see :mod:`veridice.quality.predictor`."""

    patients: int = Field(180, ge=0, description="simulated patients to learn from, in equal parts from the donor groups")
    masks: int = Field(4, ge=1, description="damaged and classical masks of each scan beside our own")
    graded_masks: int = Field(5, ge=0, description="masks of each scan whose quality is drawn evenly")
    validation_patients: int = Field(40, ge=0, description="of the validation cohort")
    people: int = Field(
        0, ge=0, description="simulated people to learn from on whom no network trained, judged by the final segmenter"
    )
    looks: int = Field(
        60, ge=0, description="simulated validation and training patients by which known scans are told from odd ones"
    )
    calibration_patients: int = Field(320, ge=0, description="simulated from the calibration donors")
    calibration_donors: str = Field(
        "validation", description="a split or people on whom no network trained; reserved ones make test cohorts too"
    )
    passes: int = Field(20, ge=2, description="stochastic passes, as many as scans are judged with")
    trees: int = Field(0, ge=0, description="of each forest; 0: as many as ship for lesions")
    jobs: int = Field(1, ge=1, description="processes that judge, with one thread each")


class TrainingSettings(Settings):
    """One training configuration: the data and the three networks."""

    name: str = Field(description="name that goes into the weight cards")
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    data: DataSettings = DataSettings()
    segmenter: SegmenterSettings = SegmenterSettings()
    reconstructor: ReconstructorSettings = ReconstructorSettings()
    regressor: RegressorSettings = RegressorSettings()
    predictor: PredictorSettings = PredictorSettings()
    endless: EndlessSettings = EndlessSettings()

    def arguments_of(self, network: str) -> dict[str, Any]:
        """Arguments of the class of a network, named as its weights are; the segmenter has as many maps as the target parts."""
        if network == "segmenter":
            count = self.data.task.count
            return self.segmenter.arguments | ({"classes": count} if count > 1 else {})
        if network == "critic":
            return self.segmenter.arguments
        if network == "reconstructor":
            return self.reconstructor.arguments
        stage, pair = self.regressor, network.removeprefix("regressor-")
        return {"in_channels": len(CHANNELS[pair]), "widths": list(stage.widths), "pool": stage.pool}

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        for name, stage in (("segmenter", self.segmenter), ("reconstructor", self.reconstructor)):
            if stage.crop > self.data.grid:
                raise ValueError(f"{name}: crop {stage.crop} is larger than the grid {self.data.grid}; 0 takes the whole")
            edge = stage.crop or self.data.grid
            if edge < 2**stage.depth:
                raise ValueError(f"{name}: depth {stage.depth} needs an edge of at least {2**stage.depth} voxels, not {edge}")
        return self


def without_group(settings: TrainingSettings, group: int) -> TrainingSettings:
    """The same training without one donor group.

    Raises:
        ConfigError: there is no such group, or nobody would be left.
    """
    groups = settings.data.donor_groups
    if group >= len(groups) or len(groups) < 2:
        raise ConfigError(f"donor group {group} cannot be left out: the configuration has {len(groups)} (counted from 0)")
    data = settings.data.model_copy(update={"left_out": (group,)})
    return settings.model_copy(update={"data": data})


def with_steps(settings: TrainingSettings, network: str, steps: int) -> TrainingSettings:
    """The same training with at most so many optimiser steps for one network."""
    return _with_stage(settings, network, steps=steps)


def for_round(settings: TrainingSettings, network: str, steps: int, learning_rate: float, seed: int) -> TrainingSettings:
    """The same training for the steps of one round of a federation, with a validation at its end alone."""
    changes = {"steps": steps, "learning_rate": learning_rate, "validate_every": steps}
    kept = {"keep_at": ()} if network == "segmenter" else {}
    return _with_stage(settings, network, **changes, **kept).model_copy(update={"seed": seed})


def on_whole_cubes(settings: TrainingSettings, network: str) -> TrainingSettings:
    """The same training on whole cubes, one a step, at half the learning rate: how a training on patches ends.

    Instance normalisation sees other statistics in a patch than in the cube that prediction gives it.
    """
    rate = getattr(settings, network).learning_rate
    return _with_stage(settings, network, crop=0, batch_size=1, learning_rate=rate / 2)


def _with_stage(settings: TrainingSettings, network: str, **changes: object) -> TrainingSettings:
    return settings.model_copy(update={network: getattr(settings, network).model_copy(update=changes)})


RESUMABLE = frozenset({"manifest", "root", "cubes", "jobs", "steps", "checkpoint_every", "patience", "workers"})
"""Fields that may change between the beginning of a training and its going on."""


def differing_fields(before: TrainingSettings, after: TrainingSettings, network: str) -> list[str]:
    """Fields in which two trainings of one network differ, as ``section.field``, those left out that may change."""
    pairs = [("seed", before.seed, after.seed)]
    for section in ("data", network):
        first, second = (getattr(settings, section).model_dump() for settings in (before, after))
        pairs += [(f"{section}.{name}", first[name], second[name]) for name in first if name not in RESUMABLE]
    return [name for name, first, second in pairs if first != second]


def load_training_settings(name_or_path: str) -> TrainingSettings:
    """Read a TOML configuration: a file, or the name of one that ships with the package (``default``, ``paper``).

    Raises:
        ConfigError: no such file or name, not TOML, or a field that is unknown or out of range.
    """
    return load_settings(TrainingSettings, name_or_path, resources.files("veridice") / "configs")
