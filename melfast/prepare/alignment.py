"""Registration: test whether two small pictures are one photograph, despite rotation, flip or a small crop."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

SIDE = 64
_ANGLES = 128
_RINGS = 16
# Pairs at a time, so that their 64 x 64 floats fit in the cache of a core.
_CHUNK = 128
_LUMINANCE = (0.299, 0.587, 0.114)
# Detail finer than this many of 64 pixels is compared; broader features (skin, a blob in the middle)
# look alike in every dermoscopic image.
_FINE = 2.5
# The strength of the detail is equalised over this many pixels; otherwise the border of a lesion or a
# black frame would dominate. Grey levels below the noise are not amplified.
_AROUND = 3.0
_NOISE = 2.0
# A pair whose detail correlates less than this after the coarse steps is rejected.
_HOPELESS = 0.35
# The same for its rings, which a crop shifts.
_HOPELESS_TURN = 0.35
# Sides may differ by this factor after the alignment, and this much must overlap.
_STRETCH = 1.35
_OVERLAP = 0.6
_DISC = 0.95


def aligned_similarity(
    pictures: NDArray[np.uint8], pairs: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Similarity of two pictures after alignment.

    The rotation comes from the angular correlation of rings, for the picture and its mirror image; the
    affine map is then refined by Gauss-Newton steps (inverse compositional, Baker and Matthews
    2004), first at half the resolution.

    Args:
        pictures: [N, 64, 64, 3] sRGB, stretched to a square.
        pairs: [P, 2], pairs of indices.
    Returns:
        Correlation [P] of the fine detail where they overlap, -1..1, 0 for rejected pairs; and the
        largest difference [P] of their mean red, green and blue there, 0..255.
    """
    scores, colours = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        one, other = (torch.from_numpy(pictures[chunk[:, side]]).permute(0, 3, 1, 2).float() for side in (0, 1))
        score, colour = _compare(one, other)
        scores.append(score.numpy())
        colours.append(colour.numpy())
    return np.concatenate(scores), np.concatenate(colours)


