"""Random fields: noise for skin, borders and pigment."""

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float = NDArray[np.float32]
# Amplitude of the waves with frequency (fx, fy), in cycles per unit length.
Envelope = Callable[[Float, Float], NDArray[np.floating]]


def smoothstep(low: float, high: float, value: Float) -> Float:
    """0 below `low`, 1 above `high`, a cubic between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    smooth: Float = t * t * (3 - 2 * t)
    return smooth


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def lowpass(wavelength: float) -> Envelope:
    """Soft blotches no finer than about `wavelength`."""
    return lambda fx, fy: np.exp(-0.5 * wavelength**2 * (fx * fx + fy * fy))


def fractal(coarsest: float, slope: float) -> Envelope:
    """Blotches of all sizes below `coarsest`, amplitude falling as frequency ** -slope."""
    return lambda fx, fy: (fx * fx + fy * fy + coarsest**-2) ** (-slope / 2)


def bandpass(wavelength: float, width: float) -> Envelope:
    """Grains of one size; `width` relative to their frequency."""
    return lambda fx, fy: np.exp(-0.5 * ((np.hypot(fx, fy) * wavelength - 1) / width) ** 2)


def oriented(wavelength: float, width: float, angle: float, spread: float) -> Envelope:
    """Wavy parallel lines: a band of frequencies within `spread` radians of `angle`."""

    def envelope(fx: Float, fy: Float) -> Float:
        turn = np.arctan2(fy, fx) - angle
        turn = (turn + np.pi / 2) % np.pi - np.pi / 2
        lines: Float = bandpass(wavelength, width)(fx, fy) * np.exp(-0.5 * (turn / spread) ** 2)
        return lines

    return envelope


def random_field(rng: np.random.Generator, shape: tuple[int, int], envelope: Envelope, finest: float) -> Float:
    """A Gaussian random field with a given spectrum, mean 0 and standard deviation 1.

    The same generator state gives the same field at any resolution of one aspect ratio: the waves
    are drawn, not the pixels. Waves too fine for the resolution are left out.

    Args:
        shape: (height, width); the unit of length is sqrt(height * width).
        envelope: amplitude by frequency.
        finest: shortest wavelength drawn, in units of length.
    Returns:
        float32 [height, width].
    """
    height, width = shape
    unit = (height * width) ** 0.5
    ny, nx = (max(1, int(side / unit / finest)) for side in shape)
    ky, kx = np.arange(-ny, ny + 1), np.arange(nx + 1)
    waves = rng.standard_normal((2 * ny + 1, nx + 1, 2), dtype=np.float32)
    fy = (ky * (unit / height)).astype(np.float32)[:, None]
    fx = (kx * (unit / width)).astype(np.float32)[None, :]
    spectrum = waves.view(np.complex64)[..., 0] * envelope(fx, fy).astype(np.float32)
    spectrum[ny, 0] = 0  # no mean
    keep_y = min(ny, (height - 1) // 2)
    keep_x = min(nx, (width - 1) // 2)
    full = np.zeros((height, width // 2 + 1), np.complex64)
    full[: keep_y + 1, : keep_x + 1] = spectrum[ny : ny + keep_y + 1, : keep_x + 1]
    if keep_y:
        full[-keep_y:, : keep_x + 1] = spectrum[ny - keep_y : ny, : keep_x + 1]
    field = scipy.fft.irfft2(full, s=shape, overwrite_x=True)
    return (field / max(float(field.std()), 1e-12)).astype(np.float32, copy=False)
