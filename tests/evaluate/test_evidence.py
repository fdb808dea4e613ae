"""Maps of evidence: on the lesion, and different for random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.nn import functional

from melfast.cli import main
from melfast.data.image_list import ImageList
from melfast.data.preprocess import Preprocess
from melfast.evaluate.evidence import evidence_maps, explain_files, overlay
from melfast.evaluate.explain import choose
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

SIZE = 64
# A finer map than a stride of 32 gives: 8 x 8 of 64 pixels.
BACKBONES: dict[str, dict[str, Any]] = {
    "resnet10t": {"channels": [8, 16, 16, 16], "stem_width": 8, "output_stride": 8},
    "test_vit": {},
}


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise [N, 3, 64, 64], half of it with a dark blob; its class and where the blob is."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    malignant = torch.arange(count) % 2
    centre = torch.randint(14, SIZE - 14, (count, 2), generator=generator)
    grid = torch.arange(SIZE)
    apart = (grid[None, :, None] - centre[:, 0, None, None]) ** 2 + (
        grid[None, None, :] - centre[:, 1, None, None]
    ) ** 2
    inside = (apart < 9**2) & (malignant == 1)[:, None, None]
    return torch.where(inside[:, None], images * 0.2 - 1, images), malignant, inside


@pytest.fixture(scope="module", params=list(BACKBONES))
def trained(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, ModelRecord]:
    """A network that tells the blob from noise."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    record = ModelRecord(request.param, Preprocess(SIZE, SIZE), BACKBONES[request.param])
    model = build_classifier(record)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(200):
        images, classes, _ = drawn(32, step)
        loss = functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    return model.eval(), record


def share_inside(maps: np.ndarray, inside: torch.Tensor) -> tuple[float, float]:
    """Fraction of the maps on the blobs and 8 pixels around them, and the fraction of that area."""
    wide = functional.max_pool2d(inside[:, None].float(), 17, stride=1, padding=8)[:, 0]
    return float((maps * wide.numpy()).sum() / maps.sum()), float(wide.mean())


def test_the_map_lies_on_the_lesion(trained: tuple[torch.nn.Module, ModelRecord]) -> None:
    model, record = trained
    images, classes, inside = drawn(32, 999)
    maps, probability = evidence_maps(model, record, images)
    assert maps.shape == (32, SIZE, SIZE)
    assert (probability > 0.5).tolist() == (classes == 1).tolist()
    assert maps.min() >= 0
    assert np.isin(maps.max(axis=(1, 2)), (0, 1)).all()
    malignant = classes == 1
    found, by_chance = share_inside(maps[malignant.numpy()], inside[malignant])
    assert found > 0.5
    assert found > 2 * by_chance


def test_other_weights_give_another_map(trained: tuple[torch.nn.Module, ModelRecord]) -> None:
    model, record = trained
    images, classes, inside = drawn(32, 999)
    maps, _ = evidence_maps(model, record, images[classes == 1])
    torch.manual_seed(1)
    other, _ = evidence_maps(build_classifier(record).eval(), record, images[classes == 1])
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, other, strict=True) if np.ptp(b) > 0]
    assert np.mean([0, *alike]) < 0.5
    found, _ = share_inside(maps, inside[classes == 1])
    elsewhere, _ = share_inside(other + 1e-6, inside[classes == 1])
    assert elsewhere < 0.7 * found


def test_nothing_of_the_model_changes(trained: tuple[torch.nn.Module, ModelRecord]) -> None:
    model, record = trained
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, _, _ = drawn(4, 0)
    first, _ = evidence_maps(model, record, images)
    with torch.no_grad():  # wherever it is called from
        second, _ = evidence_maps(model, record, images)
    np.testing.assert_array_equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "height", "width"),
    [("resnet10t", 48, 64), ("convnext_atto", 64, 96), ("test_efficientnet", 64, 64), ("dinov2_vit_small", 56, 84)],
)
@pytest.mark.parametrize("head", ["plain", "domain_discriminative"])
def test_every_family(backbone: str, height: int, width: int, head: Any) -> None:
    torch.manual_seed(0)
    grouped: dict[str, Any] = (
        {} if head == "plain" else {"head": head, "groups": ("light", "dark"), "priors": ((0.4, 0.1), (0.4, 0.1))}
    )
    record = ModelRecord(backbone, Preprocess(height, width), **grouped)
    model = build_classifier(record).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # as of a frozen network
    maps, probability = evidence_maps(model, record, torch.randn(2, 3, height, width))
    assert maps.shape == (2, height, width)
    assert np.isin(maps.max(axis=(1, 2)), (0, 1)).all()
    assert ((probability > 0) & (probability < 1)).all()


def test_overlay() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 1
    found = overlay(picture, heat)
    assert (found[0, 0] == 100).all()
    assert (found[2, 3] != 100).any()
    assert found.dtype == np.uint8


def test_files(tmp_path: Path) -> None:
    record = ModelRecord("resnet10t", Preprocess(24, 32), BACKBONES["resnet10t"])
    torch.manual_seed(0)
    model = build_classifier(record).eval()
    rng = np.random.default_rng(0)
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(paths[-1])
    found = explain_files(model, record, ImageList(paths))
    assert [picture.shape for picture, _ in found] == [(24, 32, 3)] * 3
    with pytest.raises(InputError, match=r"none.png"):
        explain_files(model, record, ImageList([tmp_path / "none.png"]))


def test_choose() -> None:
    targets = np.array([0, 1, 0, 0, 1, 1, 0])
    labels = list("abcdefg")
    assert choose(labels, targets, [], 4).tolist() == [1, 4, 0, 2]
    assert choose(labels, targets, [], 6).tolist() == [1, 4, 5, 0, 2, 3]
    assert choose(labels, targets, [], 99).tolist() == [1, 4, 5, 0, 2, 3, 6]
    assert choose(labels, np.full(7, -1), [], 2).tolist() == [0, 1]
    assert choose(labels, targets, ["c", "b"], 1).tolist() == [2, 1]
    with pytest.raises(InputError, match=r"^`names` x: no such image among 7$"):
        choose(labels, targets, ["a", "x"], 4)


def test_command(tiny_data: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "--data-path",
        tiny_data,
        "--output-dir",
        tmp_path / "run",
        "--epochs",
        1,
        "--model",
        "resnet10t",
        "--input-size",
        "32x24",
        "--batch-size",
        8,
        "--threads",
        1,
        "--set",
        "model.backbone_options={channels: [4, 4, 8, 8], stem_width: 4}",
    ]
    runner = CliRunner()
    assert runner.invoke(main, [str(word) for word in words]).exit_code == 0
    words = ["explain", "--checkpoint", tmp_path / "run", "--output", tmp_path / "maps", "--n", 6]
    found = runner.invoke(main, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    pictures = sorted(path.name for path in (tmp_path / "maps").glob("*.png"))
    assert len(pictures) == 7
    assert "sheet.png" in pictures
    with Image.open(tmp_path / "maps" / "sheet.png") as sheet:
        assert sheet.size[0] == 6 * 240
    folder = tiny_data.parent
    words = [
        "explain",
        "--checkpoint",
        tmp_path / "run",
        "--output",
        tmp_path / "other",
        "--images",
        folder,
        "--name",
        "t03",
    ]
    found = runner.invoke(main, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert {p.name for p in (tmp_path / "other").iterdir()} == {".melfast.json", "t03.png", "sheet.png"}
