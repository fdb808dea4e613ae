"""docs/serving.md: its blocks of Python, run as they stand there beside exported models."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import melfast
from melfast.engines.export import export_model
from melfast.engines.export_check import draw_images, torch_logits
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.preprocess import Preprocess
from tests.docs.blocks import read_blocks

DOCUMENT = Path(__file__).parents[1] / "docs" / "serving.md"
RECORD = ModelRecord(
    "resnet10t", Preprocess.for_colour(48, 64, "cielab"),
    {"channels": [8, 8, 8, 8], "stem_width": 8}, temperature=1.3, threshold=0.375,
    threshold_rule="youden",
)  # fmt: skip


def blocks(section: str) -> list[str]:
    found = [block for block in read_blocks(DOCUMENT) if block.section == section]
    return [block.code for block in found if block.language == "python"]


def run(code: str, folder: Path, *words: object) -> str:
    """In a process of its own that has neither melfast nor timm."""
    code = f"import sys; sys.modules['melfast'] = sys.modules['timm'] = None\n{code}"
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the document speaks of; P(malignant) spreads over images."""
    folder = tmp_path_factory.mktemp("serving")
    torch.manual_seed(0)
    model = build_classifier(RECORD).eval()
    images = draw_images(np.random.default_rng(0), 32, 48, 64)
    logits = torch_logits(model, RECORD.preprocess, images)
    last: torch.nn.Linear = model.fc  # type: ignore[assignment]
    with torch.no_grad():
        last.weight /= logits.std(0)[:, None]
        last.bias.copy_(-logits.mean(0) / logits.std(0))
    export_model(model, RECORD, folder / "model.onnx")
    export_model(model, RECORD, folder / "model.pt", "torchscript")
    export_model(model, RECORD, folder / "model.pt2", "torch-export")
    return folder


def test_the_bare_script_is_short_and_bare() -> None:
    lines = [line for line in blocks("onnx")[0].splitlines() if line]
    imports = [line for line in lines if line.startswith(("import", "from"))]
    # NumPy comes with ONNX Runtime.
    assert imports == ["import sys", "import numpy as np, onnxruntime", "from PIL import Image"]
    assert len(lines) - len(imports) <= 10


def test_the_bare_script_gives_the_numbers_of_predict(models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    exact, near = [], []
    for n in range(4):
        picture = Image.fromarray(draw_images(rng, 1, 48, 64)[0])
        exact += [tmp_path / f"exact{n}.png", tmp_path / f"exact{n}.jpg"]
        picture.save(exact[-2])
        picture.save(exact[-1])
    for n, (height, width) in enumerate([(600, 800), (1200, 1600), (90, 300), (30, 20)]):
        picture = Image.fromarray(draw_images(rng, 1, height, width)[0])
        near += [tmp_path / f"near{n}.png", tmp_path / f"near{n}.jpg"]
        picture.save(near[-2])
        picture.save(near[-1], quality=95)
    files = [*exact, *near]
    printed = run(blocks("onnx")[0], models, *files).splitlines()
    assert [line.rsplit(" ", 1)[0] for line in printed] == [str(file) for file in files]
    found = np.array([line.rsplit(" ", 1)[1] for line in printed], float)
    wanted = melfast.Predictor(models / "model.onnx")(files)
    assert np.ptp(wanted) > 0.2
    np.testing.assert_allclose(found[: len(exact)], wanted[: len(exact)], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[len(exact) :], wanted[len(exact) :], rtol=0, atol=3e-3)


def test_the_record_of_the_onnx_file(models: Path) -> None:
    assert run(blocks("onnx")[1], models) == "0.375 ['benign', 'malignant'] cielab\n"


@pytest.mark.parametrize("section", ["torchscript", "torch-export"])
def test_torch_s_own_files(models: Path, section: str) -> None:
    (code,) = blocks(section)
    black, _ = OnnxEngine(models / "model.onnx").run(np.zeros((2, 48, 64, 3), np.uint8))
    words = re.findall(r"[\d.e-]+", run(code, models))
    np.testing.assert_allclose([float(word) for word in words], [*black, 0.375], atol=1e-5)
