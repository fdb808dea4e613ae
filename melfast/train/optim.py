"""The optimizer, from timm or torch by name, with parameter groups for decay and learning rate."""

from typing import Any

import timm.optim
import torch

from melfast.config.schema import OptimConfig
from melfast.io.errors import InputError


def build_optimizer(model: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """An optimizer for the parameters that have a gradient.

    One-dimensional parameters (norms and biases) are not decayed, because a smaller norm scale is not a
    simpler function; nor are those that the model lists (`no_weight_decay`: position embeddings). With
    `layer_decay` the learning rate of a group is `lr * lr_scale`, see `parameter_groups`.

    Raises:
        InputError: unknown optimizer, or the model does not define its layers.
    """
    try:
        info = timm.optim.get_optimizer_info(config.name)
    except ValueError:
        raise InputError(
            f"optim.name must be one of timm's optimizers, such as adamw, sgd or lamb, got {config.name!r}"
        ) from None
    options: dict[str, Any] = {}
    if info.second_order:
        raise InputError(
            f"optim.name {config.name!r} needs second derivatives, which the loop does not take; "
            "expected one of the first order"
        )
    if info.has_betas and info.num_betas == len(config.betas):  # other optimizers keep their own
        options["betas"] = config.betas
    if info.has_momentum:
        options["momentum"] = config.momentum
    if config.name == "adamw":  # one kernel for all parameters
        options["fused"] = all(p.is_cuda for p in model.parameters())
    try:
        make: Any = timm.optim.get_optimizer_class(config.name, bind_defaults=True)
        optimizer: torch.optim.Optimizer = make(parameter_groups(model, config), lr=config.lr, **options)
    except (TypeError, ImportError, AssertionError, ModuleNotFoundError) as error:
        raise InputError(f"optim.name {config.name!r}: {error}") from error
    return optimizer


def parameter_groups(model: torch.nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Decayed and undecayed parameters, per layer if `layer_decay` is below 1.

    The group of the head has an lr_scale of 1, and each layer below it `layer_decay` times that of the
    layer above (Clark et al. 2020); the layers are defined by timm (`group_matcher`).
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    told: Any = getattr(model, "no_weight_decay", None)
    spared = set(told()) if told is not None else set()
    if config.layer_decay < 1:
        return _by_layer(model, config, spared)
    decayed = [p for name, p in named if p.ndim > 1 and name not in spared]
    others = [p for name, p in named if p.ndim <= 1 or name in spared]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, "decayed": True},
        {"params": others, "weight_decay": 0.0, "decayed": False},
    ]
    return [group for group in groups if group["params"]]


def set_rate(optimizer: torch.optim.Optimizer, rate: float, weight_decay: float) -> None:
    """Sets the learning rate and decay of a step in every group, scaled by the factors of the group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


def _by_layer(model: torch.nn.Module, config: OptimConfig, spared: set[str]) -> list[dict[str, Any]]:
    if not hasattr(model, "group_matcher"):
        raise InputError("optim.layer_decay: this backbone does not name its layers; expected 1")
    groups = timm.optim.param_groups_layer_decay(
        model, config.weight_decay, no_weight_decay_list=spared, layer_decay=config.layer_decay
    )
    return [
        {
            "params": group["params"],
            "weight_decay": group["weight_decay"],
            "decayed": group["weight_decay"] > 0,
            "lr_scale": group["lr_scale"],
        }
        for group in groups
    ]
