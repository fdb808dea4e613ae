"""Parameter groups of the optimizer."""

import numpy as np
import pytest
import timm.optim
import torch

from melfast.config.schema import OptimConfig
from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
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
    set_rate(optimizer, 0.1, 0.5)
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


# One of each family, small.
FAMILIES = {
    "convnext_tiny": {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)},
    "convnextv2_atto": {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)},
    "efficientnetv2_b0": {},
    "dinov2_vit_small": {"depth": 3, "embed_dim": 24, "num_heads": 2},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_learn_slower_the_deeper_they_lie(name: str) -> None:
    model = build_classifier(ModelRecord(name, Preprocess(28, 28), FAMILIES[name]))
    config = OptimConfig(lr=0.1, layer_decay=0.5)
    optimizer = build_optimizer(model, config)
    set_rate(optimizer, 0.1, config.weight_decay)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    named = {key: rates[id(p)] for key, p in model.named_parameters()}
    assert len(rates) == len(named)
    head, first = model.get_classifier().weight, next(iter(model.parameters()))
    assert rates[id(head)] == 0.1
    assert rates[id(first)] == min(named.values()) < 0.1 / 2**3
    assert {round(np.log2(0.1 / rate), 6) % 1 for rate in named.values()} == {0}
    along = [rate for key, rate in named.items() if key.endswith("weight") and "block" in key]
    assert along == sorted(along)
    decayed = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for key, parameter in model.named_parameters():
        spared = parameter.ndim <= 1 or key in getattr(model, "no_weight_decay", set)()
        assert decayed[id(parameter)] == (0.0 if spared else config.weight_decay), key


@pytest.mark.parametrize("name", ["sgd", "lamb", "lion"])
def test_others_by_name(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(model, OptimConfig(name=name, momentum=0.8, betas=(0.7, 0.9)))
    assert type(optimizer).__name__.lower() == name
    group = optimizer.param_groups[0]
    assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.7, 0.9)
    before = model[0].weight.detach().clone()
    model(torch.rand(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


def test_what_there_is_not() -> None:
    with pytest.raises(InputError, match=r"optim\.name must be one of timm's .* got 'adamv'"):
        build_optimizer(small_model(), OptimConfig(name="adamv"))
    with pytest.raises(InputError, match="this backbone does not name its layers"):
        build_optimizer(small_model(), OptimConfig(layer_decay=0.8))


@pytest.mark.parametrize("name", ["adan", "lion", "lamb", "sgd", "nadamw", "muon", "adafactor"])
def test_optimizers_of_other_kinds(name: str) -> None:
    assert name in timm.optim.list_optimizers()
    model = small_model()
    optimizer = build_optimizer(model, OptimConfig(name=name))
    before = model[3].weight.detach().clone()
    model(torch.randn(2, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[3].weight, before)


def test_second_order() -> None:
    with pytest.raises(InputError, match=r"^optim.name 'adahessian' needs second derivatives"):
        build_optimizer(small_model(), OptimConfig(name="adahessian"))
