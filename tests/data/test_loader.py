"""Which executor is used, and the reason shown."""

import importlib.util
from typing import Any

import pytest

from melfast.data.feed import choose_loader
from melfast.io.errors import InputError


@pytest.mark.parametrize(
    ("wanted", "device", "name", "why"),
    [
        ("native", "cpu", "native", "as requested"),
        ("dali-cpu", "cpu", "dali-cpu", "as requested"),
        ("auto", "cpu", "native", "3 times as fast as dali-cpu where measured"),
        ("auto", "cuda", "native", "dali-gpu has not been measured yet: try `loader=dali-gpu`"),
    ],
)
def test_choice(wanted: Any, device: str, name: str, why: str) -> None:
    pytest.importorskip("nvidia.dali")
    assert choose_loader(wanted, device) == (name, why)


def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="loader: got 'fast', expected auto, native, dali-cpu or dali-gpu"):
        choose_loader("fast", "cpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dali-gpu"):  # no CUDA device, or not for the model
        choose_loader("dali-gpu", "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="DALI is not installed: pip install nvidia-dali-cuda130"):
        choose_loader("dali-cpu", "cpu")
