"""The skin around a lesion: shading, mottling, skin lines, freckles and small vessels."""

from dataclasses import dataclass

import numpy as np

from melfast.prepare.synth.fields import Float, fractal, lowpass, oriented, random_field, smoothstep


@dataclass(frozen=True)
class SkinType:
    """Properties of the skin of a patient.

    Attributes:
        freckles, vessels, lines, mottling: strengths from 0.
        grain: wavelength of the skin lines, in units of sqrt(height * width).
    """

    freckles: float
    vessels: float
    lines: float
    mottling: float
    grain: float


def draw_skin_type(rng: np.random.Generator, ita_deg: float) -> SkinType:
    """Freckles and visible vessels belong to light skin, marked skin lines more to dark."""
    light = float(np.clip((ita_deg + 10) / 60, 0, 1))
    return SkinType(
        freckles=float(rng.random() < 0.12 + 0.15 * light) * float(rng.uniform(0.3, 1.0)),
        vessels=light * float(rng.random() < 0.45) * float(rng.uniform(0.3, 1.0)),
        lines=float(rng.gamma(2.0, 0.35)) * (1.2 - 0.5 * light),
        mottling=float(rng.uniform(0.4, 1.3)),
        grain=float(rng.uniform(0.016, 0.034)),
    )


def draw_surface(
    rng: np.random.Generator, shape: tuple[int, int], skin: SkinType, lightness: float
) -> tuple[Float, Float, Float]:
    """How L*, a* and b* differ from the base colour of the skin, each [height, width].

    Args:
        lightness: L* of the base colour; what is seen on skin scales with it.
    """
    contrast = 0.35 + 0.65 * float(np.clip((lightness - 30) / 40, 0, 1))
    height, width = shape
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    tilt = rng.normal(0, 2.2, 2).astype(np.float32)
    falloff = np.float32(rng.uniform(0, 9))
    shade = tilt[0] * x + tilt[1] * y - falloff * (x * x + y * y)
    shade += np.float32(1.1) * random_field(rng, shape, lowpass(0.45), 0.25)

    # Melanin and blood vary from place to place, each along its own line in CIELAB.
    melanin = random_field(rng, shape, fractal(0.18, 1.7), 0.012)
    blood = random_field(rng, shape, fractal(0.25, 1.8), 0.016)
    melanin *= np.float32(skin.mottling * contrast)
    blood *= np.float32(0.9 * skin.mottling * contrast)
    if skin.freckles:
        spots = random_field(rng, shape, fractal(0.07, 2.0), 0.012)
        melanin += np.float32(4.0 * skin.freckles * contrast) * smoothstep(1.3, 2.3, spots)
    if skin.vessels:
        blood += np.float32(4.5 * skin.vessels) * _vessels(rng, shape)
    furrows = _skin_lines(rng, shape, skin.grain)
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise += np.float32(1.2) * random_field(rng, shape, fractal(0.02, 1.0), 0.005)
    shade += np.float32(skin.lines * contrast) * furrows - np.float32(1.1) * melanin
    shade += np.float32(rng.uniform(0.3, 0.9)) * noise - np.float32(0.55) * blood
    return shade, 0.45 * melanin + blood, 0.6 * melanin - 0.1 * blood


def _skin_lines(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Float:
    """Crossing furrows that divide the skin into small rhombs; <= 0 in the furrows."""
    angle = float(rng.uniform(0, np.pi))
    crossing = angle + float(rng.uniform(0.9, 1.6))
    first = random_field(rng, shape, oriented(grain, 0.3, angle, 0.28), grain / 1.8)
    second = random_field(rng, shape, oriented(grain * 1.2, 0.3, crossing, 0.35), grain / 1.5)
    fine = random_field(rng, shape, oriented(grain / 2, 0.5, crossing, 0.2), grain / 5)
    sheen = np.exp(-((fine / np.float32(0.25)) ** 2))
    return np.minimum(first, 0) + np.float32(0.8) * np.minimum(second, 0) + np.float32(0.7) * sheen


def _vessels(rng: np.random.Generator, shape: tuple[int, int]) -> Float:
    """Thin branching lines, here and there; 0..1."""
    wander = random_field(rng, shape, fractal(0.14, 2.6), 0.02)
    slope_y, slope_x = np.gradient(wander)
    # A contour as thin as the field is steep there: lines of even width.
    steep = np.hypot(slope_x, slope_y) * np.float32((shape[0] * shape[1]) ** 0.5 * 0.0022) + 1e-6
    where = smoothstep(0.2, 1.2, random_field(rng, shape, lowpass(0.2), 0.1))
    return np.exp(-((wander / steep) ** 2)) * where
