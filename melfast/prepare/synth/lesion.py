"""A lesion: outline and pigment on a square canvas, from which every view is sampled."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from melfast.prepare.synth.canvas import REACH, canvas_field
from melfast.prepare.synth.fields import Float, sigmoid, smoothstep
from melfast.prepare.synth.pigment import Pigment, draw_pigment
from melfast.prepare.synth.traits import Traits, lesion_radius


@dataclass(frozen=True)
class Lesion:
    """A lesion on its canvas; maps are float32 [n, n] over -REACH..REACH lesion radii.

    Attributes:
        radius: radius of the lesion, in units of sqrt(height * width) of the image.
        outline: > 0 inside; about the distance to the border in lesion radii.
        softness: half width of the border's ramp, in lesion radii.
        pigment: pigment without the border ramp.
    """

    radius: float
    outline: Float
    softness: Float
    pigment: Pigment


def draw_lesion(rng: np.random.Generator, traits: Traits, n: int) -> Lesion:
    """Draws a lesion of given traits on an n x n canvas."""
    y, x = np.mgrid[-REACH : REACH : n * 1j, -REACH : REACH : n * 1j].astype(np.float32)
    outline, rho = _outline(rng, traits, x, y)
    pigment = draw_pigment(rng, traits, x, y, rho)
    return Lesion(lesion_radius(traits), outline, _softness(rng, traits, x, y), pigment)


def _outline(rng: np.random.Generator, traits: Traits, x: Float, y: Float) -> tuple[Float, Float]:
    """Signed outline, > 0 inside, one piece without holes; and the distance from the centre."""
    n = len(x)
    asymmetry, border = sigmoid(traits.asymmetry - 0.6), sigmoid(1.2 * (traits.border - 0.7))
    aspect = float(rng.uniform(0.68, 1.0))
    rho = np.hypot(x * np.float32(aspect**-0.5), y * np.float32(aspect**0.5)).astype(np.float32)
    theta = np.arctan2(y, x)
    reach = np.ones_like(rho)
    for k, strength in ((1, 0.16), (2, 0.13), (3, 0.12), (4, 0.06), (5, 0.05)):
        height = strength * (0.15 + 1.25 * asymmetry) * abs(rng.normal(0, 0.75))
        reach += np.float32(height) * np.cos(k * theta + np.float32(rng.uniform(0, 2 * np.pi)))
    # Ragged more on one side than on another.
    side = 0.6 + 0.5 * np.cos(theta - np.float32(rng.uniform(0, 2 * np.pi)))
    reach += np.float32(0.02 + 0.11 * border) * side * canvas_field(rng, n, 0.9, 1.9, 0.06)
    _add_streaks(rng, traits, theta, reach)
    outline = reach - rho
    for _ in range(rng.binomial(2, 0.75 * asymmetry)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.9)
        size = np.float32(rng.uniform(0.35, 0.6))
        bulge = np.hypot(x - away * np.cos(angle), y - away * np.sin(angle)).astype(np.float32)
        bulge -= 0.12 * border * canvas_field(rng, n, 0.7, 1.9, 0.06)
        outline = np.maximum(outline, size - bulge)
    outline = np.minimum(outline, np.float32(0.96 * REACH) - np.hypot(x, y)).astype(np.float32)
    return _one_piece(outline), rho


def _add_streaks(rng: np.random.Generator, traits: Traits, theta: Float, reach: Float) -> None:
    """Streaks and pseudopods: fingers of the border on part of it, all round in some naevi."""
    drawn = rng.random(3)
    if drawn[0] > sigmoid(1.6 * (traits.streaks - 1.5)):
        return
    fingers = int(rng.integers(24, 44))
    part = smoothstep(0.1, 0.7, np.cos(theta - np.float32(2 * np.pi * drawn[2])))
    if drawn[1] < 0.15:
        part = np.ones_like(theta)
    wander = sum(
        np.float32(rng.normal(0, 1.2)) * np.sin(k * theta + np.float32(rng.uniform(0, 2 * np.pi))) for k in range(2, 9)
    )
    uneven = 0.7 + 0.3 * np.cos(fingers * 3 // 8 * theta)  # a whole number of turns: no seam
    wave = np.maximum(np.cos(fingers * theta + wander), 0) * uneven
    reach += np.float32(rng.uniform(0.08, 0.18)) * part * wave


def _one_piece(outline: Float) -> Float:
    """Removes islands and fills holes, by changing signs, so that the outline stays continuous."""
    inside = outline > 0
    labels, count = ndimage.label(inside)
    if count > 1:
        main = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
        outline = np.where(inside & (labels != main), -outline, outline)
        inside = labels == main
    holes = ndimage.binary_fill_holes(inside) & ~inside
    return np.where(holes, np.abs(outline) + np.float32(1e-6), outline).astype(np.float32)


def _softness(rng: np.random.Generator, traits: Traits, x: Float, y: Float) -> Float:
    """Border ramp: gradual in most naevi, abrupt on one side of many melanomas."""
    base = float(np.clip(0.19 * np.exp(-0.45 * traits.abruptness + rng.normal(0, 0.25)), 0.04, 0.35))
    angle = float(rng.uniform(0, 2 * np.pi))
    along = (x * np.cos(angle) + y * np.sin(angle)) / REACH
    uneven = 0.75 * sigmoid(traits.abruptness - 0.5)
    return (base * np.exp(uneven * along)).astype(np.float32)
