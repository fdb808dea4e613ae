"""ExportedClassifier: everything after the resize as one torch module, for every export format."""

import copy
from typing import Any, Literal

import torch
from timm.layers import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch.nn.functional import embedding

from melfast.io.words import check_words
from melfast.models.decode import decode
from melfast.models.record import ModelRecord
from melfast.skin import light

# As plain numbers, which the exporter and the code of a model card can write.
RGB_TO_XYZ, WHITE_XYZ = light.RGB_TO_XYZ.tolist(), light.WHITE.tolist()
# CIE 15: the break in the lightness curve, and its slope below.
LAB_BREAK = (6 / 29) ** 3
LAB_SLOPE = (29 / 6) ** 2 / 3

Precision = Literal["fp32", "fp16"]
# They sum squares over pixels or channels, which may exceed 65,504, the maximum of float16.
SQUARING_NORMS = (
    torch.nn.LayerNorm,
    torch.nn.GroupNorm,
    torch.nn.RMSNorm,
    RmsNorm,
    RmsNorm2d,
    SimpleNorm,
    SimpleNorm2d,
    GlobalResponseNorm,
)


@check_words
def deployed(classifier: torch.nn.Module, record: ModelRecord, precision: Precision) -> "ExportedClassifier":
    """The classifier to export, in eval mode; with fp16 its network is a copy."""
    network = Halved(classifier) if precision == "fp16" else classifier
    return ExportedClassifier(network, record).eval()


class ExportedClassifier(torch.nn.Module):
    """uint8 sRGB [B, H, W, 3] to P(malignant) [B] and logits [B, K], float32.

    If `record.takes_group`, the second input is the tone group of each image, int64 [B], -1 unknown.
    """

    def __init__(self, classifier: torch.nn.Module, record: ModelRecord) -> None:
        """
        Args:
            classifier: normalised images [B, 3, H, W] to logits [B, K], in eval mode.
        """
        super().__init__()
        convert = {"rgb": RgbInput, "cielab": LabInput}[record.preprocess.colour]
        self.colour = convert(record.preprocess.mean, record.preprocess.std)
        self.classifier = classifier
        self.record = record

    def forward(
        self, images_bhw3: torch.Tensor, group_b: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_bk = self.classifier(self.colour(images_bhw3)).float()
        return decode(logits_bk, self.record, group_b), logits_bk

    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs for tracing; a batch of 1 would become a constant."""
        size = self.record.preprocess
        images = torch.zeros((2, size.height, size.width, 3), dtype=torch.uint8)
        return (images, torch.tensor([-1, 0])) if self.record.takes_group else (images,)


class Halved(torch.nn.Module):
    """A copy of a network with weights and products in float16; float32 in, float32 out.

    Normalisation layers that sum squares are computed in float32, from float32 weights. The types are
    part of the exported graph: a runtime need not choose them, and the strongly typed networks of
    TensorRT cannot.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()
        for name, module in network.named_modules():
            if isinstance(module, SQUARING_NORMS):
                own = self.network.get_submodule(name)
                own.load_state_dict(module.state_dict(), assign=True)
                own.register_forward_pre_hook(_to_float)
                own.register_forward_hook(_to_half)

    def forward(self, images_b3hw: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images_b3hw.half())
        return logits.float()


def _to_float(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    return tuple(each.float() for each in inputs)


def _to_half(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.half()


class RgbInput(torch.nn.Module):
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        mean_c, std_c = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
        self.register_buffer("scale", (1 / (255 * std_c)).float()[:, None, None])
        self.register_buffer("offset", (-mean_c / std_c).float()[:, None, None])

    def forward(self, images_bhw3: torch.Tensor) -> torch.Tensor:
        # Float first: TensorRT accepts uint8 as an input, but can only convert it.
        # Contiguous, because the exporter writes the strides of a channels-last tensor as index
        # arithmetic in the graph.
        planes = images_bhw3.float().permute(0, 3, 1, 2).contiguous()
        return planes * self.scale + self.offset


class LabInput(torch.nn.Module):
    """uint8 [B, H, W, 3] to normalised CIELAB, float32 [B, 3, H, W]; always computed in float32.

    Tables of 256 rows map the level of a channel to its part of XYZ / white, so the sRGB curve is exact
    and no matrix product remains that a runtime could compute in TF32. `melfast export --format hf`
    copies the source into the model card.
    """

    red: torch.Tensor
    green: torch.Tensor
    blue: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        level = torch.arange(256, dtype=torch.float64) / 255
        linear = torch.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
        matrix, white = (torch.tensor(v, dtype=torch.float64) for v in (RGB_TO_XYZ, WHITE_XYZ))
        tables = linear[:, None, None] * (matrix / white[:, None]).T
        for channel, name in enumerate(("red", "green", "blue")):
            self.register_buffer(name, tables[:, channel].float().contiguous())
        # L = 116 fy - 16, a = 500 (fx - fy), b = 200 (fy - fz), with mean and std folded in.
        factors, shifts = (116.0, 500.0, 200.0), (-16.0, 0.0, 0.0)
        triples = list(zip(factors, shifts, mean, std, strict=True))
        self.scale = [factor / std for factor, _, _, std in triples]
        self.offset = [(shift - mean) / std for _, shift, mean, std in triples]

    def forward(self, images_bhw3: torch.Tensor) -> torch.Tensor:
        red, green, blue = images_bhw3.int().unbind(-1)  # int: the exporter supports no smaller index type
        xyz = embedding(red, self.red) + embedding(green, self.green) + embedding(blue, self.blue)
        fx, fy, fz = lab_curve(xyz).unbind(-1)
        lab = (fy, fx - fy, fy - fz)
        planes = [v * s + o for v, s, o in zip(lab, self.scale, self.offset, strict=True)]
        return torch.stack(planes, dim=1)


def lab_curve(t: torch.Tensor) -> torch.Tensor:
    """CIE 15: the cube root, and below LAB_BREAK its tangent.

    Because the line is the tangent, the curve is the sum of two terms without a branch. exp and log are
    vectorised in ONNX Runtime, pow is not.
    """
    above = t.clamp_min(LAB_BREAK)
    return (above.log() * (1 / 3)).exp() + LAB_SLOPE * (t - above)
