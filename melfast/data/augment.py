"""Random augmentation of training images, drawn at once for all records of an epoch."""

from dataclasses import field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from melfast.io.schema import Fraction, checked, refused

Geometry = Literal["random", "published"]
# The variants of a malignant image under published geometry; benign images have only the first.
VARIANTS = ("original", "horizontal flip", "vertical flip", "rotation", "translation")
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
# Rec. 601 luma, the axis of saturation and hue, and the chroma axes of YIQ.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_ERASE_RATIO = 0.3  # height over width of an erased box: from this to its inverse
_Part = Annotated[float, Field(gt=0, lt=1)]
_Ita = Annotated[float, Field(ge=-60, le=75)]


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise refused("two rising numbers", list(pair))
    return pair


@checked()
class Augment:
    """Random changes to training images; a strength of 0 switches one off.

    Attributes:
        geometry: `random`: every change below is drawn again for every image. `published`: a malignant
            image has five variants (original, both flips, rotation, translation), so the epoch grows;
            a benign image has only the original; flips, scale and crops are not used.
        hflip, vflip: probability of mirroring.
        rotation_deg: largest rotation in either direction, degrees.
        translation: largest shift, as a fraction of the side.
        scale: largest zoom in either direction, as a fraction (0.1: 0.9 to 1.1).
        crop: smallest fraction of the image's area that a random crop keeps; 1: no crops.
        crop_ratio: largest aspect ratio of the crop relative to that of the image; its inverse is the
            smallest.
        brightness, contrast, saturation: largest change of the factor (0.2: 0.8 to 1.2); contrast
            is about mid grey.
        hue: largest shift in either direction, as a fraction of the colour circle.
        erase: probability that a box is filled with the mean colour.
        erase_area: smallest and largest fraction of the image that the box covers.
        mask: probability that everything outside the lesion is made black.
        skin_former: probability, per tone group name, that the skin is moved to another ITA.
        skin_former_ita: range of the new ITA, in degrees.
    """

    geometry: Geometry = "random"
    hflip: Fraction = 0.5
    vflip: Fraction = 0.5
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    translation: Fraction = 0.1
    scale: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    # Decoding keeps enough detail for crops of up to four times zoom per side.
    crop: Annotated[float, Field(ge=0.05, le=1)] = 1.0
    crop_ratio: Annotated[float, Field(ge=1, le=4)] = 4 / 3
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    erase: Fraction = 0.0
    erase_area: Annotated[tuple[_Part, _Part], AfterValidator(_rising)] = (0.02, 0.33)
    mask: Fraction = 0.0
    skin_former: dict[str, Fraction] = field(default_factory=dict)
    skin_former_ita: Annotated[tuple[_Ita, _Ita], AfterValidator(_rising)] = (-10.0, 28.0)

    @property
    def changes(self) -> bool:
        """Whether any image may be changed."""
        strengths = (
            self.hflip,
            self.vflip,
            self.rotation_deg,
            self.translation,
            self.scale,
            1 - self.crop,
            self.erase,
            self.mask,
            *self.skin_former.values(),
        )
        return self.geometry == "published" or self.jitters or any(strengths)

    @property
    def jitters(self) -> bool:
        """Whether colours change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


def draw_affine(rng: np.random.Generator, count: int, augment: Augment, aspect: float) -> NDArray[np.float32]:
    """Crop, shift, scale, rotation and flip composed into one matrix per record, float32 [N, 2, 3].

    Args:
        aspect: width / height of the model's input, so that rotations keep circles round.
    """
    # Every number is drawn even if unused, so switching one change off does not alter the others.
    flip_x = np.where(rng.random(count) < augment.hflip, -1.0, 1.0)
    flip_y = np.where(rng.random(count) < augment.vflip, -1.0, 1.0)
    angle = np.deg2rad(augment.rotation_deg) * rng.uniform(-1, 1, count)
    zoom = 1.0 + augment.scale * rng.uniform(-1, 1, count)
    shift = 2.0 * augment.translation * rng.uniform(-1, 1, (count, 2))
    affine = _compose(flip_x, flip_y, angle, zoom, shift, aspect)
    area = rng.uniform(augment.crop, 1, count)
    ratio = augment.crop_ratio ** rng.uniform(-1, 1, count)
    place = rng.uniform(-1, 1, (count, 2))
    if augment.crop < 1:
        side = np.minimum(np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1), 1)
        affine *= side[:, :, None]
        affine[:, :, 2] += place * (1 - side)
    return affine.astype(np.float32)


def draw_variants(
    rng: np.random.Generator, variant: NDArray[np.int64], augment: Augment, aspect: float
) -> NDArray[np.float32]:
    """The published matrix of each record, float32 [N, 2, 3]; `variant` indexes VARIANTS."""
    count = len(variant)
    flip_x, flip_y = np.where(variant == 1, -1.0, 1.0), np.where(variant == 2, -1.0, 1.0)
    angle = np.deg2rad(augment.rotation_deg) * rng.uniform(-1, 1, count) * (variant == 3)
    shift = 2.0 * augment.translation * rng.uniform(-1, 1, (count, 2)) * (variant == 4)[:, None]
    affine = _compose(flip_x, flip_y, angle, np.ones(count), shift, aspect)
    return affine.astype(np.float32)


def draw_jitter(rng: np.random.Generator, count: int, augment: Augment) -> NDArray[np.float32]:
    """Colour matrices on sRGB in 0..1, float32 [N, 3, 4]: brightness, contrast, saturation, hue."""
    strengths = (augment.brightness, augment.contrast, augment.saturation)
    factors = 1 + rng.uniform(-1, 1, (count, 3)) * strengths
    turn = 2 * np.pi * augment.hue * rng.uniform(-1, 1, count)
    brightness, contrast, saturation = factors.T
    chroma = np.zeros((count, 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(turn)
    chroma[:, 2, 1] = saturation * np.sin(turn)
    chroma[:, 1, 2] = -chroma[:, 2, 1]
    jitter = np.empty((count, 3, 4))
    jitter[:, :, :3] = np.linalg.inv(_YIQ) @ chroma @ _YIQ * (brightness * contrast)[:, None, None]
    jitter[:, :, 3] = (0.5 * (1 - contrast))[:, None]  # grey, which chroma does not change
    return jitter.astype(np.float32)


def draw_erase(rng: np.random.Generator, count: int, augment: Augment, height: int, width: int) -> NDArray[np.int32]:
    """Boxes y0, x0, y1, x1 in pixels of the model's input, int32 [N, 4]; all 0: none."""
    chosen = rng.random(count) < augment.erase
    area = rng.uniform(*augment.erase_area, count) * height * width
    ratio = _ERASE_RATIO ** rng.uniform(-1, 1, count)
    tall = np.clip(np.rint(np.sqrt(area * ratio)), 1, height)
    wide = np.clip(np.rint(np.sqrt(area / ratio)), 1, width)
    top = np.floor(rng.random(count) * (height - tall + 1))
    left = np.floor(rng.random(count) * (width - wide + 1))
    boxes = np.stack([top, left, top + tall, left + wide], axis=1)
    return np.where(chosen[:, None], boxes, 0).astype(np.int32)


def _compose(
    flip_x: NDArray[np.float64],
    flip_y: NDArray[np.float64],
    angle: NDArray[np.float64],
    zoom: NDArray[np.float64],
    shift: NDArray[np.float64],
    aspect: float,
) -> NDArray[np.float64]:
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    affine = np.empty((len(angle), 2, 3))
    affine[:, 0, 0], affine[:, 0, 1] = cos * flip_x, -sin * flip_y / aspect
    affine[:, 1, 0], affine[:, 1, 1] = sin * flip_x * aspect, cos * flip_y
    affine[:, :, 2] = shift
    return affine
