"""draw_sample: draw one synthetic dermoscopic image with its complete ground truth."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

from melfast.prepare.synth.artefacts import Artefacts, draw_artefacts, draw_layers
from melfast.prepare.synth.canvas import REACH
from melfast.prepare.synth.cohort import draw_patient_ita, make_case
from melfast.prepare.synth.colour import SkinColour, draw_skin_colour, lab_to_linear, linear_to_srgb, srgb_to_linear
from melfast.prepare.synth.fields import Float, smoothstep
from melfast.prepare.synth.lesion import draw_lesion
from melfast.prepare.synth.pigment import Pigment
from melfast.prepare.synth.skin import draw_skin_type, draw_surface
from melfast.prepare.synth.traits import Traits, draw_traits, lesion_radius
from melfast.skin.locus import ITA_RANGE

DEFAULT_SIZE = (600, 450)
DEFAULT_MALIGNANT = 0.3

# Optical density in red, green and blue of a unit of each pigment; melanin's is the lesion's hue.
_DEEP = (1.15, 0.95, 0.7)
_BLOOD = (0.2, 1.0, 0.85)
_VEIL = srgb_to_linear(120, 122, 138)
_SURFACE = np.float32(0.005)  # reflection of the surface, even over a black lesion


@dataclass(frozen=True)
class SynthSample:
    """An image and its truth.

    Attributes:
        image: uint8 [H, W, 3], sRGB, before JPEG.
        mask: bool [H, W], True on the lesion: pigment at half its height or more at the border.
        skin: bool [H, W], True on clean skin: no lesion or its fading border, hair or its shadow,
            ruler, bubble or vignette. Its median colour is `colour`.
        colour: base colour of the skin, CIELAB D65.
        target: 1 malignant, 0 benign.
        patient, lesion: numbers from 0.
        artefacts: those in the image.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    skin: NDArray[np.bool_]
    colour: SkinColour
    target: int
    patient: int
    lesion: int
    artefacts: Artefacts

    @property
    def ita_deg(self) -> float:
        """True individual typology angle of the skin, degrees."""
        return self.colour.ita_deg


def draw_sample(
    seed: int, index: int, size: tuple[int, int] = DEFAULT_SIZE, malignant: float = DEFAULT_MALIGNANT
) -> SynthSample:
    """Draws image number `index` (from 0) of the endless data set given by `seed`.

    Args:
        size: (width, height) in pixels.
        malignant: fraction of the lesions that are malignant; 0.3 by default, more than the clinic
            sees, so that small sets hold enough of them.
    """
    width, height = size
    case = make_case(seed, index, malignant)
    patient_ita = draw_patient_ita(seed, case.patient, case.patient_rng)
    skin_type = draw_skin_type(case.patient_rng, patient_ita)
    redness = min(10.0, float(case.patient_rng.gamma(1.1, 2.2))) * float(np.clip((patient_ita + 40) / 80, 0.2, 1))
    rng = case.view_rng
    ita = float(np.clip(patient_ita + rng.normal(0, 1.5), *ITA_RANGE))
    colour = draw_skin_colour(rng, ita, redness + float(rng.normal(0, 1.0)))
    traits = draw_traits(case.lesion_rng, case.target)
    lesion = draw_lesion(case.lesion_rng, traits, _canvas_size(traits, size))
    artefacts = draw_artefacts(rng)
    view = _draw_view(rng, size, lesion.radius)
    layers = draw_layers(rng, artefacts, (height, width), ita)
    surface = draw_surface(rng, (height, width), skin_type, colour.l)

    mask, skin = np.zeros((height, width), bool), np.ones((height, width), bool)
    ramp = view.sample(np.clip(lesion.outline / lesion.softness, -4, 4), outside=-4)
    mask[view.box], skin[view.box] = ramp > 0, ramp < -1
    for layer in layers:
        skin &= ~layer.touched
    rgb = _clean_skin(colour, surface, skin)
    _paint_pigment(rgb[view.box], lesion.pigment, view, smoothstep(-1, 1, ramp), colour.l)
    for layer in layers:
        layer.paint(rgb)
    return SynthSample(linear_to_srgb(rgb), mask, skin, colour, case.target, case.patient, case.lesion, artefacts)


