"""ModelRecord: what must be known of a model to use it; JSON in checkpoints and ONNX metadata."""

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError

Head = Literal["plain", "domain_discriminative", "domain_independent"]
Inference = Literal["sum", "group_conditional"]
CalibrationName = Literal["none", "temperature", "isotonic"]
FORMAT = 1


@dataclass(frozen=True)
class ModelRecord:
    """Everything about a model but its weights.

    Attributes:
        backbone: timm's name; `backbone_options` are passed to timm.create_model.
        head: how logits become a probability, see melfast.models.heads.
        classes: names by class index; the last is the malignant one.
        groups: names of the tone groups by index; empty where training knew none.
        priors: share of each tone group and class [G][C] in training; for heads of groups.
        inference: of a domain_independent head, see melfast.config.schema.ModelConfig.
        preprocess: what is done to an image first.
        temperature: by which the log-odds of P(malignant) are divided; 1: not at all.
        isotonic: calibration of P(malignant) by lines from knot (before, after) to knot, rising.
        threshold: P(malignant) at or above which an image is called malignant; chosen on the
            validation split by `threshold_rule`. None until then.
        group_thresholds: the same for images of each tone group; empty: `threshold` for all.
        training: a summary for people: data, epochs, metrics, versions.
    """

    backbone: str
    preprocess: Preprocess
    backbone_options: dict[str, Any] = field(default_factory=dict)
    head: Head = "plain"
    classes: tuple[str, ...] = ("benign", "malignant")
    groups: tuple[str, ...] = ()
    priors: tuple[tuple[float, ...], ...] = ()
    inference: Inference = "sum"
    temperature: float = 1.0
    isotonic: tuple[tuple[float, float], ...] = ()
    threshold: float | None = None
    threshold_rule: str = ""
    group_thresholds: tuple[float, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def num_logits(self) -> int:
        """Outputs of the network: a logit a class, for heads of groups one a group and class."""
        return len(self.classes) * (len(self.groups) if self.by_group else 1)

    @property
    def by_group(self) -> bool:
        """Whether the head tells tone groups; as of melfast.models.heads, without torch."""
        return self.head != "plain"

    @property
    def takes_group(self) -> bool:
        """Whether P(malignant) depends on the image's own tone group."""
        return self.head == "domain_independent" and self.inference == "group_conditional"

    def to_json(self) -> str:
        return json.dumps({"melfast_format": FORMAT, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str, where: str) -> "ModelRecord":
        """Raises InputError, naming `where`, for anything that `to_json` did not write."""
        try:
            record = json.loads(text)
            if record.pop("melfast_format") != FORMAT:
                raise InputError(f"{where}: written by another melfast; wanted format {FORMAT}")
            record["preprocess"] = Preprocess.from_dict(record["preprocess"])
            record["classes"], record["groups"] = tuple(record["classes"]), tuple(record["groups"])
            record["group_thresholds"] = tuple(record.get("group_thresholds", ()))
            for name in ("priors", "isotonic"):
                record[name] = tuple(map(tuple, record.get(name, ())))
            return cls(**record)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a melfast model record ({error!r})") from None

    def learnt_by(self, other: "ModelRecord") -> "ModelRecord":
        """With what validation has found of another: threshold, calibration and summary."""
        names = ("temperature", "isotonic", "threshold", "threshold_rule", "group_thresholds", "training")
        return self.replace(**{name: getattr(other, name) for name in names})

    def thresholds(self, groups: NDArray[np.integer[Any]], otherwise: float) -> NDArray[np.float64]:
        """The threshold of each image, float64 [N].

        Args:
            groups: of the images [N], index into `groups`, -1 unknown.
            otherwise: what to take where the model has no threshold.
        """
        common = otherwise if self.threshold is None else self.threshold
        by_group = self.group_thresholds or (common,) * len(self.groups)
        return np.array([*by_group, common])[groups]

    def replace(self, **changes: Any) -> "ModelRecord":
        return dataclasses.replace(self, **changes)
