"""The config of a training run: one typed schema; defaults < YAML < command line."""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from melfast.config import loading as settings
from melfast.config.published_flags import NEEDLESS, PUBLISHED, translate
from melfast.data.augment import Augment
from melfast.data.loader import LoaderName
from melfast.data.preprocess import ColourSpace, Mean, Preprocess, Side, Std
from melfast.data.sampler import Sampler
from melfast.io.log import logger
from melfast.io.schema import checked, refused
from melfast.metrics.threshold import ThresholdRule
from melfast.metrics.validation import BestMetric
from melfast.models.record import Backbone, CalibrationName, Count, Head, Inference, Options, Share
from melfast.prepare.folds import parse_fold
from melfast.prepare.settings import Fractions, PrepareConfig

Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]


def _fold(text: str) -> str:
    parse_fold(text)
    return text


@checked()
class DataConfig:
    """Where the images are and how they are read.

    Attributes:
        path: a manifest, or any data set that `melfast prepare import` can read.
        kind: kind of data set at `path`, as for `melfast prepare import --kind`; only for imports.
        images: folder of the images, if the import needs one.
        split: fractions of train, valid and test, for data without a split.
        split_seed: seed of that split.
        fold: `2/5`: the second of five folds is the validation split, see melfast.prepare.folds;
            empty: no cross-validation.
        allow_overlap: train even if a patient or lesion is in more than one split.
        on_error: an unreadable image stops the run (`raise`) or is skipped and counted (`skip`).
        loader: backend that loads the images: `native`, `dali-cpu`, `dali-gpu`, or `auto`.
        threads: loader threads per process; 0: chosen from the number of cores.
    """

    path: str = ""
    kind: str = "auto"
    images: str = ""
    split: Fractions = (0.7, 0.15, 0.15)
    split_seed: int = 0
    fold: Annotated[str, AfterValidator(_fold)] = ""
    allow_overlap: bool = False
    on_error: Literal["raise", "skip"] = "raise"
    loader: LoaderName = "auto"
    threads: Count = 0


@checked()
class PreprocessConfig:
    """Input of the network, see Preprocess; `mean` and `std` default to the usual ones."""

    height: Side = 96
    width: Side = 128
    colour: ColourSpace = "rgb"
    mean: tuple[Mean, Mean, Mean] | None = None
    std: tuple[Std, Std, Std] | None = None
    masked: bool = False

    def resolve(self) -> Preprocess:
        usual = Preprocess.for_colour(self.height, self.width, self.colour)
        mean, std = self.mean or usual.mean, self.std or usual.std
        return Preprocess(self.height, self.width, self.colour, mean, std, self.masked)


@checked()
class ModelConfig:
    """A timm backbone, and how its outputs map to classes and tone groups.

    Attributes:
        backbone: a published name (see melfast.models.backbones) or a timm model.
        backbone_options: passed to timm.create_model.
        pretrained: start from timm's pretrained weights, downloaded once.
        in_22k: use weights pretrained on ImageNet-22k; implies `pretrained`.
        weights: a .safetensors or .pth file with tensors to start from.
        freeze: train only the head, on the features of the frozen backbone (linear probing).
        drop_path: stochastic depth rate.
        num_groups: number of tone groups that the data must have; 0: any number.
        head: `plain`, `domain_discriminative` or `domain_independent`, see melfast.models.heads.
        inference: for a domain_independent head: `sum` over the groups, or `group_conditional`, which
            uses the image's own group if it is known.
    """

    backbone: Backbone = "resnet18"
    backbone_options: Options = field(default_factory=dict)
    pretrained: bool = False
    in_22k: bool = False
    weights: str = ""
    freeze: bool = False
    drop_path: Fraction = 0.0
    num_groups: Count = 0
    head: Head = "plain"
    inference: Inference = "sum"


