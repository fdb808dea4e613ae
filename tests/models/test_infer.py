"""Inference: each image exactly once, in order, for any batches and processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from melfast.data.manifest import read_manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.models.classifier import build_classifier
from melfast.models.infer import infer
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings

RECORD = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4})


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_classifier(RECORD).eval()


def test_same_as_one_batch(model: torch.nn.Module, tiny_data: Path) -> None:
    paths = read_manifest(tiny_data).image_paths[:23]
    plan = evaluation_plan(23, batch_size=23)
    (batch,) = NativeLoader(paths, RECORD.preprocess, plan, threads=1)
    with torch.inference_mode():
        expected = model(torch.from_numpy(batch.images).permute(0, 3, 1, 2))
    told: list[int] = []
    found = infer(
        model, paths, RECORD.preprocess, World(), settings=InferenceSettings(batch_size=4), advance=told.append
    )
    assert found.index.tolist() == list(range(23))
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(found.probabilities(RECORD, np.full(23, -1, np.int16))),
        expected.double().softmax(1)[:, 1],
        atol=1e-6,
        rtol=0,
    )
    assert told == [4, 4, 4, 4, 4, 3]


class Rank(World):
    """One of several processes, which simulates the others."""

    def gather(self, value: object) -> list[object]:
        gathered.append(value)
        return [value]


gathered: list[object] = []


def test_processes_see_the_same_batches_and_no_image_twice(model: torch.nn.Module, tiny_data: Path) -> None:
    paths = read_manifest(tiny_data).image_paths[:23]
    whole = infer(model, paths, RECORD.preprocess, World(), settings=InferenceSettings(batch_size=4))
    parts = [
        infer(model, paths, RECORD.preprocess, Rank(rank, 3), settings=InferenceSettings(batch_size=4))
        for rank in range(3)
    ]
    index = np.concatenate([part.index for part in parts])
    assert sorted(index.tolist()) == list(range(23))
    for part in parts:
        np.testing.assert_array_equal(part.logits, whole.logits[part.index])  # bit by bit


def test_unreadable(model: torch.nn.Module, tiny_data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    paths = read_manifest(tiny_data).image_paths[:6]
    paths[2] = paths[3] = bad
    with pytest.raises(ImageError, match=r"bad.jpg: "):
        infer(model, paths, RECORD.preprocess, World(), settings=InferenceSettings(batch_size=2))
    found = infer(model, paths, RECORD.preprocess, World(), settings=InferenceSettings(batch_size=2, on_error="skip"))
    assert found.index.tolist() == [0, 1, 4, 5]
    assert [failure.path for failure in found.failures] == [str(bad)] * 2
    with pytest.raises(InputError, match=r"none of the 3 images can be used; the first: .*bad.jpg"):
        infer(model, [bad] * 3, RECORD.preprocess, World(), settings=InferenceSettings(on_error="skip"))
