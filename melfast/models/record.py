"""ModelRecord: everything needed to use a model; JSON in checkpoints and ONNX metadata.

A record may come from an untrusted source, so anything outside this schema is refused: it holds bounded numbers and
printable names, and nothing that could refer to a file, a host or a URL.
"""

import dataclasses
import json
import math
import re
from dataclasses import asdict, field
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from melfast.data.preprocess import Preprocess
from melfast.io.schema import STRICT, Fraction, checked, from_json, refused

Head = Literal["plain", "domain_discriminative", "domain_independent"]
DEFAULT_THRESHOLD = 0.5  # of a model that has none
GroupInference = Literal["sum", "group_conditional"]
CalibrationName = Literal["none", "temperature", "sigmoid", "isotonic"]
# The keywords of timm.create_model that shape a network. `checkpoint_path`, `pretrained_cfg` and others that read files
# or fetch URLs must never be listed.
_OPTIONS = """
    act_layer attn_drop_rate avg_down base_width block_size cardinality channels class_token conv_mlp depth depths dims
    down_kernel_size drop_block_rate drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim fc_norm
    final_norm fix_stem fix_width global_pool head_hidden_size head_init_scale img_size init_values kernel_sizes
    ls_init_value mlp_ratio no_embed_class norm_layer num_features num_heads output_stride patch_drop_rate patch_size
    pool_include_prefix pos_drop_rate proj_drop_rate qk_norm qkv_bias reg_tokens round_chs_fn stem_size stem_type
    stem_width strides use_grn window_size
"""
OPTIONS = frozenset(_OPTIONS.split())
LARGEST_OPTION = 8192


def _architecture(name: str) -> str:
    if not re.fullmatch(
        r"[A-Za-z0-9_]{1,80}(\.[A-Za-z0-9_]{1,80})?", name
    ):  # hf-hub: and local-dir: would load other files
        raise refused("the name of an architecture, as convnext_tiny or convnext_tiny.fb_in22k", name)
    return name


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise refused("printable text", name)
    return name


def _shaping(options: dict[str, Any]) -> dict[str, Any]:
    """Allowed options, whose values are numbers and plain words."""
    for key, value in options.items():
        if key not in OPTIONS:
            near = get_close_matches(key, OPTIONS, 1, 0.8)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise refused(f"left out: a model's options may only shape its network{hint}", value, key)
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, str):
                plain = part.isascii() and part.isidentifier()
            else:  # bool is an int
                plain = isinstance(part, int | float) and math.isfinite(part) and abs(part) <= LARGEST_OPTION
            if not plain:
                raise refused(f"numbers up to {LARGEST_OPTION:,} or plain words", value, key)
    return options


def _rising(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    for before, after in pairwise(knots):
        if after[0] < before[0] or after[1] < before[1]:
            raise refused("rising in both numbers", [before, after])
    return knots


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise refused("distinct names", list(names))
    return names


BackboneName = Annotated[str, AfterValidator(_architecture)]
Options = Annotated[dict[str, Any], AfterValidator(_shaping)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0)]


@with_config(STRICT)
class Training(TypedDict, total=False):
    """A summary to show."""

    train: dict[Name, Count]
    valid: dict[Name, Count]
    valid_metrics: dict[str, Any]
    epoch: Count
    step: Count
    seed: Count
    versions: dict[Name, Name]


