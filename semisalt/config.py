"""The typed configuration: every key with its type, range and default. What of it stands in a YAML: `recipe.py`.

`auto` values are settled once, before a run starts, and the run keeps the settled ones.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Which tiles are used, and how."""

    folds: int = Field(5, ge=2, description="Cross-validation folds, stratified by coverage and depth")
    groups: Literal["none", "mosaic"] = Field(
        "none", description="mosaic: the tiles of a mosaic share a fold, so that no fold is scored beside its labels"
    )
    holdout: float = Field(
        0.0, ge=0, lt=1, description="Share of the labelled tiles that is kept out of every fold, for a last judgement"
    )
    label_fraction: float = Field(1.0, gt=0, le=1, description="Share of the labels that training may use")
    unlabelled_limit: int | None = Field(None, ge=1, description="Use only so many unlabelled tiles")
    workers: int = Field(1, ge=0, description="Processes that augment; the samples do not depend on it")


class ChannelsConfig(_Section):
    """What the network sees of a tile."""

    depth: Literal["auto"] | bool = Field("auto", description="Relative depth as a channel; auto: if given")
    ramp: Literal["none", "rows", "image_rows"] = Field(
        "rows", description="CoordConv: a ramp down the rows, or image × ramp"
    )


class AugmentConfig(_Section):
    """Ranges of the random views; probabilities are per tile. Never a vertical flip: gravity points down."""

    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip")
    affine: float = Field(0.7, ge=0, le=1, description="Probability of scale, rotation and shift together")
    scale: float = Field(0.1, ge=0, lt=1, description="Scale in 1 ± this")
    rotate: float = Field(8.0, ge=0, le=45, description="Degrees either way")
    shift: float = Field(0.08, ge=0, lt=1, description="Share of the tile's side either way")
    light: float = Field(0.5, ge=0, le=1, description="Probability of brightness and contrast")
    brightness: float = Field(0.2, ge=0, lt=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    blur: float = Field(0.1, ge=0, le=1, description="Probability of a Gaussian blur of 3 px")
    gamma: float = Field(0.0, ge=0, le=1, description="Probability of a gamma of 0.6 to 1.6")
    noise: float = Field(0.0, ge=0, le=1, description="Probability of white noise, σ up to a tenth of the range")
    erase: float = Field(0.0, ge=0, le=1, description="Probability of one to three grey boxes; the mask keeps its salt")


class ModelConfig(_Section):
    """The network; see semisalt.models.build_unet."""

    encoder: str = "tu-tf_efficientnet_lite0"
    weights: str = Field("bundled", description="imagenet, bundled, none, or the path of a file")
    stem: Literal["stock", "no_pool", "stride1"] = "stock"
    decoder_channels: tuple[int, ...] = (128, 64, 48, 32, 16)
    scse_encoder: bool = False
    scse_decoder: bool = True
    hypercolumn: bool = True


class LossConfig(_Section):
    """Weights of the named losses before and from the switch epoch."""

    start: dict[str, float] = {"bce": 1.0}
    finish: dict[str, float] = {"bce": 0.1, "lovasz_hinge": 0.9}
    switch_epoch: int = Field(80, ge=0, description="First epoch (from 0) of the finishing mix")

    @field_validator("start", "finish")
    @classmethod
    def _known_losses(cls, weights: dict[str, float]) -> dict[str, float]:
        from semisalt.losses.mix import check_names  # torch: a wrong name of a run is reported without waiting for it

        check_names(weights)
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"the weight of {name} is negative: {weight}")
        if not any(weights.values()):
            raise ValueError("no loss has a weight above 0")
        return weights

    def at(self, epoch: int) -> Mapping[str, float]:
        """The weights that hold in `epoch` (from 0)."""
        return self.finish if epoch >= self.switch_epoch else self.start


class OptimiserConfig(_Section):
    name: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of the gradient")


class CyclicConfig(_Section):
    """CyclicLR 'triangular2' (Smith 2017): the peak halves with every cycle of 2 · step_size steps."""

    kind: Literal["triangular2"] = "triangular2"
    base: float = Field(1e-4, gt=0)
    peak: float = Field(3e-4, gt=0)
    step_size: int = Field(1500, ge=1, description="Steps from base to peak")

    @model_validator(mode="after")
    def _rises(self) -> "CyclicConfig":
        if self.base > self.peak:
            raise ValueError(f"base {self.base} is above peak {self.peak}")
        return self


