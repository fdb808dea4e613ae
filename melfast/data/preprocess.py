"""Preprocess: what is done to an image before the network; every executor and engine reads it.

Stored in the checkpoint and in the ONNX metadata. The steps, in order: decode to uint8 sRGB (EXIF
orientation applied), resize to `height` x `width` (antialiased, stretched), augmentation when
training, all but the lesion black where `masked`, colour conversion,
`(value - mean) / std` per channel.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from melfast import core
from melfast.io.errors import InputError
from melfast.io.words import check_words

ColourSpace = Literal["rgb", "cielab"]

# Values as the network sees them before mean and std: RGB in 0..1, CIELAB with L in 0..100.
RGB_MEAN, RGB_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet, as timm's models expect
LAB_MEAN, LAB_STD = (65.0, 20.0, 10.0), (15.0, 10.0, 10.0)  # round figures near dermoscopy's own


@check_words
@dataclass(frozen=True)
class Preprocess:
    """Input size, colour space and normalisation of a model.

    Attributes:
        height, width: pixels of the model's input.
        colour: `rgb` (0..1) or `cielab` (D65, 2 degrees; L 0..100, a and b about -128..127).
        mean, std: per channel, in the units of `colour`.
        masked: everything outside of the lesion's mask is black; each image needs a mask.
    """

    height: int
    width: int
    colour: ColourSpace = "rgb"
    mean: tuple[float, float, float] = RGB_MEAN
    std: tuple[float, float, float] = RGB_STD
    masked: bool = False

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"preprocess size must be >= 1 x 1, got {self.height} x {self.width}")
        if min(self.std) <= 0:
            raise InputError(f"preprocess.std must be > 0 in each channel, got {self.std}")

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour in uint8 sRGB, which a network sees as nothing."""
        if self.colour == "cielab":
            levels = core.lab_to_srgb(np.array(self.mean, np.float32))
        else:
            levels = np.rint(255 * np.clip(self.mean, 0, 1)).astype(np.uint8)
        red, green, blue = levels.tolist()
        return red, green, blue

    @classmethod
    def for_colour(cls, height: int, width: int, colour: ColourSpace) -> "Preprocess":
        """The usual mean and std of a colour space."""
        mean, std = (LAB_MEAN, LAB_STD) if colour == "cielab" else (RGB_MEAN, RGB_STD)
        return cls(height, width, colour, mean, std)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Preprocess":
        """Raises InputError where the record has other keys than the fields."""
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
            return cls(**fields)
        except TypeError as error:
            raise InputError(f"preprocess record {record}: {error}") from None