@checked()
class ModelRecord:
    """Everything about a model except its weights.

    Attributes:
        backbone: a published or timm name, see melfast.models.backbones.
        backbone_options: passed to timm.create_model; only those in OPTIONS.
        head: how logits become a probability, see melfast.models.heads.
        classes: names by class index; the last is the malignant one.
        groups: names of the tone groups by index; empty if training had none.
        priors: fraction of each tone group and class [G][C] in training; for group heads.
        inference: for a domain_independent head, see melfast.config.schema.ModelConfig.
        preprocess: preprocessing of an image.
        temperature: divisor of the log-odds of P(malignant); 1: no change.
        offset: added to the log-odds of P(malignant) after that (Platt scaling); 0: no change.
        isotonic: calibration of P(malignant): rising knots (before, after) joined by lines.
        threshold: P(malignant) at or above which an image is called malignant; chosen on the
            validation split by `threshold_rule`. None until then.
        group_thresholds: the same for images of each tone group; empty: `threshold` for all.
        training: a summary to show: data, epochs, metrics, versions.

    Raises:
        InputError: a value violates its type or bounds, or contradicts another.
    """

    backbone: BackboneName
    preprocess: Preprocess
    backbone_options: Options = field(default_factory=dict)
    head: Head = "plain"
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=1000), AfterValidator(_distinct)] = (
        "benign",
        "malignant",
    )
    groups: Annotated[tuple[Name, ...], Field(max_length=100), AfterValidator(_distinct)] = ()
    priors: tuple[tuple[Fraction, ...], ...] = ()
    inference: GroupInference = "sum"
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    offset: Annotated[float, Field(ge=-20, le=20)] = 0.0
    isotonic: Annotated[tuple[tuple[Fraction, Fraction], ...], Field(max_length=100_000), AfterValidator(_rising)] = ()
    threshold: Fraction | None = None
    threshold_rule: Annotated[str, Field(max_length=200), AfterValidator(_printable)] = ""
    group_thresholds: tuple[Fraction, ...] = ()
    training: Training = field(default_factory=Training)
    melfast_format: Literal[1] = 1

    def __post_init__(self) -> None:
        rows, columns = len(self.groups), len(self.classes)
        if self.head != "plain" and rows < 1:
            raise refused(f"names of tone groups for head {self.head}", [], "groups")
        shape = [len(row) for row in self.priors]
        if shape != [columns] * rows and (shape or self.head != "plain"):
            raise refused(f"{rows} rows of {columns} shares, a group and a class each", self.priors, "priors")
        learnt = {
            "plain": True,
            "domain_discriminative": all(any(column) for column in zip(*self.priors, strict=True)),
            "domain_independent": any(all(row) for row in self.priors),
        }
        if not learnt[self.head]:
            raise refused(f"such that head {self.head} could learn every class", self.priors, "priors")
        if self.isotonic and self.temperature != 1:
            raise refused("1 with an isotonic calibration", self.temperature, "temperature")
        if self.isotonic and self.offset:
            raise refused("0 with an isotonic calibration", self.offset, "offset")
        if self.group_thresholds and len(self.group_thresholds) != rows:
            raise refused(f"{rows} thresholds, one per group", list(self.group_thresholds), "group_thresholds")

    @property
    def num_logits(self) -> int:
        """Number of outputs of the network: one per class, for group heads one per group and class."""
        return len(self.classes) * (len(self.groups) if self.by_group else 1)

    @property
    def by_group(self) -> bool:
        """Whether the head uses tone groups; as in melfast.models.heads, without torch."""
        return self.head != "plain"

    @property
    def takes_group(self) -> bool:
        """Whether P(malignant) depends on the tone group of the image."""
        return self.head == "domain_independent" and self.inference == "group_conditional"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str, where: str) -> "ModelRecord":
        """Reads a record; raises InputError, naming `where` and the key, for anything else."""
        return from_json(cls, text, where)

    def learnt_by(self, other: "ModelRecord") -> "ModelRecord":
        """A copy with the threshold, calibration and summary of another record."""
        names = ("temperature", "offset", "isotonic", "threshold", "threshold_rule", "group_thresholds", "training")
        return self.replace(**{name: getattr(other, name) for name in names})

    def thresholds(self, groups: NDArray[np.integer[Any]], otherwise: float) -> NDArray[np.float64]:
        """The threshold of each image, float64 [N].

        Args:
            groups: tone groups of the images [N], indices into `groups`, -1 unknown.
            otherwise: threshold to use if the model has none.
        """
        common = otherwise if self.threshold is None else self.threshold
        by_group = self.group_thresholds or (common,) * len(self.groups)
        return np.array([*by_group, common])[groups]

    def replace(self, **changes: Any) -> "ModelRecord":
        return dataclasses.replace(self, **changes)
