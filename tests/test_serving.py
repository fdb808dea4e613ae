"""docs/serving.md: its Python blocks run next to exported models."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import melfast
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export.check import draw_images, torch_logits
from melfast.export.formats import export_model
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from tests.docs.blocks import read_blocks

DOCUMENT = Path(__file__).parents[1] / "docs" / "serving.md"
RECORD = ModelRecord(
    "resnet10t",
    Preprocess.for_colour(48, 64, "cielab"),
    {"channels": [8, 8, 8, 8], "stem_width": 8},
    temperature=1.3,
    threshold=0.375,
    threshold_rule="youden",
)


def blocks(section: str) -> list[str]:
    found = [block for block in read_blocks(DOCUMENT) if block.section == section]
    return [block.code for block in found if block.language == "python"]


def run(code: str, folder: Path, *words: object) -> str:
    """In a separate process without melfast and timm."""
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
    assert imports == ["import sys", "import numpy as np, onnxruntime", "from PIL import Image, ImageOps"]
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
    apart, wanted = differences(models, files)
    assert np.ptp(wanted) > 0.2
    assert apart[: len(exact)].max() <= 1e-6
    assert apart[len(exact) :].max() <= 4e-3


def test_photos_that_lie_on_their_side(models: Path, tmp_path: Path) -> None:
    """A picture without symmetry: if it is not upright, the result differs by far more."""
    y, x = np.mgrid[0:1:300j, 0:1:401j]
    picture = Image.fromarray(np.stack([255 * x, 255 * y * (1 - x), 80 + 0 * x], -1).astype(np.uint8))
    files = [tmp_path / f"{n}.{kind}" for n in range(1, 9) for kind in ("jpg", "png")]
    for file in files:
        exif = Image.Exif()
        exif[274] = int(file.stem)
        picture.save(file, exif=exif)
    for file, made in zip(files, pixels(models, files), strict=True):
        levels = np.abs(melfast_pixels([file])[0].astype(int) - made)
        # But for the last row or column of a JPEG that is scaled down.
        assert (levels > 1).mean() < 0.03, file
    apart, _ = differences(models, files)
    assert apart.max() <= 6e-3


def test_the_numbers_of_the_text(models: Path, real_data: Path) -> None:
    """On real images, as the document says."""
    small = sorted((real_data / "ham10000" / "images").iterdir())
    small = small[:: len(small) // 300][:300]
    large = sorted((real_data / "isic_fullres" / "images").glob("*.jpg"))
    for files, median, most in ((small, 2.5e-4, 4e-3), (large, 3.5e-4, 6e-3)):
        apart, wanted = differences(models, files)
        assert np.median(apart) <= median
        assert apart.max() <= most
        assert np.ptp(wanted) > 0.2
    made = np.stack(pixels(models, small[:60]))
    levels = np.abs(melfast_pixels(small[:60]).astype(int) - made)
    assert levels.max() == 1
    assert levels.mean() < 0.2


def differences(models: Path, files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """|Delta probability| of the bare script and of melfast, and what melfast says."""
    printed = run(blocks("onnx")[0], models, *files).splitlines()
    assert [line.rsplit(" ", 1)[0] for line in printed] == [str(file) for file in files]
    found = np.array([line.rsplit(" ", 1)[1] for line in printed], float)
    wanted = melfast.Predictor(models / "model.onnx")(files)
    return np.abs(found - wanted), wanted


def pixels(models: Path, files: list[Path]) -> list[np.ndarray]:
    """The pixels that the bare script passes to the model."""
    code = blocks("onnx")[0].replace("print(", "print((np.asarray(image).tobytes().hex()), ")
    lines = run(code, models, *files).splitlines()
    found = [bytes.fromhex(line.split(" ", 1)[0]) for line in lines]
    return [np.frombuffer(each, np.uint8).reshape(48, 64, 3) for each in found]


def melfast_pixels(files: list[Path]) -> np.ndarray:
    plan = evaluation_plan(len(files), batch_size=len(files))
    (batch,) = NativeLoader(files, RECORD.preprocess, plan, dtype=np.uint8)
    return batch.images.copy()


def test_the_record_of_the_onnx_file(models: Path) -> None:
    assert run(blocks("onnx")[1], models) == "0.375 ['benign', 'malignant'] cielab\n"


@pytest.mark.parametrize("section", ["torchscript", "torch-export"])
def test_torch_s_own_files(models: Path, section: str) -> None:
    (code,) = blocks(section)
    black, _ = OnnxEngine(models / "model.onnx").run(np.zeros((2, 48, 64, 3), np.uint8))
    words = re.findall(r"[\d.e-]+", run(code, models))
    np.testing.assert_allclose([float(word) for word in words], [*black, 0.375], atol=1e-5)