def _compare(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scores, colours = torch.zeros(len(one)), torch.full((len(one),), 255.0)
    detail, other_detail = _detail(one), _detail(other)
    affine, likeness = _turn(detail, other_detail)
    kept = torch.nonzero(likeness > _HOPELESS_TURN)[:, 0]
    if len(kept) == 0:
        return scores, colours
    detail, other_detail, affine = detail[kept], other_detail[kept], affine[kept]
    small, other_small = functional.avg_pool2d(detail, 2), functional.avg_pool2d(other_detail, 2)
    affine = _refine(small, other_small, affine, steps=8)
    hopeful = _correlation(small, other_small, affine) > _HOPELESS
    if not hopeful.any():
        return scores, colours
    detail, other_detail, kept = detail[hopeful], other_detail[hopeful], kept[hopeful]
    affine = _refine(detail, other_detail, affine[hopeful], steps=10)
    scores[kept] = _correlation(detail, other_detail, affine)
    colours[kept] = _colour_difference(one[kept], other[kept], affine)
    return scores, colours


def _detail(images: torch.Tensor) -> torch.Tensor:
    """[n, 1, S, S]: fine detail of the luminance, equalised in strength."""
    luminance = (images * torch.tensor(_LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    luminance = blur(luminance, 0.7)
    detail = luminance - blur(luminance, _FINE)
    return detail / (blur(detail * detail, _AROUND) + _NOISE**2).sqrt()


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel /= kernel.sum()
    padded = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = functional.conv2d(padded, kernel[None, None, None, :])
    return functional.conv2d(rows, kernel[None, None, :, None])


def _turn(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rotation (mirrored or not) that best aligns `other` with `one` [n, 2, 3], and its score [n]."""
    angles = torch.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    radii = torch.linspace(0.15, 0.9, _RINGS)
    rings = radii[:, None, None] * torch.stack([angles.cos(), angles.sin()], -1)[None]
    grid = rings.expand(len(one), -1, -1, -1)
    polar = [
        functional.grid_sample(blur(image, 1.2), grid, align_corners=False)[:, 0] * radii[:, None].sqrt()
        for image in (one, other)
    ]
    size = polar[0].square().sum((1, 2)).sqrt() * polar[1].square().sum((1, 2)).sqrt()
    reference, spectrum = (torch.fft.rfft(image, dim=2) for image in polar)
    # Mirroring top to bottom reverses the angles, which conjugates the spectrum.
    straight, mirrored = (
        torch.fft.irfft((s * reference.conj()).sum(1), n=_ANGLES, dim=1) for s in (spectrum, spectrum.conj())
    )
    peak, best = torch.cat([straight, mirrored], 1).max(1)
    flip = torch.where(best < _ANGLES, 1.0, -1.0)
    cos, sin = angles[best % _ANGLES].cos(), angles[best % _ANGLES].sin()
    # other is sampled at R x; mirrored, at diag(1, -1) R x.
    zero = torch.zeros_like(cos)
    rows = torch.stack([cos, -sin, zero], 1), torch.stack([flip * sin, flip * cos, zero], 1)
    return torch.stack(rows, 1), peak / size.clamp(min=1e-6)


def _refine(one: torch.Tensor, other: torch.Tensor, affine: torch.Tensor, steps: int) -> torch.Tensor:
    """The affine map after Gauss-Newton steps on the difference of the normalised pictures."""
    count, _, side, _ = one.shape
    centres = (torch.arange(side) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    weights = (1 - (x * x + y * y) / 2).clamp(min=0.05)
    one = _normal(one[:, 0], weights.expand(count, -1, -1))
    gradient_y, gradient_x = torch.gradient(one, spacing=2 / side, dim=(1, 2))
    # d(affine) = [[a, b, tx], [c, d, ty]]: six pictures of what each changes.
    slopes = torch.stack(
        [gradient_x * x, gradient_x * y, gradient_x, gradient_y * x, gradient_y * y, gradient_y], 1
    ).flatten(2)
    weighted = slopes * weights.flatten()
    hessian = weighted @ slopes.transpose(1, 2)
    hessian += 1e-4 * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2)) + 1e-6 * torch.eye(6)
    inverse = torch.linalg.inv(hessian)
    last_row = torch.tensor([0.0, 0.0, 1.0]).expand(count, 1, 3)
    for _ in range(steps):
        laid, inside = _lay(other, affine)
        difference = (_normal(laid[:, 0], weights * inside) - one) * inside
        step = (inverse @ (weighted @ difference.flatten(1)[..., None]))[..., 0]
        # A step moves no point by more than an eighth of the picture.
        step *= (0.25 / step.abs().amax(1, keepdim=True).clamp(min=0.25)).nan_to_num(0.0)
        change = torch.cat([step.view(-1, 2, 3), last_row * 0], 1) + torch.eye(3)
        affine = (torch.cat([affine, last_row], 1) @ torch.linalg.inv(change))[:, :2]
    return affine


def _lay(other: torch.Tensor, affine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`other` [n, C, S, S] warped by the map, and weights [n, S, S] that are 1.0 where the discs overlap."""
    grid = functional.affine_grid(affine, list(other.shape), align_corners=False)
    still = torch.eye(3)[:2].expand(1, 2, 3)
    disc = functional.affine_grid(still, [1, *other.shape[1:]], align_corners=False)
    disc = (disc.square().sum(-1) < _DISC**2).float()
    laid = functional.grid_sample(other, grid, align_corners=False, padding_mode="border")
    return laid, (grid.square().sum(-1) < _DISC**2).float() * disc


def _normal(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Normalises to mean 0 and variance 1 under the weights [n, S, S]."""
    total = weights.sum((1, 2), keepdim=True).clamp(min=1e-6)
    images = images - (images * weights).sum((1, 2), keepdim=True) / total
    variance = (images**2 * weights).sum((1, 2), keepdim=True) / total
    return images / variance.sqrt().clamp(min=1e-3)


def _correlation(one: torch.Tensor, other: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Correlation where both have detail; 0 for maps that a rotation or small crop cannot produce."""
    laid, inside = _lay(other, affine)
    product = (_normal(one[:, 0], inside) * _normal(laid[:, 0], inside) * inside).sum((1, 2))
    overlap = inside.sum((1, 2))
    stretch = torch.linalg.svdvals(affine[:, :, :2])
    likely = (
        (stretch[:, 0] < _STRETCH)
        & (stretch[:, 1] > 1 / _STRETCH)
        & (overlap > _OVERLAP * math.pi / 4 * inside[0].numel())
    )
    return torch.where(likely, product / overlap.clamp(min=1), 0.0)


def _colour_difference(one: torch.Tensor, other: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    laid, inside = _lay(other, affine)
    difference = ((one - laid) * inside[:, None]).sum((2, 3))
    return difference.abs().amax(1) / inside.sum((1, 2)).clamp(min=1)