@dataclass(frozen=True)
class _View:
    """Placement of the canvas of a lesion in an image.

    Attributes:
        box: rows and columns of the image that the canvas covers.
        centre: centre of the lesion, x and y in pixels.
        radius_px: lesion radius in pixels.
        angle: rotation of the lesion, radians.
    """

    box: tuple[slice, slice]
    centre: tuple[float, float]
    radius_px: float
    angle: float

    def sample(self, canvas: Float, outside: float = 0) -> Float:
        """The canvas as seen in the box, bilinear."""
        rows, columns = self.box
        scale = (len(canvas) - 1) / (2 * REACH * self.radius_px)
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        x, y = columns.start - self.centre[0], rows.start - self.centre[1]
        middle = len(canvas) / 2
        affine = (cos, sin, middle + cos * x + sin * y, -sin, cos, middle - sin * x + cos * y)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        picture = Image.fromarray(canvas).transform(
            size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=outside
        )
        return np.asarray(picture)


def _draw_view(rng: np.random.Generator, size: tuple[int, int], radius: float) -> _View:
    """Any angle, some zoom, near the centre; larger lesions are closer to it."""
    width, height = size
    radius_px = (width * height) ** 0.5 * radius * float(rng.uniform(0.92, 1.08))
    room = np.maximum(np.array(size) / 2 - 0.9 * radius_px, 0.06 * np.array(size))
    x, y = np.array(size) / 2 + room * np.clip(rng.normal(0, 0.3, 2), -1, 1)
    reach = 0.97 * REACH * radius_px
    rows = slice(max(0, int(y - reach)), min(height, int(y + reach) + 1))
    columns = slice(max(0, int(x - reach)), min(width, int(x + reach) + 1))
    return _View((rows, columns), (float(x), float(y)), radius_px, float(rng.uniform(0, 2 * np.pi)))


def _canvas_size(traits: Traits, size: tuple[int, int]) -> int:
    """About one canvas pixel per image pixel, up to a limit."""
    pixels = 2 * REACH * lesion_radius(traits) * (size[0] * size[1]) ** 0.5
    return int(scipy.fft.next_fast_len(int(np.clip(pixels, 48, 420)), real=True))


def _clean_skin(colour: SkinColour, surface: tuple[Float, Float, Float], skin: NDArray[np.bool_]) -> Float:
    """Linear rgb of the skin, its median over `skin` the base colour."""
    planes = []
    for base, plane in zip((colour.l, colour.a, colour.b), surface, strict=True):
        middle = float(np.median(plane[skin])) if skin.any() else 0.0
        planes.append(plane + np.float32(base - middle))
    return lab_to_linear(planes[0], planes[1], planes[2])


def _paint_pigment(rgb: Float, pigment: Pigment, view: _View, alpha: Float, lightness: float) -> None:
    """Pigment over skin, absorbing by the Beer-Lambert law, so lesions on darker skin are darker."""
    melanin = alpha * view.sample(pigment.melanin)
    deep = alpha * view.sample(pigment.deep)
    blood = alpha * view.sample(pigment.blood)
    veil = alpha * view.sample(pigment.veil)
    white = alpha * view.sample(pigment.white)
    # A veil is light scattered in the dermis; the melanin of darker skin lies above it and dims it.
    bright = float(np.clip((lightness / 65.0) ** 2.4, 0.2, 1.2))
    for c in range(3):
        plane = rgb[..., c]
        pale = np.float32(1.12) * plane
        plane *= np.exp(-(pigment.hue[c] * melanin + _DEEP[c] * deep + _BLOOD[c] * blood))
        plane += _SURFACE * alpha
        plane += white * (pale - plane)
        plane += veil * (np.float32(bright * _VEIL[c]) - plane)
