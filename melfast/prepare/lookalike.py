"""Lookalike: find pictures that may be copies, despite rotation, flip or a small crop."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from melfast.prepare.alignment import blur

# Maximum number of candidate pairs per picture.
NEIGHBOURS = 8
# Descriptor of a picture: 3 channels x 8 rings x 9 frequencies, reduced to 64 components.
_RINGS = 8
_ANGLES = 64
_FREQUENCIES = 9
_COMPONENTS = 64
# With fewer pictures all pairs are compared, and each component needs this number of pictures: whitened
# over fewer, small differences between copies would weigh as much as those between pictures.
_FEW = 64
_PICTURES_A_COMPONENT = 8
# Cosine of two descriptors, chosen low: the nearest are few anyway.
_ALIKE = 0.4
# (zoom, x, y) of the part of a picture that another may show: all of it, and crops.
_CORNERS = ((-0.05, -0.05), (-0.05, 0.05), (0.05, -0.05), (0.05, 0.05))
_PARTS = ((1.0, 0.0, 0.0), (0.95, 0.0, 0.0), *((0.9, x, y) for x, y in _CORNERS))
_BLOCK = 512


def search_steps(count: int) -> int:
    """How often `candidate_pairs` calls `progress` for a number of pictures."""
    return len(_PARTS) + -(-count // _BLOCK) if count >= _FEW else 0


def candidate_pairs(pictures: NDArray[np.uint8], progress: Callable[[], None] = lambda: None) -> NDArray[np.intp]:
    """Pairs that may be the same picture: for each picture the most similar ones.

    A picture is described by the strength of the angular frequencies in rings of its luminance and
    colour, which rotation and mirroring do not change, whitened over all pictures, so that common
    features (a dark blob on skin) weigh little. All pairs are compared, in blocks of matrix products.

    Args:
        pictures: [N, 64, 64, 3] sRGB, stretched to a square.
        progress: called `search_steps(N)` times.
    Returns:
        [P, 2] indices, the smaller first, without repeats.
    """
    count = len(pictures)
    if count < _FEW:
        return np.stack(np.triu_indices(count, 1), axis=1)
    described = []
    for zoom_and_place in _PARTS:
        described.append(_describe(pictures, zoom_and_place))
        progress()
    whiten = _whitening(described[0])
    parts = [whiten(part) for part in described]
    pairs = [np.zeros((0, 2), np.intp)]
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        likeness = parts[0][rows] @ parts[0].T
        for part in parts[1:]:
            np.maximum(likeness, part[rows] @ parts[0].T, out=likeness)
        likeness[rows - start, rows] = -1.0
        nearest = np.argpartition(likeness, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        found = np.stack([np.repeat(rows, NEIGHBOURS), nearest.ravel()], axis=1)
        alike = np.take_along_axis(likeness, nearest, axis=1).ravel() > _ALIKE
        pairs.append(np.sort(found[alike], axis=1))
        progress()
    return np.unique(np.concatenate(pairs), axis=0)


def _describe(pictures: NDArray[np.uint8], part: tuple[float, float, float]) -> NDArray[np.float32]:
    """[N, 216]: square roots of the strengths of the frequencies around each ring."""
    zoom, x, y = part
    angles = torch.arange(_ANGLES) * (2 * torch.pi / _ANGLES)
    radii = torch.linspace(0.1, 0.9, _RINGS)
    rings = radii[:, None, None] * torch.stack([angles.cos(), angles.sin()], -1)[None]
    grid = (zoom * rings + torch.tensor([x, y]))[None]
    described = [np.zeros((0, 3 * _RINGS * _FREQUENCIES), np.float32)]
    for start in range(0, len(pictures), _BLOCK):
        rgb = torch.from_numpy(pictures[start : start + _BLOCK]).permute(0, 3, 1, 2).float()
        red, green, blue = rgb.unbind(1)
        luminance = 0.299 * red + 0.587 * green + 0.114 * blue
        channels = torch.stack([luminance, red - blue, green - blue], 1)
        smooth = blur(channels.flatten(0, 1)[:, None], 2.0).view(channels.shape)
        polar = functional.grid_sample(smooth, grid.expand(len(rgb), -1, -1, -1), align_corners=False)
        strength = torch.fft.rfft(polar, dim=3)[..., :_FREQUENCIES].abs() * radii[:, None].sqrt()
        described.append(strength.sqrt().flatten(1).numpy())
    return np.concatenate(described)


def _whitening(described: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Principal components of equal variance, of length 1."""
    mean = described.mean(axis=0)
    centred = (described - mean).astype(np.float64)
    variances, components = np.linalg.eigh(centred.T @ centred / len(described))
    kept = min(_COMPONENTS, len(described) // _PICTURES_A_COMPONENT)
    deviations = np.sqrt(np.maximum(variances[-kept:], 1e-6 * variances[-1] + 1e-12))
    projection = (components[:, -kept:] / deviations).astype(np.float32)

    def whiten(values: NDArray[np.float32]) -> NDArray[np.float32]:
        values = (values - mean) @ projection
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)

    return whiten