@checked()
class LossConfig:
    """See melfast.losses; every loss works with every head and all weights.

    Attributes:
        name: `ce`: cross-entropy. `focal`: hard images count more. `ohem`: only the hardest images
            of a batch count. `recall_ce`: a class counts more when it is missed more often.
            `group_dro`: a tone group counts more when its loss is higher.
        label_smoothing: fraction of the target spread evenly over the classes, within the tone group.
        weights: inverse frequency: `ifw_class`, every class counts the same in total;
            `ifw_class_group`, every pair of class and tone group.
        focal_gamma: exponent of the focal loss; 0: cross-entropy.
        ohem_fraction: fraction of a process's batch that counts; 1: cross-entropy.
        recall_strength: 0: cross-entropy; 1: weights proportional to the false-negative rate.
        recall_momentum: fraction of the running counts that is kept at each step.
        dro_rate: how fast the group weights follow the losses; 0: cross-entropy.
    """

    name: Literal["ce", "focal", "ohem", "recall_ce", "group_dro"] = "ce"
    label_smoothing: Fraction = 0.0
    weights: Literal["none", "ifw_class", "ifw_class_group"] = "none"
    focal_gamma: Amount = 2.0
    ohem_fraction: Part = 0.7
    recall_strength: Share = 1.0
    recall_momentum: Fraction = 0.99
    dro_rate: Amount = 0.01


@checked()
class OptimConfig:
    """The learning rate rises linearly, then falls along a cosine to `min_lr_ratio * lr`.

    Attributes:
        name: `adamw`, `sgd`, `lamb` or another optimizer of timm.
        lr: peak learning rate.
        weight_decay: applied to matrices and kernels, not to norms and biases.
        weight_decay_end: final weight decay, reached along a cosine; None: it stays constant.
        betas, momentum: for the optimizers that have them.
        layer_decay: the learning rate of each layer, as a factor of that of the layer above it.
        warmup: length of the rise, in the unit `warmup_unit`: a fraction of all steps, epochs or
            steps.
        clip_norm: maximum norm of the gradient; 0: no clipping.
        sam_rho: radius of sharpness-aware minimisation (Foret et al. 2021), which doubles the time of
            a step; 0: off.
    """

    name: str = "adamw"
    lr: Rate = 1e-3
    weight_decay: Amount = 0.05
    weight_decay_end: Amount | None = None
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    momentum: Fraction = 0.9
    layer_decay: Part = 1.0
    warmup: Amount = 0.05
    warmup_unit: Literal["fraction", "epochs", "steps"] = "fraction"
    min_lr_ratio: Share = 0.0
    clip_norm: Amount = 1.0
    sam_rho: Amount = 0.0

    def __post_init__(self) -> None:
        if (
            self.weight_decay_end is not None and self.weight_decay == 0
        ):  # the parameter groups with decay are recognised by it
            raise refused("> 0 where it has an end", self.weight_decay, "weight_decay")
        if self.warmup_unit == "fraction" and self.warmup >= 1:
            raise refused("< 1, a fraction of all steps", self.warmup, "warmup")


