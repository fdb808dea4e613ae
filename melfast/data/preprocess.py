"""Preprocess: the steps applied to an image before the network; used by every loader and engine.

Stored in the checkpoint and in the ONNX metadata. The steps, in order: decode to uint8 sRGB (EXIF
orientation applied), resize to `height` x `width` (antialiased, stretched), augmentation when
training, everything outside the lesion black if `masked`, colour conversion,
`(value - mean) / std` per channel.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from melfast import core
from melfast.io.schema import checked

ColourSpace = Literal["rgb", "cielab"]

# Values as the network sees them before mean and std: RGB in 0..1, CIELAB with L in 0..100.
RGB_MEAN, RGB_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet, as timm's models expect
LAB_MEAN, LAB_STD = (65.0, 20.0, 10.0), (15.0, 10.0, 10.0)  # rounded values typical of dermoscopic images

# Bounds that no model needs to exceed, and that float32 and memory can handle.
Side = Annotated[int, Field(ge=1, le=4096)]
Mean = Annotated[float, Field(ge=-1e4, le=1e4)]
Std = Annotated[float, Field(ge=1e-4, le=1e4)]


@checked()
class Preprocess:
    """Input size, colour space and normalisation of a model.

    Attributes:
        height, width: pixels of the model's input.
        colour: `rgb` (0..1) or `cielab` (D65, 2 degrees; L 0..100, a and b about -128..127).
        mean, std: per channel, in the units of `colour`.
        masked: everything outside the lesion mask is black; each image needs a mask.
    """

    height: Side
    width: Side
    colour: ColourSpace = "rgb"
    mean: tuple[Mean, Mean, Mean] = RGB_MEAN
    std: tuple[Std, Std, Std] = RGB_STD
    masked: bool = False

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour in uint8 sRGB, which is 0 after normalisation."""
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
