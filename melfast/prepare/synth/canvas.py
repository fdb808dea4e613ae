"""The square canvas that a lesion is drawn on: noise with wavelengths in lesion radii."""

import numpy as np

from melfast.prepare.synth.fields import Float, fractal, lowpass, random_field

# The canvas reaches this many lesion radii from its centre.
REACH = 1.75


def canvas_field(rng: np.random.Generator, n: int, coarse: float, slope: float, fine: float) -> Float:
    """Blotches of all sizes from `coarse` to `fine` lesion radii; see fields.fractal."""
    side = 2 * REACH
    return random_field(rng, (n, n), fractal(coarse / side, slope), fine / side)


def blotches(rng: np.random.Generator, n: int, wavelength: float) -> Float:
    """Soft blotches no finer than about a wavelength in lesion radii."""
    side = 2 * REACH
    return random_field(rng, (n, n), lowpass(wavelength / side), wavelength / side / 2.5)
