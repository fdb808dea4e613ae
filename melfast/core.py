"""The compiled core: resize, warp, colour and normalisation of uint8 images, without the GIL.

The docstrings stand with the bindings, in csrc/bindings/module.cpp.
"""

from melfast._core import cluster_colours, isa, normalize, prepare, resize, srgb_to_lab, warp_affine

__all__ = ["cluster_colours", "isa", "normalize", "prepare", "resize", "srgb_to_lab", "warp_affine"]
