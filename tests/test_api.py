"""The API of `import melfast`: a light import, listed names, and each works in a line or two."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import melfast
from melfast.models.record import ModelRecord

OFFERED = sorted(set(melfast.__all__) - {"__version__"})
TINY = {
    "preprocess.height": 24,
    "preprocess.width": 32,
    "model.backbone": "resnet10t",
    "model.backbone_options": {"channels": [4, 4, 8, 8], "stem_width": 4},
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.threads": 1,
    "data.threads": 1,
}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def skin() -> np.ndarray:
    """uint8 [96, 128, 3]: a dark disc on skin."""
    y, x = np.mgrid[:96, :128]
    lesion = ((y - 48) ** 2 + (x - 64) ** 2 < 20**2)[..., None]
    noise = np.random.default_rng(0).integers(-3, 4, (96, 128, 3))
    return (np.where(lesion, (90, 55, 45), (201, 160, 132)) + noise).astype(np.uint8)


def test_import_is_light_and_lists_all_that_is_offered() -> None:
    heavy = "{'numpy', 'torch', 'pandas', 'PIL', 'click', 'onnxruntime', 'melfast.train', 'melfast.metrics'}"
    assert run(f"import sys, melfast; print(sorted({heavy} & set(sys.modules)))") == "[]\n"
    assert set(OFFERED) <= set(dir(melfast))
    assert melfast.__doc__ is not None
    table = re.findall(r"^(\w+) {2,}\S", melfast.__doc__, re.M)
    assert sorted([*table, "ImageError", "InputError"]) == OFFERED
    for name in OFFERED:
        offered = getattr(melfast, name)
        assert inspect.getdoc(offered), name
        assert offered is getattr(melfast, name)
    with pytest.raises(AttributeError, match="module 'melfast' has no attribute 'Nothing'"):
        _ = melfast.Nothing


def test_metrics_are_offered_by_name() -> None:
    names = [name for name in dir(melfast.metrics) if not name.startswith("_")]
    assert len(names) > 20
    assert all(callable(getattr(melfast.metrics, name)) for name in names)
    assert melfast.metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75


def test_functions_of_one_name_with_a_package() -> None:
    """The name works as package and as function, whichever was imported first."""
    for first in ("", "import melfast.train.stop; ", "import melfast.evaluate; "):
        code = f"{first}import melfast, inspect; print(callable(melfast.train), inspect.signature(melfast.evaluate))"
        assert run(code).startswith("True (run: ")


@pytest.mark.parametrize("form", ["path", "str", "bytes", "file", "pil", "array", "tensor", "tensor_chw"])
def test_images_in_any_form(skin: np.ndarray, tmp_path: Path, form: str) -> None:
    file = tmp_path / "skin.png"
    Image.fromarray(skin).save(file)
    with open(file, "rb") as opened:
        forms: dict[str, Any] = {
            "path": file,
            "str": str(file),
            "bytes": file.read_bytes(),
            "file": opened,
            "pil": Image.fromarray(skin),
            "array": skin,
            "tensor": torch.from_numpy(skin),
            "tensor_chw": torch.from_numpy(skin).permute(2, 0, 1),
        }
        tone = melfast.estimate_ita(forms[form])
    assert tone == melfast.estimate_ita(skin)
    assert 35 < tone.ita_deg < 50


def test_one_image_or_several(skin: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(skin).save(tmp_path / "skin.png")
    assert [tone.ita_deg for tone in melfast.estimate_ita([skin, tmp_path / "skin.png"])] == [
        melfast.estimate_ita(skin).ita_deg
    ] * 2
    mask = melfast.lesion_mask(skin)
    assert (mask.dtype, mask.shape) == (bool, skin.shape[:2])
    assert mask[48, 64]
    assert not mask[5, 5]
    np.testing.assert_array_equal(melfast.lesion_mask(tmp_path)[0], mask)  # a folder
    darker = melfast.shift_skin([skin], -20.0)[0]
    assert abs(darker.tone.ita_deg + 20) < 3
    assert darker.image.shape == skin.shape
    np.testing.assert_array_equal(melfast.read_image(str(tmp_path / "skin.png")), skin)


def test_train_evaluate_and_load(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    (tmp_path / "small.yaml").write_text("train: {seed: 3}\n")
    monkeypatch.chdir(tmp_path)
    run_folder = melfast.train("small.yaml", {**TINY, "data.path": str(tiny_data)})
    assert run_folder == Path("runs/small")
    assert "seed: 3" in (run_folder / "config.yaml").read_text()
    assert "done: best epoch 1" in (run_folder / "training.log").read_text()
    with pytest.raises(melfast.InputError) as caught:
        melfast.train("small.yaml", {**TINY, "data.path": str(tiny_data)})
    assert str(caught.value) == (
        "runs/small: holds a run already; `resume=True` resumes it, or choose another `output.dir`"
    )
    with pytest.raises(melfast.InputError, match=r"^settings: optim\.rate: unknown key"):
        melfast.train(settings={"optim.rate": 1})

    measured = melfast.evaluate(str(run_folder), split="valid", threads=1)
    written = json.loads((run_folder / "evaluation" / "valid" / "metrics.json").read_text())
    assert written["all"]["auc"] == measured["all"]["auc"]

    network = melfast.load_model(str(run_folder))
    assert isinstance(network, torch.nn.Module)
    assert isinstance(network.record, ModelRecord)
    assert not network.training
    dataset = melfast.MelanomaDataset(str(run_folder / "manifest.csv"), network.record.preprocess, split="valid")
    with torch.inference_mode():
        logits = network(dataset[0][0][None])
    predict = melfast.load_predictor(str(run_folder), threads=1)
    assert predict.threshold == network.record.threshold
    probability = predict(dataset.images.paths[0])
    assert probability == pytest.approx(float(logits.softmax(1)[0, 1]), abs=0.05)
    # Nothing is printed by the library itself.
    assert capsys.readouterr() == ("", "")


def test_manifest_to_pandas(tiny_data: Path) -> None:
    manifest = melfast.read_manifest(str(tiny_data / "manifest.csv") if tiny_data.is_dir() else str(tiny_data))
    frame = manifest.to_pandas()
    assert len(frame) == len(manifest)
    assert frame["target"].isin([0, 1]).all()
    assert frame["path"].map(Path.is_file).all()