class CosineConfig(_Section):
    """Cosine cycles with warm restarts (Loshchilov & Hutter 2017), a linear warm-up before the first."""

    kind: Literal["cosine"] = "cosine"
    peak: float = Field(1e-3, gt=0)
    floor: float = Field(1e-6, ge=0)
    cycles: tuple[PositiveInt, ...] = Field((), description="Epochs of each cycle; empty: one cycle over all epochs")
    warmup_epochs: float = Field(1.0, ge=0)
    restart: float = Field(1.0, gt=0, le=1, description="Each further cycle starts at this share of the peak before it")

    @model_validator(mode="after")
    def _falls(self) -> "CosineConfig":
        if self.floor > self.peak:
            raise ValueError(f"floor {self.floor} is above peak {self.peak}")
        return self


class SnapshotConfig(_Section):
    """Which weights of a training are kept, and how they vote."""

    keep: int = Field(10, ge=1)
    select: Literal["best", "last"] = Field(
        "last", description="best: each new best by validation score; last: the last epochs, chosen blindly"
    )
    decay: float = Field(0.8, gt=0, le=1, description="Weight of each older snapshot relative to the next")
    combine: Literal["predictions", "weights"] = Field(
        "predictions", description="Average the predictions, or the weights (one pass instead of `keep`)"
    )


class TrainingConfig(_Section):
    epochs: int = Field(420, ge=1)
    epoch_steps: int | None = Field(
        None, ge=1, description="Steps of an epoch; null: as many as show every labelled tile once"
    )
    batch: int = Field(20, ge=2, description="Labelled tiles a step, over all processes together")
    patience: int | None = Field(
        None, ge=1, description="Epochs without a new best before a fold stops; null: it goes on to the end"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: a short measured probe")
    compile: Literal["auto"] | bool = Field(False, description="torch.compile; auto: on a GPU, where it pays")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="Validate and keep an EMA of the weights")
    validate_every: int = Field(1, ge=1, description="Epochs between validations; the last is always validated")
    checkpoint_minutes: float = Field(5.0, gt=0, description="Resume state is also saved within an epoch")
    max_steps: int | None = Field(None, ge=1, description="Stop a fold after so many steps (tests, timing)")


class InferenceConfig(_Section):
    flip: bool = Field(True, description="Average with the prediction of the mirrored tile")
    batch: int = Field(64, ge=1)
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = tuple(round(0.30 + 0.02 * i, 2) for i in range(21))
    min_salts: tuple[NonNegativeInt, ...] = (0, 10, 20, 40, 80)
    min_holes: tuple[NonNegativeInt, ...] = (0, 20, 60)

    @field_validator("thresholds", "min_salts", "min_holes")
    @classmethod
    def _rising(cls, axis: tuple[float, ...]) -> tuple[float, ...]:
        # The grid search asks for it, hours later.
        if not axis or list(axis) != sorted(set(axis)):
            raise ValueError(f"values must rise from one to the next, and there must be one at least; got {axis}")
        return axis


_STRONG = AugmentConfig(
    flip=0, affine=0, light=0.8, brightness=0.3, contrast=0.3, gamma=0.3, blur=0.3, noise=0.3, erase=0.0
)


class UnlabelledConfig(_Section):
    """How a method that learns from unlabelled tiles as it trains (mean teacher, co-training) meets them.

    Only the mean teacher has strong views and mixes tiles; the other networks' adversarial examples are co-training's.
    """

    batch: int | None = Field(None, ge=2, description="Unlabelled tiles a step; null: training.batch")
    strong: AugmentConfig = Field(_STRONG, description="The student's view, on the geometry of the teacher's")
    cutmix: float = Field(0.5, ge=0, le=1, description="Probability that a tile gets a box of another one")
    cutmix_area: tuple[float, float] = Field((0.02, 0.4), description="Least and greatest share of a tile in a box")
    least_salt: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Where predictions hold less than this share of the labels' salt, they are taken for collapsed to "
        "background, and the training stops; lower it where unlabelled tiles truly have less salt; 0: never stop",
    )

    @field_validator("strong", mode="before")
    @classmethod
    def _kept_defaults(cls, strong: Any) -> Any:
        """A key that is not given has its value of here, not the labelled tiles' one."""
        return _STRONG.model_dump() | strong if isinstance(strong, dict) else strong

    @field_validator("strong")
    @classmethod
    def _intensity_only(cls, strong: AugmentConfig) -> AugmentConfig:
        if strong.flip or strong.affine:
            raise ValueError("the strong view keeps the weak one's geometry: set flip and affine to 0")
        return strong

    @field_validator("cutmix_area")
    @classmethod
    def _area(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"shares of a tile rise within 0 to 1, not {area}")
        return area


