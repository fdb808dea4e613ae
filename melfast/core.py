"""The compiled core: resize, warp, colour and masks of uint8 images, without the GIL.

The docstrings stand with the bindings, in csrc/bindings.
"""

from melfast._core import isa, normalize, prepare, published_mask, resize, srgb_to_lab, warp_affine

__all__ = ["isa", "normalize", "prepare", "published_mask", "resize", "srgb_to_lab", "warp_affine"]
