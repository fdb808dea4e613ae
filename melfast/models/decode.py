"""decode: convert logits to P(malignant), in training metrics, evaluation and every export format.

`calibrated` and the functions of melfast.models.heads that `decode` uses take only tensors and plain
numbers, because `melfast export --format hf` copies their source into the model card.
"""

import torch

from melfast.models.heads import head_of
from melfast.models.record import ModelRecord


def decode(logits_bk: torch.Tensor, record: ModelRecord, group_b: torch.Tensor | None = None) -> torch.Tensor:
    """P(malignant) of each image (the last class), from the head and the calibration of a record.

    Args:
        logits_bk: [B, K], any float type.
        record: head, classes and priors of the model.
        group_b: int64 [B], -1 unknown; None: all unknown. Used if `record.takes_group`.
    Returns:
        float32 [B]. Softmax is computed in float32 for any type of logits: half precision would round
        probabilities near 0 and 1.
    """
    probability_b = head_of(record).decode(logits_bk.float(), group_b if record.takes_group else None)
    return calibrated(probability_b, record.temperature, record.isotonic, record.offset)


def calibrated(
    probability: torch.Tensor,
    temperature: float = 1.0,
    isotonic: tuple[tuple[float, float], ...] = (),
    offset: float = 0.0,
) -> torch.Tensor:
    """P(malignant) calibrated by temperature and offset of its log-odds, or by linear interpolation between knots."""
    if temperature != 1 or offset != 0:
        clipped = probability.clamp(1e-7, 1 - 1e-7)
        odds = clipped.log() - (-clipped).log1p()
        return (odds / temperature + offset).sigmoid()
    if not isotonic:
        return probability
    # A sum of ramps, which every engine supports; not every one can look up a table.
    p = probability.double()
    x, y = torch.tensor(isotonic, dtype=torch.float64).type_as(p).T
    wide, high = x.diff(), y.diff()
    slope = torch.where(wide > 0, high / wide.clamp_min(1e-300), 0.0)
    ramps = (p[:, None] - x[:-1]).clamp_min(0).minimum(wide)
    return (y[0] + (ramps * slope).sum(dim=1)).clamp(0, 1).to(probability.dtype)
