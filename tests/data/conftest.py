"""Images with everything that a plan may need, and one plan for each feature of an executor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from melfast.data.augment import Augment
from melfast.data.dali import DaliLoader
from melfast.data.image_list import ImageList
from melfast.data.loader import PlanLoader
from melfast.data.manifest import Manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import EpochPlan, Rows, training_plan
from melfast.data.preprocess import Preprocess
from melfast.prepare.synth import SynthSettings, synthesize
from melfast.skin.tone import TONE_GROUPS, classify, ita_degrees

Executor = Callable[..., PlanLoader]
EXECUTORS: dict[str, Executor] = {"native": NativeLoader, "dali-cpu": DaliLoader}
STILL = {"hflip": 0.0, "vflip": 0.0, "rotation_deg": 0.0, "translation": 0.0, "scale": 0.0}
EVERY_GROUP = dict.fromkeys(TONE_GROUPS["six"].names, 1.0)
KINDS = {
    "plain": Augment(**STILL),  # type: ignore[arg-type]
    "warped": Augment(scale=0.3),
    "cropped": Augment(**STILL, crop=0.1),  # type: ignore[arg-type]
    "masked": Augment(mask=1.0),
    "skin-formed": Augment(skin_former=EVERY_GROUP),
    "jittered": Augment(brightness=0.2, contrast=0.3, saturation=0.4, hue=0.05),
    "erased": Augment(erase=1.0),
    "everything": Augment(
        crop=0.3,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
        erase=0.5,
        mask=0.3,
        skin_former=EVERY_GROUP,
        skin_former_ita=(-40.0, 60.0),
    ),
}


@dataclass(frozen=True)
class Pictures:
    """Files of one kind with their masks, and the input of a plan."""

    paths: list[Path]
    masks: list[Path | None]
    rows: Rows

    @property
    def images(self) -> ImageList:
        return ImageList(self.paths, self.masks)

    def plan(self, augment: Augment, preprocess: Preprocess) -> EpochPlan:
        return training_plan(self.rows, preprocess, augment, batch_size=4, seed=1, epoch=0)


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each executor in turn; all must give the same results."""
    return EXECUTORS[request.param]


@pytest.fixture(scope="session")
def drawn_manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("drawn")
    return synthesize(folder, SynthSettings(12, size=(320, 240)), workers=1)


@pytest.fixture(scope="session")
def drawn_jpegs(drawn_manifest: Manifest) -> Pictures:
    return pictures_of(drawn_manifest.image_paths, drawn_manifest)


@pytest.fixture(scope="session")
def drawn_pngs(drawn_manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """The same pixels without loss, so that every executor starts from the same."""
    folder, paths = tmp_path_factory.mktemp("png"), []
    for path in drawn_manifest.image_paths:
        paths.append(folder / f"{path.stem}.png")
        with Image.open(path) as image:
            image.save(paths[-1])
    return pictures_of(paths, drawn_manifest)


def pictures_of(paths: list[Path], manifest: Manifest) -> Pictures:
    return Pictures(paths, manifest.mask_paths, rows_of(manifest.skin_lab))


def rows_of(skin_lab: NDArray[np.float64]) -> Rows:
    """Every other row malignant; rows without a tone have no group."""
    scale, count = TONE_GROUPS["six"], len(skin_lab)
    return Rows(
        np.arange(count) % 2,
        classify(ita_degrees(skin_lab), scale).astype(np.int16),
        scale.names,
        skin_lab,
        np.ones(count, bool),
        scale,
    )
