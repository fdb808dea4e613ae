"""The compiled core: resize, warp, colour, masks and clustering of uint8 images, without the GIL.

The docstrings are in the bindings, csrc/bindings.
"""

from melfast._core import (
    WORKING_SIDE,
    apply_curves,
    cluster_colours,
    isa,
    lab_to_srgb,
    mean_shift,
    normalize,
    prepare,
    published_mask,
    resize,
    resize_mask,
    shift_lab,
    skin_regions,
    srgb_to_lab,
    warp_affine,
)

__all__ = [
    "WORKING_SIDE",
    "apply_curves",
    "cluster_colours",
    "isa",
    "lab_to_srgb",
    "mean_shift",
    "normalize",
    "prepare",
    "published_mask",
    "resize",
    "resize_mask",
    "shift_lab",
    "skin_regions",
    "srgb_to_lab",
    "warp_affine",
]
