"""Parameter groups of the optimizer."""

import torch

from melfast.config import OptimConfig
from melfast.train.optim import build_optimizer, set_rate


def small_model() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )


def test_norms_and_biases_are_not_decayed() -> None:
    model = small_model()
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.5, betas=(0.8, 0.9)))
    decayed, others = optimizer.param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert [p.shape for p in others["params"]] == [(4,), (4,), (4,), (2,)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert decayed["betas"] == (0.8, 0.9)


def test_a_step_without_gradient_only_decays() -> None:
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.5))
    set_rate(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name])


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    groups = build_optimizer(model, OptimConfig()).param_groups
    assert sum(len(group["params"]) for group in groups) == 4


def test_a_model_of_biases_alone() -> None:
    model = torch.nn.Module()
    model.bias = torch.nn.Parameter(torch.zeros(3))
    assert len(build_optimizer(model, OptimConfig()).param_groups) == 1
