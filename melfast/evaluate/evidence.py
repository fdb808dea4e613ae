"""Explain: which parts of an image are evidence for malignant, from gradients.

For a convolutional backbone this is Grad-CAM (Selvaraju et al. 2017) at the last feature map. For a
vision transformer it is the attention weighted by its gradient and followed through all blocks
(Chefer, Gur and Wolf 2021), from the tokens that the head reads to the patches.

A map shows what influenced this network, not what is malignant. A trustworthy map changes with the
weights (Adebayo et al. 2018), which the tests check.
"""

from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch.nn import functional

from melfast.data.feed import feed
from melfast.data.image_list import ImageList
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.views import VIEWS
from melfast.distributed import CPU
from melfast.io.errors import InputError
from melfast.models.decode import decode
from melfast.models.record import ModelRecord
from melfast.models.running import run_batches, take_usable

BATCH_SIZE = 16
OPACITY = 0.45


def evidence_maps(
    model: torch.nn.Module, record: ModelRecord, images_b3hw: torch.Tensor, group_b: torch.Tensor | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps of the evidence for malignant, and P(malignant).

    Args:
        model: in eval mode.
        images_b3hw: normalised images [B, 3, H, W] on the model's device.
        group_b: int64 [B], tone groups for heads that use them; -1 unknown.
    Returns:
        float32 [B, H, W] in 0..1, each scaled to a maximum of 1, or all 0 without evidence for
        malignant; and P(malignant), float32 [B].
    Raises:
        InputError: the backbone has neither a feature map nor patch tokens.
    """
    with torch.enable_grad():
        if hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens"):
            coarse, probability = _by_attention(model, record, images_b3hw, group_b)
        else:
            coarse, probability = _by_features(model, record, images_b3hw, group_b)
    coarse = coarse.detach().float().clamp_min(0)
    fine = functional.interpolate(coarse[:, None], size=images_b3hw.shape[2:], mode="bilinear", align_corners=False)[
        :, 0
    ]
    largest = fine.amax(dim=(1, 2), keepdim=True)
    maps = torch.where(largest > 0, fine / largest.clamp_min(1e-30), 0.0)
    return maps.cpu().numpy(), probability.detach().float().cpu().numpy()


def explain_files(
    model: torch.nn.Module, record: ModelRecord, images: ImageList, groups: NDArray[np.int64] | None = None
) -> list[tuple[NDArray[np.uint8], float]]:
    """Each image at the model's input size with its map on top, and P(malignant).

    Args:
        model: in eval mode, on the CPU.
        images: with lesion masks, for a masked preprocess.
        groups: int64 [N], -1 unknown.
    Returns:
        (uint8 sRGB [H, W, 3], P) for each image.
    Raises:
        ImageError: an image cannot be read, or the model gives no probability for it.
    """
    preprocess = record.preprocess
    plan = evaluation_plan(len(images), batch_size=BATCH_SIZE, masked=preprocess.masked)
    found = []

    def ask(inputs: torch.Tensor, index: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return evidence_maps(model, record, inputs, None if groups is None else torch.from_numpy(groups[index]))

    loaders = [NativeLoader(images, preprocess, plan, dtype=dtype) for dtype in (np.float32, np.uint8)]
    with loaders[0] as normalised, loaders[1] as plain:
        batches = run_batches(feed(normalised, CPU), ask, VIEWS["none"], planes=True)
        for (batch, ((maps, probability),)), shown in zip(batches, plain, strict=True):
            take_usable(probability, [images.paths[i] for i in batch.index], "raise", (0.0, 1.0))
            for picture, heat, p in zip(shown.images, maps, probability, strict=True):
                found.append((overlay(picture, heat), float(p)))
    return found


def overlay(picture_hw3: NDArray[np.uint8], map_hw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture with a map on top: the more evidence, the more colour."""
    colour = colormaps["inferno"](map_hw)[..., :3] * 255
    share = (OPACITY * np.sqrt(map_hw))[..., None]
    mixed = (1 - share) * picture_hw3 + share * colour
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def _by_features(
    model: Any, record: ModelRecord, images_b3hw: torch.Tensor, group_b: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Grad-CAM [B, h, w] including its negative part, and P(malignant)."""
    features = model.forward_features(images_b3hw)
    if features.ndim != 4:
        raise InputError(
            f"{type(model).__name__}: its features have {features.ndim - 1} dimensions; wanted a "
            "feature map [C, h, w], or a vision transformer of timm's"
        )
    if not features.requires_grad:  # a frozen network
        features.requires_grad_()
    odds, probability = _odds(model.forward_head(features), record, group_b)
    (gradient,) = torch.autograd.grad(odds, features)
    return (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1), probability


def _by_attention(
    model: Any, record: ModelRecord, images_b3hw: torch.Tensor, group_b: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much each patch contributes to the tokens that the head reads [B, h, w], and P(malignant)."""
    attention: list[torch.Tensor] = []

    def catch(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept = output if output.requires_grad else output.detach().requires_grad_()
        attention.append(kept)
        return kept

    layers = [block.attn for block in model.blocks]
    fused = [layer.fused_attn for layer in layers]
    hooks = [layer.attn_drop.register_forward_hook(catch) for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False  # the fused kernel does not return the weights
        odds, probability = _odds(model(images_b3hw), record, group_b)
    finally:
        for layer, was, hook in zip(layers, fused, hooks, strict=True):
            layer.fused_attn = was
            hook.remove()
    gradients = torch.autograd.grad(odds, attention)
    count = attention[0].shape[-1]
    taken = torch.eye(count, device=images_b3hw.device).expand(len(images_b3hw), -1, -1)
    for weights, gradient in zip(attention, gradients, strict=True):
        positive = (weights * gradient).clamp_min(0).mean(dim=1)  # over the heads
        taken = taken + positive @ taken
    prefix = model.num_prefix_tokens
    read = taken[:, :1] if model.global_pool == "token" else taken[:, prefix:]
    own = torch.eye(count, device=taken.device)[None, prefix:] if read.shape[1] > 1 else 0
    # The contribution of a patch to itself is there for any image.
    patches = (read - own).mean(dim=1)[:, prefix:]
    high, wide = model.patch_embed.patch_size
    rows, columns = (-(-side // patch) for side, patch in zip(images_b3hw.shape[2:], (high, wide), strict=True))
    return patches.reshape(len(patches), rows, columns), probability


def _odds(logits: torch.Tensor, record: ModelRecord, group_b: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the log-odds of P(malignant), because P itself saturates; and P."""
    probability = decode(logits, record, group_b)
    return torch.logit(probability.double(), eps=1e-12).sum(), probability
