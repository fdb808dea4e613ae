"""Artefacts: hair, rulers, gel bubbles and the dark round border."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from melfast.prepare.synth.colour import srgb_to_linear
from melfast.prepare.synth.fields import Float, smoothstep

Mask = NDArray[np.bool_]

# Lines are drawn this much larger and averaged down, which smooths their edges.
_OVERSAMPLE = 3
_DARK_HAIR = ((24, 17, 14), (48, 30, 22), (70, 48, 34))
_LIGHT_HAIR = ((176, 148, 112), (205, 190, 165), (225, 222, 218))


@dataclass(frozen=True)
class Artefacts:
    """Which artefacts an image has."""

    hair: bool
    vignette: bool
    ruler: bool
    bubbles: bool


def draw_artefacts(rng: np.random.Generator) -> Artefacts:
    """Independent of the class and of each other, about as often as in public collections."""
    hair, vignette, ruler, bubbles = rng.random(4) < (0.45, 0.25, 0.15, 0.15)
    return Artefacts(bool(hair), bool(vignette), bool(ruler), bool(bubbles))


@dataclass(frozen=True)
class Layer:
    """A layer on top of the picture: linear rgb becomes rgb * keep + cover * colour.

    Attributes:
        keep, cover: float32 [height, width].
        colour: linear rgb [3].
    """

    keep: Float
    cover: Float
    colour: Float

    def paint(self, rgb: Float) -> None:
        rgb *= self.keep[..., None]
        rgb += self.cover[..., None] * self.colour

    @property
    def touched(self) -> Mask:
        """Pixels that the layer changes visibly."""
        return self.keep < np.float32(0.997)


def draw_layers(rng: np.random.Generator, artefacts: Artefacts, shape: tuple[int, int], ita_deg: float) -> list[Layer]:
    """The artefacts of an image of `shape` (height, width), lowest first."""
    layers = []
    if artefacts.hair:
        layers.append(_hair(rng, shape, ita_deg))
    if artefacts.bubbles:
        layers.append(_bubbles(rng, shape))
    if artefacts.ruler:
        layers.append(_ruler(rng, shape))
    if artefacts.vignette:
        layers.append(_vignette(rng, shape))
    return layers


def _hair(rng: np.random.Generator, shape: tuple[int, int], ita_deg: float) -> Layer:
    """Curved, tapered hairs with their shadow; or stubble."""
    height, width = shape
    unit = (height * width) ** 0.5
    stubble = rng.random() < 0.2
    many = int(rng.integers(8, 45)) if rng.random() < 0.4 else int(rng.integers(1, 8))
    grain = float(rng.uniform(0, np.pi))
    thick = unit * float(rng.uniform(0.0020, 0.0050))
    canvas = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    for _ in range(many * 2 if stubble else many):
        length = unit * float(rng.uniform(0.04, 0.1) if stubble else rng.uniform(0.25, 1.3))
        spine = _curve(rng, width, height, length, grain, 0.15 if stubble else 0.35)
        outline = _taper(spine, thick * float(rng.uniform(0.6, 1.3)))
        draw.polygon((_OVERSAMPLE * outline).ravel().tolist(), fill=255)
    small = canvas.reduce(_OVERSAMPLE)
    blurred = small.filter(ImageFilter.GaussianBlur(unit * 0.004))
    offset = [round(unit * float(rng.uniform(-0.006, 0.006))) for _ in range(2)]
    shadow = np.roll(np.asarray(blurred, np.float32) / 255, offset, (0, 1))
    light = rng.random() < (0.25 if ita_deg > 35 else 0.08)
    colours = _LIGHT_HAIR if light else _DARK_HAIR[: 2 if ita_deg < 10 else 3]
    colour = srgb_to_linear(*colours[int(rng.integers(len(colours)))])
    cover = np.float32(rng.uniform(0.75, 0.95) / 255) * np.asarray(small, np.float32)
    return Layer((1 - np.float32(0.3) * shadow) * (1 - cover), cover, colour)


def _curve(
    rng: np.random.Generator, width: int, height: int, length: float, grain: float, bend: float
) -> NDArray[np.float64]:
    """Points [20, 2] of a cubic curve through a random place of the image."""
    middle = rng.uniform(-0.05, 1.05, 2) * (width, height)
    heading = grain + rng.normal(0, 0.35)
    turn = rng.normal(0, bend) + rng.normal(0, bend) * np.linspace(-1, 1, 20)
    angles = heading + np.linspace(-1, 1, 20) * turn
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * (length / 19)
    path = np.cumsum(steps, axis=0)
    return path - path[10] + middle


def _taper(spine: NDArray[np.float64], thickness: float) -> NDArray[np.float64]:
    """The outline of a hair, thick at its root and thin at its tip."""
    tangent = np.gradient(spine, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
    half = 0.5 * thickness * np.linspace(1.0, 0.25, len(spine))[:, None]
    return np.concatenate([spine + half * normal, (spine - half * normal)[::-1]])


def _ruler(rng: np.random.Generator, shape: tuple[int, int]) -> Layer:
    """A millimetre scale: with a base line near the lower edge, or only ticks at any edge."""
    height, width = shape
    unit = (height * width) ** 0.5
    canvas = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    based = rng.random() < 0.5
    tilt = float(rng.normal(0, 0.06)) if based else 0.5 * np.pi * int(rng.integers(4))
    along = np.array([np.cos(tilt), np.sin(tilt)])
    across = np.array([along[1], -along[0]])  # towards the middle of the image
    half = np.array([width, height]) / 2
    edge = half - across * half * (0.84 if based else 1.0)
    gap, tick = unit * float(rng.uniform(0.035, 0.055)), unit * 0.022
    ticks = int(2 * abs(along @ half) * rng.uniform(0.45, 0.75) / gap)
    start = edge - along * gap * ticks / 2
    pen = max(2, round(_OVERSAMPLE * unit * 0.0026))
    for number in range(ticks + 1):
        foot = start + along * (gap * number)
        top = foot + across * tick * (1.8 if number % 5 == 0 else 1.0)
        draw.line((_OVERSAMPLE * np.r_[foot, top]).tolist(), fill=255, width=pen)
    if based:
        end = start + along * gap * ticks
        draw.line((_OVERSAMPLE * np.r_[start, end]).tolist(), fill=255, width=pen)
        place = _OVERSAMPLE * (start - across * tick * 0.4)
        draw.text((place[0], place[1]), "mm", fill=255, font_size=_OVERSAMPLE * unit * 0.032)
    ink = np.asarray(canvas.reduce(_OVERSAMPLE), np.float32) * np.float32(rng.uniform(0.6, 0.9) / 255)
    return Layer(1 - ink, ink, np.full(3, 0.012, np.float32))


def _bubbles(rng: np.random.Generator, shape: tuple[int, int]) -> Layer:
    """Bubbles in the immersion gel: a few anywhere, or foam in one place."""
    height, width = shape
    unit = (height * width) ** 0.5
    layer = Layer(np.ones(shape, np.float32), np.zeros(shape, np.float32), np.full(3, 0.9, np.float32))
    foam = rng.random() < 0.4
    middle = rng.uniform(0, 1, 2) * (width, height)
    for _ in range(int(rng.integers(12, 40) if foam else rng.integers(1, 7))):
        if foam:
            place = middle + rng.normal(0, 0.09 * unit, 2)
            radius = unit * float(rng.uniform(0.005, 0.022))
        else:
            place = rng.uniform(0, 1, 2) * (width, height)
            radius = unit * min(0.12, float(rng.gamma(2.0, 0.018)) + 0.008)
        _add_bubble(rng, layer, place, radius)
    return layer


def _add_bubble(rng: np.random.Generator, layer: Layer, place: NDArray[np.float64], radius: float) -> None:
    """A bubble: a bright rim lit from one side, dark inside, with a glint."""
    height, width = layer.keep.shape
    reach = 1.25 * radius + 2
    angle, strength = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.25, 0.65))
    x0, x1 = max(0, int(place[0] - reach)), min(width, int(place[0] + reach) + 1)
    y0, y1 = max(0, int(place[1] - reach)), min(height, int(place[1] + reach) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    y, x = np.ogrid[y0:y1, x0:x1]
    dx, dy = (x - place[0]) / radius, (y - place[1]) / radius
    distance = np.hypot(dx, dy)
    thin = max(0.05, 0.9 / radius)
    lit = 0.55 + 0.45 * np.cos(np.arctan2(dy, dx) - angle)
    rim = strength * lit * np.exp(-(((distance - 0.97) / thin) ** 2))
    dark = 0.35 * strength * np.exp(-(((distance - 0.97) / thin + 1.7) ** 2))
    glint = np.exp(-((dx - 0.5 * np.cos(angle)) ** 2 + (dy - 0.5 * np.sin(angle)) ** 2) / 0.012)
    sheen = 0.06 * strength * smoothstep(0.0, 0.1, 1 - distance)
    white = np.clip(rim + 0.9 * glint + sheen, 0, 1)
    box = (slice(y0, y1), slice(x0, x1))
    keep = ((1 - dark) * (1 - white)).astype(np.float32)
    layer.keep[box] *= keep
    layer.cover[box] = layer.cover[box] * keep + white.astype(np.float32)


def _vignette(rng: np.random.Generator, shape: tuple[int, int]) -> Layer:
    """The dark round border of a dermoscope."""
    height, width = shape
    unit = (height * width) ** 0.5
    radius = np.hypot(width, height) / 2 * float(rng.uniform(0.76, 0.97))
    centre = np.array([width, height]) / 2 + rng.normal(0, 0.015 * unit, 2)
    soft = unit * float(rng.uniform(0.004, 0.05))
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(x - centre[0], y - centre[1]).astype(np.float32)
    dark = smoothstep(radius - soft, radius + soft, distance)
    glow = np.full(3, rng.uniform(0.0, 0.006), np.float32)
    return Layer(1 - dark, dark, glow)
