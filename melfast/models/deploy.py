"""ExportedClassifier: everything after the resize as one torch module, for the exported graph."""

import torch
from torch.nn.functional import embedding

from melfast.decode import decode
from melfast.models.record import ModelRecord
from melfast.preprocess import Preprocess

# IEC 61966-2-1: linear sRGB to XYZ, the D65 white, and CIE 15's break in the lightness curve. The
# same figures as in csrc/kernels/rows.cpp.
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE_XYZ = (0.95047, 1.0, 1.08883)
LAB_BREAK = (6 / 29) ** 3
LAB_SLOPE = (29 / 6) ** 2 / 3


class ExportedClassifier(torch.nn.Module):
    """uint8 sRGB [B, H, W, 3] to P(malignant) [B] and logits [B, K], float32."""

    def __init__(self, classifier: torch.nn.Module, record: ModelRecord) -> None:
        """
        Args:
            classifier: normalised images [B, 3, H, W] to logits [B, K], in eval mode.
        """
        super().__init__()
        convert = {"rgb": RgbInput, "cielab": LabInput}[record.preprocess.colour]
        self.colour = convert(record.preprocess)
        self.classifier = classifier
        self.record = record

    def forward(self, images_bhw3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits_bk = self.classifier(self.colour(images_bhw3)).float()
        return decode(logits_bk, self.record), logits_bk


class RgbInput(torch.nn.Module):
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(v, dtype=torch.float64) for v in (preprocess.mean, preprocess.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float()[:, None, None])
        self.register_buffer("offset", (-mean / std).float()[:, None, None])

    def forward(self, images_bhw3: torch.Tensor) -> torch.Tensor:
        # Transposed while a value is one byte. Contiguous, for the exporter writes out the strides
        # of a channels-last tensor as index arithmetic in the graph.
        planes = images_bhw3.permute(0, 3, 1, 2).contiguous()
        return planes.float() * self.scale + self.offset


class LabInput(torch.nn.Module):
    """uint8 [B, H, W, 3] to normalised CIELAB, float32 [B, 3, H, W]; always computed in float32.

    Tables of 256 rows take a channel's level to its share of XYZ / white, so the sRGB curve is
    exact and no matrix product is left that a runtime could take to TF32.
    """

    red: torch.Tensor
    green: torch.Tensor
    blue: torch.Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        level = torch.arange(256, dtype=torch.float64) / 255
        linear = torch.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
        matrix, white = (torch.tensor(v, dtype=torch.float64) for v in (RGB_TO_XYZ, WHITE_XYZ))
        tables = linear[:, None, None] * (matrix / white[:, None]).T
        for channel, name in enumerate(("red", "green", "blue")):
            self.register_buffer(name, tables[:, channel].float().contiguous())
        # L = 116 fy - 16, a = 500 (fx - fy), b = 200 (fy - fz), with mean and std folded in.
        factors, shifts = (116.0, 500.0, 200.0), (-16.0, 0.0, 0.0)
        triples = list(zip(factors, shifts, preprocess.mean, preprocess.std, strict=True))
        self.scale = [factor / std for factor, _, _, std in triples]
        self.offset = [(shift - mean) / std for _, shift, mean, std in triples]

    def forward(self, images_bhw3: torch.Tensor) -> torch.Tensor:
        red, green, blue = images_bhw3.int().unbind(
            -1
        )  # int: the exporter indexes by no smaller type
        xyz = embedding(red, self.red) + embedding(green, self.green) + embedding(blue, self.blue)
        fx, fy, fz = lab_curve(xyz).unbind(-1)
        lab = (fy, fx - fy, fy - fz)
        planes = [v * s + o for v, s, o in zip(lab, self.scale, self.offset, strict=True)]
        return torch.stack(planes, dim=1)


def lab_curve(t: torch.Tensor) -> torch.Tensor:
    """CIE 15: the cube root, and below LAB_BREAK the line that touches it there.

    Since the line is the tangent, two terms add up to the curve without a branch. exp and log are
    vectorised in ONNX Runtime, pow is not.
    """
    above = t.clamp_min(LAB_BREAK)
    return (above.log() * (1 / 3)).exp() + LAB_SLOPE * (t - above)