@checked()
class TrainConfig:
    """How long to train, on which device and with which precision.

    Attributes:
        batch_size: images per optimizer step, over all processes and accumulated pieces; the same
            number gives the same steps on any number of processes.
        accumulate: number of pieces in which a process computes a step; saves memory.
        device: `auto`: CUDA if there is a device.
        precision: `fp32`, or mixed: `bf16`, `fp16`.
        tf32: let CUDA multiply fp32 values with a 10-bit mantissa: faster, less exact.
        ema: decay of a running average of the weights; if set, the average is evaluated, saved and
            exported; 0: none.
        mixup, cutmix: parameter of the beta distribution from which the mixing proportion is drawn;
            0: off; if both are set they alternate.
        best_metric: the validation metric that selects the best checkpoint, see
            melfast.metrics.validation.
        threshold_rule: how the threshold is chosen on the validation split: `youden`: largest
            recall + specificity; `f1`; `recall`: the highest threshold with a recall of at least
            `threshold_value`; `cost`: a missed malignant image costs `threshold_value` false alarms;
            `equal_recall`: `recall` in each tone group separately, so one threshold per group.
        threshold_value: see `threshold_rule`.
        calibration: of P(malignant), fitted on the validation split and kept with the model:
            `temperature`, `sigmoid` or `isotonic`, see melfast.metrics.calibration.
        checkpoint_minutes: interval of additional checkpoints within an epoch; 0: only after epochs.
        keep_last: number of newest checkpoints that are kept besides the best.
        log_every: number of steps between log lines.
        threads: torch threads per process on the CPU; 0: chosen from the number of cores.
    """

    epochs: Positive = 20
    batch_size: Positive = 64
    accumulate: Positive = 1
    seed: Count = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = False
    compile: bool = False
    ema: Fraction = 0.0
    mixup: Amount = 0.0
    cutmix: Amount = 0.0
    best_metric: BestMetric = "auc"
    threshold_rule: ThresholdRule = "youden"
    threshold_value: Rate = 0.9
    calibration: CalibrationName = "none"
    checkpoint_minutes: Amount = 10.0
    keep_last: Positive = 1
    log_every: Positive = 10
    threads: Count = 0

    def __post_init__(self) -> None:
        if self.threshold_rule in ("recall", "equal_recall") and self.threshold_value > 1:
            raise refused(f"<= 1 for rule {self.threshold_rule}", self.threshold_value, "threshold_value")
        if self.batch_size % self.accumulate:
            raise refused(f"a multiple of train.accumulate ({self.accumulate})", self.batch_size, "batch_size")


@checked()
class OutputConfig:
    """Where the run is written, and which tracker logs it.

    Attributes:
        dir: folder of the run; empty: runs/NAME, where NAME is that of the config file.
        tracker: `mlflow` or `wandb`, if installed; its own environment variables set the server and
            the project.
    """

    dir: str = ""
    tracker: Literal["none", "mlflow", "wandb"] = "none"


@checked()
class Config:
    """All settings of a training run, one section each."""

    data: DataConfig = field(default_factory=DataConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: Augment = field(default_factory=Augment)
    sampler: Sampler = field(default_factory=Sampler)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        # The scaler would have to skip a step after its weights have already been moved.
        if self.optim.sam_rho > 0 and self.train.precision == "fp16":
            raise refused("0 under train.precision fp16", self.optim.sam_rho, "optim.sam_rho")

    def to_yaml(self) -> str:
        """YAML that `load_config` reads back to an equal Config."""
        return settings.to_yaml(self)


def with_output(config: Config, path: Path | None) -> Config:
    """The config with a run folder: by default runs/NAME, named after its file or its backbone."""
    name = path.stem if path else config.model.backbone
    output = config.output.dir or str(Path("runs") / name)
    return replace(config, output=replace(config.output, dir=output))


def load_config(
    path: Path | None, overrides: Iterable[settings.Override] = (), published: Mapping[str, Any] | None = None
) -> tuple[Config, dict[str, str]]:
    """Defaults, then the YAML file, then the overrides (see `melfast.config.loading.load`).

    Args:
        published: flags of the published system from the command line; the file may also contain
            them, as top-level keys.
    """
    overrides = list(overrides)
    document = settings.read_yaml(path) if path is not None else {}
    flags = {
        str(name).replace("-", "_"): (value, str(path))
        for name, value in document.items()
        if str(name).replace("-", "_") in PUBLISHED and value is not None and not isinstance(value, dict)
    }
    rest = {k: v for k, v in document.items() if str(k).replace("-", "_") not in flags}
    flags |= {name: (value, "command line") for name, value in (published or {}).items()}
    config, sources = settings.load(Config, path, overrides, rest)
    if not flags:
        return config, sources
    translated = translate(flags, settings.dotted(config))
    for name in flags.keys() & NEEDLESS.keys():
        logger.info(f"{flags[name][1]}: {name} -> nothing: {NEEDLESS[name]}")
    if "batch_size" in flags:
        logger.info("batch_size is that of a step over all processes here, not of each")
    for override in translated:
        logger.info(f"{override.source} -> {override.key} = {override.value}")
    return settings.load(Config, path, [*translated, *overrides], rest)
