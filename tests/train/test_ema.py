"""The running average of the weights, by hand."""

import torch

from melfast.train.ema import Ema


def test_by_hand() -> None:
    model = torch.nn.Linear(1, 1)
    model.register_buffer("count", torch.zeros(1))
    torch.nn.init.constant_(model.weight, 1.0)
    ema = Ema(model, 0.5)
    torch.nn.init.constant_(model.weight, 3.0)
    model.count += 7  # type: ignore[operator]
    ema.update(model, 1)  # keeps 2/11 so early
    torch.testing.assert_close(ema.module.weight.item(), 2 / 11 + 3 * 9 / 11)
    assert ema.module.count.item() == 7  # type: ignore[operator]
    before = ema.module.weight.item()
    ema.update(model, 100)
    torch.testing.assert_close(ema.module.weight.item(), (before + 3) / 2)
    assert not ema.module.weight.requires_grad
    assert model.weight.requires_grad
