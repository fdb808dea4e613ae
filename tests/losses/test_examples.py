"""The examples in the docstrings of the losses, as doctest runs them."""

import doctest
import importlib

import pytest
import torch

import melfast.losses


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "group_dro", "ohem", "recall_ce"])
def test_every_loss_has_an_example_that_runs(name: str) -> None:
    module = importlib.import_module(f"melfast.losses.{name}")
    found = doctest.testmod(module, extraglobs={"torch": torch})
    assert found.failed == 0
    assert found.attempted > 0
    assert any(hasattr(melfast.losses, each) for each in (name, f"{name}_loss"))
