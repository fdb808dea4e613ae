"""Accept images as paths, bytes, files, PIL images, arrays or tensors; one or many."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from melfast.io.errors import ImageError
from melfast.io.folders import list_images
from melfast.io.images import read_image
from melfast.io.memory import InMemory, Source

ACCEPTED = "a path, bytes, an open file, a PIL image, a uint8 array or tensor, or a sequence of these"
# and torch.Tensor, which is not imported only for its name.
ImageLike = str | Path | bytes | IO[bytes] | Image.Image | NDArray[np.uint8] | Any


def sources(images: Any) -> tuple[list[Source], bool]:
    """The given images as a list, and whether it was a single image.

    Args:
        images: see ACCEPTED; arrays are [H, W, 3], tensors [3, H, W] or [H, W, 3], with one more axis
            for several of the same size. A folder stands for its images, sorted (`list_images`).
    Raises:
        InputError: a folder without images.
        ImageError: a PIL image without trustworthy 8-bit colour.
        TypeError, ValueError: not one of these types, or a wrong dtype or shape.
    """
    if isinstance(images, str | Path) and Path(images).is_dir():
        return list(list_images(images)), False
    if _is_array(images):
        if images.ndim == 4:
            return [_source(image, f"images[{i}]") for i, image in enumerate(images)], False
        return [_source(images, "image")], True
    if isinstance(images, str | Path | bytes | bytearray | memoryview | Image.Image) or hasattr(images, "read"):
        return [_source(images, "image")], True
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be {ACCEPTED}, got {type(images).__name__}")
    return [_source(image, f"images[{i}]") for i, image in enumerate(images)], False


def _source(image: Any, name: str) -> Source:
    if isinstance(image, str | Path):
        return image
    if isinstance(image, bytes | bytearray | memoryview):
        return InMemory(name, bytes(image))
    if isinstance(image, Image.Image):
        name = str(getattr(image, "filename", "") or name)
        return InMemory(name, _pil_pixels(image, name))
    if _is_array(image):
        return InMemory(name, _pixels(image, name))
    if hasattr(image, "read"):
        return InMemory(str(getattr(image, "name", name)), image.read())
    raise TypeError(f"{name} must be {ACCEPTED.partition(', or')[0]}, got {type(image).__name__}")


def _is_array(image: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    return isinstance(image, np.ndarray) or (torch is not None and isinstance(image, torch.Tensor))


def _pixels(image: Any, name: str) -> NDArray[np.uint8]:
    array: NDArray[Any] = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {array.dtype}")
    # Channels first is the order of torch; an array is read as channels last.
    if array is not image and array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"{name} must have shape [H, W, 3] and a pixel, got {list(array.shape)}")
    return np.ascontiguousarray(array)


def _pil_pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Upright sRGB, by the same rules as for files."""
    if image.mode in ("RGBA", "P", "PA"):
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema() != (255, 255):
            raise ImageError(name, "got transparent pixels, expected opaque 8-bit RGB")
        image = layers.convert("RGB")
    if image.mode != "RGB":
        raise ImageError(name, f"got a PIL image of mode {image.mode}, expected RGB")
    return np.asarray(ImageOps.exif_transpose(image))


def each(function: Callable[[NDArray[np.uint8]], Any], images: Any) -> Any:
    """Applies a function to the pixels of each image; returns its result, or a list for several images."""
    found, single = sources(images)
    results = [function(_decoded(source)) for source in found]
    return results[0] if single else results


def _decoded(source: Source) -> NDArray[np.uint8]:
    if isinstance(source, InMemory) and isinstance(source.content, np.ndarray):
        return source.content
    return read_image(source)