class TeacherConfig(_Section):
    """Mean teacher (Tarvainen & Valpola 2017): the student learns to agree with its own average."""

    decay: float = Field(0.99, gt=0, lt=1, description="Of the average, after a warm-up of 1 − 1/(t + 1)")
    mirrored: bool = Field(True, description="The teacher's word is the mean over a tile and its mirror image")
    consistency: Literal["mse", "threshold", "tiles"] = Field(
        "tiles",
        description="mse: 2(p − q)² of soft targets; threshold: BCE where the teacher is sure; tiles: the labelled "
        "tiles' own loss, on whole tiles of which it says the same as of their mirror images",
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Least max(q, 1 − q) of a pixel that counts (threshold)")
    agreement: float = Field(
        0.8, ge=0, le=1, description="Least IoU of both words' masks of a tile that counts (tiles)"
    )
    empty_below: float = Field(
        0.2, gt=0, le=1, description="A tile called empty counts where all its probabilities are below this (tiles)"
    )
    weight: float = Field(1.0, ge=0, description="Of the consistency")
    ramp: float = Field(
        0.3, ge=0, le=1, description="Share of the training over which the weight rises: exp(−5(1 − t)²)"
    )

    @model_validator(mode="after")
    def _two_words(self) -> "TeacherConfig":
        if self.consistency == "tiles" and not self.mirrored:
            raise ValueError(
                "consistency: tiles compares the teacher's word on a tile and on its mirror image: set mirrored"
            )
        return self


class CoTrainingConfig(_Section):
    """Deep co-training (Qiao et al. 2018): networks that agree, and that resist each other's adversarial examples."""

    views: int = Field(2, ge=2, description="Networks; each has a labelled batch of its own")
    agreement: float = Field(0.5, ge=0, description="Weight of the views' agreement on unlabelled tiles")
    difference: float = Field(0.05, ge=0, description="Weight of their resistance to each other's adversarial examples")
    epsilon: float = Field(0.02, gt=0, lt=1, description="Size of the attack, for images in 0 to 1")
    ramp: float = Field(0.3, ge=0, le=1, description="Share of the training over which both weights rise")


class PseudoConfig(_Section):
    """What a round of `semisalt pseudo` takes from the unlabelled tiles, and how it learns from it."""

    low: float = Field(0.2, ge=0, lt=0.5, description="A pixel is decided below this probability, …")
    high: float = Field(0.8, gt=0.5, le=1, description="… or above this one")
    decided: float = Field(0.9, ge=0, le=1, description="Least share of decided pixels")
    confidence: float = Field(0.0, ge=0, le=1, description="Least mean of max(p, 1 − p)")
    stability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Least mean IoU of earlier snapshots and the last (of all and their averaged weights), at 0.5",
    )
    mirrored: float = Field(0.0, ge=0, le=1, description="Least IoU of a tile's mask and its mirror image's")
    min_area: int = Field(20, ge=0, description="Masks of 1 to fewer pixels are refused")
    max_coverage: float = Field(0.9, gt=0, le=1, description="Masks of more salt are refused")
    least_salt: float = Field(
        0.25, ge=0, le=1, description="As unlabelled.least_salt, of the predictions that are to become labels"
    )
    quotas: bool = Field(
        True, description="Hold the taken tiles' mean share of salt within a tenth of the labelled prior"
    )
    empties: float = Field(1.0, ge=0, le=1, description="Share of the prior's empty tiles that counts for the quotas")
    limit: int | None = Field(None, ge=1, description="Take so many tiles at most")
    labels: Literal["hard", "soft"] = "hard"
    threshold: Literal["own"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "own", description="Of hard labels; own: each fold's, which gives the labelled prior's share of salt"
    )
    use: Literal["mix", "pretrain_finetune", "half_swap"] = "mix"
    share: float = Field(1 / 3, gt=0, lt=1, description="Share of pseudo-labelled tiles in a batch (mix)")
    pretrain: float = Field(0.6, gt=0, lt=1, description="Share of the epochs on pseudo-labels alone")
    rate: float = Field(0.5, gt=0, le=1, description="Learning rate of the fine-tuning, relative")
    augment: AugmentConfig | None = Field(None, description="Views of pseudo-labelled tiles; null: as the real ones'")
    start: Literal["scratch", "previous"] = Field(
        "scratch", description="Weights that a round starts from; previous: and with the finishing losses at once"
    )
    peak: float | None = Field(None, gt=0, description="Peak learning rate of a round; null: schedule.peak")


