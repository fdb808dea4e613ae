"""Sharpness-aware minimisation, against the two gradients written out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from melfast.config.schema import Config, OptimConfig
from melfast.io.errors import InputError
from melfast.train.run import run_training
from melfast.train.sam import uphill

MakeConfig = Callable[..., Config]


def test_by_hand() -> None:
    """f = x^2 + 4 y^2 at (3, 1): gradient (6, 8), norm 10; half of it uphill is (3.3, 1.4)."""
    model = torch.nn.Linear(2, 1, bias=False)
    scale = torch.tensor([[1.0, 4.0]])
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 1.0]]))
    (scale * model.weight**2).sum().backward()
    with uphill(model, torch.tensor(10.0), rho=0.5):
        torch.testing.assert_close(model.weight.data, torch.tensor([[3.3, 1.4]]))
        assert model.weight.grad is None
        (scale * model.weight**2).sum().backward()
    assert torch.equal(model.weight.data, torch.tensor([[3.0, 1.0]]))  # to the last bit
    torch.testing.assert_close(model.weight.grad, torch.tensor([[6.6, 11.2]]))


def test_batch_norm_sees_a_batch_once() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    batch = torch.randn(8, 3)
    functional.mse_loss(model(batch), torch.ones(8, 4)).backward()
    norm = model[1]
    before = norm.running_mean.clone(), norm.running_var.clone()
    with uphill(model, torch.tensor(1.0), rho=0.5):
        functional.mse_loss(model(batch), torch.ones(8, 4)).backward()
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])
    assert norm.momentum == 0.1


def test_weights_come_back_after_an_error() -> None:
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.detach().clone()
    with pytest.raises(KeyError), uphill(model, torch.tensor(1.0), rho=0.5):
        raise KeyError
    assert torch.equal(model.weight.data, before)


def test_pieces_give_the_same_step(tiny_config: MakeConfig, tmp_path: Path) -> None:
    from tests.train.test_loop import NO_BATCH_NORM, Window, make_trainer

    steps = []
    for pieces in (1, 4):
        config = tiny_config(train__accumulate=pieces, optim__sam_rho=0.1, **NO_BATCH_NORM)
        trainer = make_trainer(config, tmp_path)
        with trainer.open_batches() as batches:
            trainer.take_step(batches, Window())
        steps.append({k: p.detach() for k, p in trainer.learner.model.named_parameters()})
    plain = make_trainer(tiny_config(**NO_BATCH_NORM), tmp_path)
    with plain.open_batches() as batches:
        plain.take_step(batches, Window())
    for name, expected in steps[0].items():
        torch.testing.assert_close(steps[1][name], expected, rtol=1e-3, atol=1e-5, msg=name)
    other = dict(plain.learner.model.named_parameters())
    assert any((steps[0][k] - other[k]).abs().max() > 1e-4 for k in steps[0])


def test_a_run(tiny_config: MakeConfig) -> None:
    run_training(tiny_config(optim__sam_rho=0.05, train__precision="bf16"), {}, going_on=False)


def test_bad_input(tiny_config: MakeConfig) -> None:
    with pytest.raises(InputError, match=r"OptimConfig: sam_rho must be >= 0, got -1"):
        OptimConfig(sam_rho=-1)
    with pytest.raises(InputError) as caught:
        tiny_config(optim__sam_rho=0.05, train__precision="fp16")
    assert str(caught.value) == ("test: optim.sam_rho must be 0 under train.precision fp16, got 0.05")
