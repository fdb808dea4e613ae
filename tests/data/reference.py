"""The records of a plan, executed slowly in float64: the reference for both executors."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage.color import rgb2lab

from melfast.data.plan import EpochPlan, size_before_warp
from melfast.data.preprocess import Preprocess

Double = NDArray[np.float64]


def reference(path: Path, plan: EpochPlan, record: int, preprocess: Preprocess, mask: Path | None = None) -> Double:
    """The image of a record [H, W, 3], normalised; nothing is rounded to 8 bits on the way."""
    size = preprocess.height, preprocess.width
    affine = plan.affine[record].astype(np.float64)
    working = size_before_warp(plan.affine[record], *size)
    with Image.open(path) as file:
        pixels = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))

    def placed(levels: NDArray[np.uint8]) -> Double:
        resized = resize(levels, working)
        if np.abs(affine).sum(axis=1).max() > 1 + 1e-6:  # a corner comes from outside
            resized = trimmed(resized)
        return warp(resized, affine, size)

    rgb = placed(pixels) / 255
    inside = np.zeros(size)
    if mask is not None:
        with Image.open(mask) as file:
            levels = np.asarray(file.convert("L"))
        inside = placed(levels[..., None])[..., 0] / 255
    if plan.gains is not None and not np.isnan(plan.target_ita[record]):
        rgb = inside[..., None] * rgb + (1 - inside[..., None]) * moved(rgb, plan.gains[record])
    if plan.jitter is not None:
        matrix = plan.jitter[record].astype(np.float64)
        rgb = np.clip(rgb @ matrix[:, :3].T + matrix[:, 3], 0, 1)
    if plan.masked is not None and plan.masked[record]:
        rgb = rgb * inside[..., None]
    if plan.erase is not None:
        top, left, bottom, right = plan.erase[record]
        rgb[top:bottom, left:right] = np.array(preprocess.fill) / 255
    values = rgb2lab(rgb) if preprocess.colour == "cielab" else rgb
    normal: Double = (values - preprocess.mean) / preprocess.std
    return normal


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Double:
    """Antialiased, by Pillow in float32."""
    planes = [
        Image.fromarray(pixels[..., c].astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], axis=-1)


def trimmed(pixels: Double) -> Double:
    """The outermost pixels replaced by those next to them."""
    rows, columns = (np.clip(np.arange(n), 1, n - 2) if n >= 3 else np.arange(n) for n in pixels.shape[:2])
    return pixels[rows][:, columns]


def warp(pixels: Double, affine: Double, size: tuple[int, int]) -> Double:
    """Bilinear, edges clamped; x and y run from -1 to 1 over either image."""
    height, width = pixels.shape[:2]
    y, x = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in size), indexing="ij")
    at = np.stack([x, y, np.ones_like(x)], axis=-1) @ affine.T
    column = np.clip((at[..., 0] + 1) * width / 2 - 0.5, 0, width - 1)
    row = np.clip((at[..., 1] + 1) * height / 2 - 0.5, 0, height - 1)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (column - left)[..., None], (row - top)[..., None]
    upper = pixels[top, left] * (1 - fx) + pixels[top, right] * fx
    lower = pixels[bottom, left] * (1 - fx) + pixels[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def moved(rgb: Double, gains: NDArray[np.float32]) -> Double:
    """By the curve of light of each channel."""
    light = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    end, k, m = gains.astype(np.float64).T
    light = np.clip(end * light / (k + m * light), 0, 1)
    return np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def levels_apart(found: NDArray, wanted: NDArray, preprocess: Preprocess) -> float:
    """Mean absolute difference of two normalised images in 1/255 of each channel's range."""
    ranges = (100, 255, 255) if preprocess.colour == "cielab" else (1, 1, 1)
    difference = np.abs(found.astype(np.float64) - wanted) * preprocess.std / ranges
    return float(255 * difference.mean())
