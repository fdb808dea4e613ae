"""Weights from a file: matching tensors are loaded, the others are reported, and no code is run."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.models.weights import load_file

OPTIONS = {"channels": [4, 4, 8, 8], "stem_width": 4}


def model_of(seed: int, **options: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_classifier(ModelRecord("resnet10t", Preprocess(24, 32), OPTIONS | options))


@pytest.mark.parametrize("form", ["safetensors", "pth", "held", "parallel"])
def test_every_form(form: str, tmp_path: Path) -> None:
    tensors = model_of(1).state_dict()
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path)
    elif form == "pth":
        torch.save(tensors, path)
    elif form == "held":
        torch.save({"epoch": 3, "state_dict": tensors}, path)
    else:
        torch.save({"model": {f"module.{name}": value for name, value in tensors.items()}}, path)
    model = model_of(2)
    found = load_file(model, path)
    assert str(found) == f"{len(tensors)} tensors loaded"
    for name, value in model.state_dict().items():
        assert torch.equal(value, tensors[name]), name


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    tensors = dict(model_of(1).state_dict())
    tensors["fc.weight"], tensors["fc.bias"] = torch.zeros(1000, 8), torch.zeros(1000)
    del tensors["bn1.weight"]
    tensors["extra"] = torch.zeros(1)
    torch.save(tensors, tmp_path / "a.pth")
    model = model_of(2)
    before = model.state_dict()["fc.weight"].clone()
    found = load_file(model, tmp_path / "a.pth")
    assert (found.missing, found.unexpected) == (["bn1.weight"], ["extra"])
    assert found.shapes == ["fc.weight", "fc.bias"]
    assert str(found).endswith(
        "tensors loaded; 1 missing (bn1.weight); 1 unexpected (extra); 2 of another shape (fc.weight, fc.bias)"
    )
    assert torch.equal(model.state_dict()["fc.weight"], before)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


def test_files_that_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(1)
    path = tmp_path / "a.pth"
    torch.save({"model": Code()}, path)
    with pytest.raises(InputError, match=r"a\.pth: holds more than tensors"):
        load_file(model, path)
    assert capsys.readouterr().out == ""
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match=r"a\.pth: holds no named tensors"):
        load_file(model, path)
    torch.save({"a": torch.zeros(1), "b": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="none of its 2 tensors fits the network; it has a, b"):
        load_file(model, path)
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=rf"{name}: "):
            load_file(model, tmp_path / name)
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read: No such file"):
        load_file(model, tmp_path / "gone.pth")
