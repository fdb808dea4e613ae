"""Features: outputs of a frozen backbone for images that never change, computed once."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.config.schema import Config
from melfast.data.batch import Batch
from melfast.data.plan import EpochPlan
from melfast.models.infer import Inference


def sees_the_same(config: Config) -> bool:
    """Whether the features of each image are the same in every epoch: the backbone is frozen and the
    images are not augmented."""
    mixes = config.train.mixup > 0 or config.train.cutmix > 0
    return config.model.freeze and not config.augment.changes and not mixes


class Backbone(torch.nn.Module):
    """A timm classifier up to the input of its linear head."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to [B, F]."""
        seen = self.classifier.forward_features(images)  # type: ignore[operator]
        features: torch.Tensor = self.classifier.forward_head(seen, pre_logits=True)  # type: ignore[operator]
        return features


class Features:
    """The features of a split's images.

    Attributes:
        found: their index, and the features as `logits`.
        rows: float32 [N, F] on the device, in the order of the index.
    """

    def __init__(self, found: Inference, num_images: int, device: torch.device) -> None:
        self.found = found
        self.rows = torch.from_numpy(found.logits).to(device)
        self.place = np.full(num_images, -1, np.int64)
        self.place[found.index] = np.arange(len(found.index))

    def batches(self, plan: EpochPlan, start: int = 0) -> Iterator[tuple[torch.Tensor, Batch]]:
        """Features [B, F] instead of images, from batch `start` of the plan on; images that could not be
        read are left out."""
        for records in plan.batches(start):
            index = plan.index[records]
            known = self.place[index] >= 0
            group = plan.groups_of(records)
            empty: NDArray[np.float32] = np.empty((0, 0, 0, 3), np.float32)
            failures = () if known.any() else self.found.failures
            batch = Batch(empty, index[known], failures, None if group is None else group[known])
            yield self.rows[torch.from_numpy(self.place[index[known]])], batch

    def logits(self, head: torch.nn.Module) -> Inference:
        """Outputs of the head for the features."""
        with torch.inference_mode():
            logits = head(self.rows).float().cpu().numpy()
        return Inference(self.found.index, logits, self.found.failures)
