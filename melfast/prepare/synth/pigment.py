"""The pigment in a lesion: brown with network and globules, patches, blue-white veil, white."""

from dataclasses import dataclass

import numpy as np

from melfast.prepare.synth.canvas import REACH, blotches, canvas_field
from melfast.prepare.synth.fields import Float, bandpass, random_field, sigmoid, smoothstep
from melfast.prepare.synth.traits import Traits, lesion_radius


@dataclass(frozen=True)
class Pigment:
    """Pigments of a lesion; maps are float32 [n, n].

    Attributes:
        melanin: brown pigment, a density; `hue` times it is the optical density.
        deep: grey-blue dermal pigment, a density.
        blood: haemoglobin, an optical density in green.
        veil, white: opacity of blue-white veil, and of scar-like or milia-like white.
        hue: optical density of unit melanin in red, green and blue.
    """

    melanin: Float
    deep: Float
    blood: Float
    veil: Float
    white: Float
    hue: tuple[float, float, float]


def draw_pigment(rng: np.random.Generator, traits: Traits, x: Float, y: Float, rho: Float) -> Pigment:
    """Draws the pigment of a lesion.

    Args:
        x, y: coordinates on the canvas, in lesion radii.
        rho: distance from the centre, 1 at the border of the lesion's ellipse.
    """
    red, green, blue = rng.uniform((0.5, 1.15, 1.7), (0.75, 1.35, 2.2))
    blood = np.full_like(rho, max(0.0, float(rng.normal(0.08, 0.12))))
    zero = np.zeros_like(rho)
    melanin = _melanin(rng, traits, x, y, rho)
    hue = (float(red), float(green), float(blue))
    pigment = Pigment(melanin, zero.copy(), blood, zero.copy(), zero.copy(), hue)
    if rng.random() < 0.04:  # blue naevus: grey-blue without being malignant
        pigment.melanin[:] *= 0.35
        pigment.deep[:] += np.float32(rng.uniform(0.6, 1.1))
    _add_patches(rng, traits, x, y, pigment)
    _add_veil(rng, traits, x, y, pigment.veil)
    _add_white(rng, traits, x, y, pigment.white)
    return pigment


def _melanin(rng: np.random.Generator, traits: Traits, x: Float, y: Float, rho: Float) -> Float:
    """Brown pigment with its network and globules."""
    n = len(x)
    colours, asymmetry = sigmoid(traits.colours - 0.6), sigmoid(traits.asymmetry - 0.6)
    density = float(np.clip(0.75 * np.exp(0.38 * traits.darkness), 0.22, 2.2))
    melanin = 1 + np.float32(0.12 + 0.2 * colours) * canvas_field(rng, n, 0.9, 1.5, 0.03)
    # Naevi are often darker in the middle, some at the rim; both evenly all round.
    melanin += np.float32(rng.normal(0.3, 0.35)) * (0.55 - rho)
    angle = float(rng.uniform(0, 2 * np.pi))
    tilt = np.float32(0.75 * asymmetry * rng.random())
    melanin += tilt * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
    if rng.random() < 0.62:
        melanin *= _network(rng, traits, x, y, rho)
    if rng.random() < 0.5:
        melanin += _globules(rng, traits, x, y)
    return np.maximum(melanin, 0.06) * np.float32(density)


def _network(rng: np.random.Generator, traits: Traits, x: Float, y: Float, rho: Float) -> Float:
    """Pigment network, a factor around 1: a regular honeycomb in naevi, warped and broken in melanoma."""
    n = len(x)
    atypia = sigmoid(1.3 * (traits.network - 0.5))
    hole = 0.016 / lesion_radius(traits) * float(rng.uniform(0.8, 1.3)) * (1 + 0.5 * atypia)
    warp = np.float32(hole * (0.3 + 0.5 * atypia))
    wx, wy = x + warp * blotches(rng, n, 5 * hole), y + warp * blotches(rng, n, 5 * hole)
    turn, wave = rng.uniform(0, np.pi), 2 * np.pi / hole
    comb = np.zeros_like(x)
    for third in range(3):
        along = turn + third * np.pi / 3
        comb += np.cos(np.float32(wave) * (np.float32(np.cos(along)) * wx + np.float32(np.sin(along)) * wy))
    comb += np.float32(0.4 + 1.0 * atypia) * random_field(
        rng, (n, n), bandpass(1.3 * hole / (2 * REACH), 0.3), hole / (2 * REACH) / 1.6
    )
    lines = 1 - smoothstep(-1.3, 0.7, comb)
    patchy = blotches(rng, n, 0.7)
    weight = smoothstep(-0.4 + atypia, 0.9, patchy) if atypia > 0.4 else smoothstep(0.1, 0.7, rho)
    strength = np.float32(rng.uniform(0.2, 0.75) * (0.8 + 0.6 * atypia))
    return 1 + strength * weight * (lines - np.float32(0.45))


