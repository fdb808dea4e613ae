"""Mix: mixup and CutMix of a batch with itself in reverse order."""

from dataclasses import dataclass

import numpy as np
import torch

from melfast.config.schema import TrainConfig


@dataclass(frozen=True)
class Mixed:
    """A batch in which image i is mixed with image B - 1 - i.

    Attributes:
        images: [B, 3, H, W].
        own: fraction of each mixed image that comes from its own image, in 0.5..1; because pairs are
            symmetric, this covers all mixtures.
    """

    images: torch.Tensor
    own: float = 1.0

    def loss(self, own_b: torch.Tensor, others_b: torch.Tensor) -> torch.Tensor:
        """The loss for a mixed label, from the losses for the own and the other labels, [B]."""
        return self.own * own_b + (1 - self.own) * others_b


def mix(images: torch.Tensor, config: TrainConfig, seed: tuple[int, ...]) -> Mixed:
    """Mixes a batch by `mixup` (Zhang et al. 2018) or `cutmix` (Yun et al. 2019), or by either with
    equal probability if both are on.

    Args:
        images: [B, 3, H, W]; not modified.
        config: `mixup` and `cutmix`, the parameters of their beta distributions; 0: off.
        seed: seed of all random draws.
    """
    wanted = [name for name in ("mixup", "cutmix") if getattr(config, name) > 0]
    if not wanted:
        return Mixed(images)
    rng = np.random.default_rng(seed)
    name = wanted[rng.integers(len(wanted))]
    share = rng.beta(*[getattr(config, name)] * 2)
    own = float(max(share, 1 - share))
    others = images.flip(0)
    if name == "mixup":
        return Mixed(torch.lerp(others, images, own), own)
    height, width = images.shape[2:]
    tall, wide = (round(side * (1 - own) ** 0.5) for side in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    pasted = images.clone()
    box = (..., slice(top, top + tall), slice(left, left + wide))
    pasted[box] = others[box]
    return Mixed(pasted, 1 - tall * wide / (height * width))