class Config(_Section):
    """A whole recipe."""

    seed: int = Field(0, ge=0)
    method: Literal["supervised", "mean_teacher", "co_training"] = "supervised"
    data: DataConfig = DataConfig()
    channels: ChannelsConfig = ChannelsConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: CyclicConfig | CosineConfig = Field(CyclicConfig(), discriminator="kind")
    training: TrainingConfig = TrainingConfig()
    snapshots: SnapshotConfig = SnapshotConfig()
    inference: InferenceConfig = InferenceConfig()
    unlabelled: UnlabelledConfig = UnlabelledConfig()
    teacher: TeacherConfig = TeacherConfig()
    co_training: CoTrainingConfig = CoTrainingConfig()
    pseudo: PseudoConfig = PseudoConfig()

    @property
    def command(self) -> str:
        """The command that trains by the recipe's method: semisalt …"""
        return {"supervised": "baseline", "mean_teacher": "teacher", "co_training": "cotrain"}[self.method]

    @property
    def warm_up(self) -> float:
        """Share of the training before what is learned from unlabelled tiles has its full weight."""
        return self.co_training.ramp if self.method == "co_training" else self.teacher.ramp

    @property
    def unlabelled_batch(self) -> int:
        """Unlabelled tiles a step, of a method that learns from them as it trains."""
        return self.unlabelled.batch or self.training.batch

    @property
    def strong_views(self) -> AugmentConfig | None:
        """The views of pseudo-labelled tiles (None: as the others'), or of unlabelled ones beside their weak views."""
        strong = {"supervised": self.pseudo.augment, "mean_teacher": self.unlabelled.strong}
        return strong.get(self.method)

    @property
    def chosen_by_score(self) -> dict[str, str | int]:
        """The keys by which a fold's validation score has a say in its weights, with their values."""
        keys: dict[str, str | int] = {}
        if self.snapshots.select == "best":
            keys["snapshots.select"] = "best"
        if self.training.patience is not None:
            keys["training.patience"] = self.training.patience
        return keys

    @field_validator("schedule", mode="before")
    @classmethod
    def _kind(cls, schedule: Any) -> Any:
        """A schedule that does not name its kind is of the default one."""
        return {"kind": "triangular2", **schedule} if isinstance(schedule, Mapping) else schedule

    @model_validator(mode="after")
    def _cycles_fit(self) -> "Config":
        if isinstance(self.schedule, CosineConfig) and self.schedule.cycles:
            total = sum(self.schedule.cycles)
            if total != self.training.epochs:
                raise ValueError(f"schedule.cycles add up to {total} epochs, training.epochs is {self.training.epochs}")
        return self

    @model_validator(mode="after")
    def _one_average(self) -> "Config":
        if self.method == "mean_teacher" and self.training.ema_decay is not None:
            raise ValueError("the teacher is an average of the weights already: set training.ema_decay to null")
        return self

    @model_validator(mode="after")
    def _measures_exist(self) -> "Config":
        if self.pseudo.mirrored and not self.inference.flip:
            raise ValueError("pseudo.mirrored compares a tile with its mirror image: set inference.flip to true")
        if self.pseudo.stability and self.snapshots.keep < 2:
            raise ValueError("pseudo.stability compares snapshots: set snapshots.keep to 2 or more")
        return self