def _globules(rng: np.random.Generator, traits: Traits, x: Float, y: Float) -> Float:
    """Dots and globules: uniform and evenly spread in naevi, otherwise of all sizes and clustered."""
    n = len(x)
    atypia = sigmoid(1.3 * (traits.globules - 0.5))
    count = int(rng.integers(25, 110))
    radius = np.sqrt(rng.random(count)) * rng.uniform(0.75, 1.0)
    angle = rng.uniform(0, 2 * np.pi, count)
    if rng.random() < atypia:  # to one side, or a rim that is not all round
        angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.7, count)
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    size = 0.0075 / lesion_radius(traits) * np.exp(rng.normal(0, 0.1 + 0.4 * atypia, count))
    spots = np.zeros_like(x)
    step = 2 * REACH / (n - 1)
    for cx, cy, r in zip(px, py, size, strict=True):
        reach = max(1.5, 2.2 * r / step)
        column, row = (cx + REACH) / step, (cy + REACH) / step
        rows = slice(max(0, int(row - reach)), int(row + reach) + 2)
        columns = slice(max(0, int(column - reach)), int(column + reach) + 2)
        distance = np.hypot(x[rows, columns] - cx, y[rows, columns] - cy) / r
        spots[rows, columns] = np.maximum(spots[rows, columns], np.exp(-(distance**4)))
    return np.float32(rng.uniform(0.5, 1.3)) * spots


def _blob(rng: np.random.Generator, x: Float, y: Float, low: float, high: float, spread: float = 0.75) -> Float:
    """A ragged patch somewhere in the lesion; 0..1."""
    angle, away = rng.uniform(0, 2 * np.pi), spread * np.sqrt(rng.random())
    size = rng.uniform(low, high)
    distance = np.hypot(x - away * np.cos(angle), y - away * np.sin(angle)) / size
    ragged = 1 - distance + 0.3 * canvas_field(rng, len(x), 0.6, 2.0, 0.06)
    return smoothstep(-0.35, 0.65, ragged.astype(np.float32))


def _add_patches(rng: np.random.Generator, traits: Traits, x: Float, y: Float, pigment: Pigment) -> None:
    """Patches of other browns, black, red and grey; more of them with a higher colour score."""
    melanin = pigment.melanin
    count = int(rng.poisson(0.35 + 3.2 * sigmoid(1.4 * (traits.colours - 0.9))))
    for _ in range(min(count, 6)):
        patch = _blob(rng, x, y, 0.18, 0.6) * np.float32(rng.uniform(0.5, 1.0))
        kind = rng.choice(("dark", "light", "red", "grey", "white"), p=(0.42, 0.27, 0.18, 0.08, 0.05))
        if kind == "dark":
            melanin *= 1 + 0.9 * patch
            melanin += 0.45 * patch
        elif kind == "light":
            melanin *= 1 - 0.7 * patch
        elif kind == "red":
            pigment.blood[:] += 0.5 * patch
            melanin *= 1 - 0.5 * patch
        elif kind == "grey":
            pigment.deep[:] += 0.55 * patch
            melanin *= 1 - 0.5 * patch
        else:
            np.maximum(pigment.white, 0.45 * patch, out=pigment.white)


def _add_veil(rng: np.random.Generator, traits: Traits, x: Float, y: Float, veil: Float) -> None:
    """Blue-white veil: a confluent structureless area, rarely outside melanoma."""
    if rng.random() < sigmoid(3.0 * (traits.veil - 2.2)):
        amount = np.float32(rng.uniform(0.35, 0.75))
        uneven = np.clip(1 + np.float32(0.35) * canvas_field(rng, len(x), 0.8, 1.4, 0.04), 0.2, 1.3)
        np.maximum(veil, amount * uneven * _blob(rng, x, y, 0.35, 0.75, 0.45), out=veil)


def _add_white(rng: np.random.Generator, traits: Traits, x: Float, y: Float, white: Float) -> None:
    """Scar-like regression, or the milia-like cysts of keratoses."""
    if rng.random() < sigmoid(3.0 * (traits.regression - 2.1)):
        amount = np.float32(rng.uniform(0.4, 0.75))
        np.maximum(white, amount * _blob(rng, x, y, 0.25, 0.55, 0.6), out=white)
    if rng.random() < 0.06:
        cysts = smoothstep(1.9, 2.4, blotches(rng, len(x), 0.16))
        np.maximum(white, 0.6 * cysts, out=white)
