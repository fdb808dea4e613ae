"""MelanomaDataset: items for your own training loop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import melfast
from melfast.data.augment import Augment
from melfast.data.dataset import MelanomaDataset
from melfast.data.manifest import read_manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import Rows, evaluation_plan, training_plan
from melfast.data.preprocess import Preprocess
from melfast.io.errors import ImageError, InputError

SIZES = [Preprocess(20, 28), Preprocess.for_colour(20, 28, "cielab")]


@pytest.mark.parametrize("preprocess", SIZES, ids=["rgb", "cielab"])
def test_items_are_those_of_the_evaluation_plan(tiny_data: Path, preprocess: Preprocess) -> None:
    manifest = read_manifest(tiny_data).split("valid")
    dataset = MelanomaDataset(tiny_data, preprocess, split="valid")
    assert len(dataset) == len(manifest) == 24
    plan = evaluation_plan(24, batch_size=24)
    (batch,) = NativeLoader(manifest.image_paths, preprocess, plan)
    for i in range(24):
        image, label, group = dataset[i]
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        np.testing.assert_array_equal(image.numpy(), batch.images[i].transpose(2, 0, 1))
        assert (label, group) == (manifest.targets[i], manifest.groups[i])
        assert type(label) is type(group) is int
    assert dataset.get_labels() == manifest.targets.tolist()
    assert dataset.get_groups() == manifest.groups.tolist()
    assert dataset.group_names == ("light", "dark")


def test_a_plan_gives_augmented_items(tiny_data: Path) -> None:
    manifest, preprocess = read_manifest(tiny_data).split("train"), SIZES[0]
    augment = Augment(geometry="published", brightness=0.3)
    plan = training_plan(Rows.of(manifest), Preprocess(20, 28), augment, batch_size=16, seed=3, epoch=2)
    dataset = MelanomaDataset(manifest, preprocess, plan=plan)
    batches = [b.images.copy() for b in NativeLoader(manifest.image_paths, preprocess, plan)]
    assert len(dataset) == 96  # 16 benign, 16 x 5 malignant
    assert sum(dataset.get_labels()) == 80
    for i in (0, 50, 95):
        image, label, group = dataset[i]
        wanted = np.concatenate(batches)[i].transpose(2, 0, 1)
        np.testing.assert_array_equal(image.numpy(), wanted)
        row = plan.index[i]
        assert (label, group) == (manifest.targets[row], manifest.groups[row])


def test_moved_skin_has_the_group_it_is_moved_to(tiny_data: Path) -> None:
    manifest = read_manifest(tiny_data).split("train")
    plan = evaluation_plan(len(manifest), batch_size=1)
    object.__setattr__(plan, "group", np.full(len(manifest), 5, np.int16))
    assert MelanomaDataset(manifest, SIZES[0], plan=plan)[0][2] == 5


def test_masked_items_are_black_around_the_lesion(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), (200, 150, 130)).save(tmp_path / "a.png")
    inside = np.zeros((8, 8), np.uint8)
    inside[2:6, 2:6] = 255
    Image.fromarray(inside).save(tmp_path / "m.png")
    (tmp_path / "m.csv").write_text("image_name,path,mask_path,target\na,a.png,m.png,\n")
    preprocess = Preprocess(8, 8, mean=(0, 0, 0), std=(1, 1, 1), masked=True)
    image, label, group = MelanomaDataset(tmp_path / "m.csv", preprocess)[0]
    assert (label, group) == (-1, -1)
    np.testing.assert_allclose(image[:, 4, 4].numpy(), np.array([200, 150, 130]) / 255, atol=1e-6)
    assert image[:, 0, 0].tolist() == [0, 0, 0]


def test_worker_processes_give_the_same(tiny_data: Path) -> None:
    dataset = MelanomaDataset(tiny_data, SIZES[1], split="test")
    workers = {"num_workers": 2, "multiprocessing_context": "forkserver"}
    loader = DataLoader(dataset, batch_size=10, **workers)  # type: ignore[arg-type, var-annotated]
    images, labels, groups = zip(*loader, strict=True)
    np.testing.assert_array_equal(torch.cat(images), torch.stack([item[0] for item in dataset]))
    assert torch.cat(labels).tolist() == dataset.get_labels()
    assert torch.cat(groups).tolist() == dataset.get_groups()


def test_a_bad_image_is_named(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    (tmp_path / "m.csv").write_text("image_name,path,target\nb,bad.jpg,1\n")
    dataset = MelanomaDataset(tmp_path / "m.csv", SIZES[0])
    with pytest.raises(ImageError, match=r"bad\.jpg: found an empty file"):
        dataset[0]
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="forkserver")
    with pytest.raises(RuntimeError, match=r"bad\.jpg: found an empty file"):
        list(loader)


def test_bad_arguments(tiny_data: Path) -> None:
    dataset = MelanomaDataset(tiny_data, SIZES[0], split="train")
    assert torch.equal(dataset[-1][0], dataset[31][0])
    for item in (32, -33):
        with pytest.raises(IndexError):
            dataset[item]
    with pytest.raises(InputError, match="no image in split 'x'"):
        MelanomaDataset(tiny_data, SIZES[0], split="x")
    plan = evaluation_plan(33, batch_size=1)
    with pytest.raises(ValueError, match="`plan` has 33 rows, the manifest 32"):
        MelanomaDataset(tiny_data, SIZES[0], split="train", plan=plan)


def test_is_a_name_of_the_package() -> None:
    assert melfast.MelanomaDataset is MelanomaDataset
