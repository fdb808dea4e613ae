"""Check: compare the outputs of an exported model with torch; the same check for all formats."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melfast import core
from melfast.data.manifest import Manifest, read_manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.engines.base import OptionalGroups, Outputs
from melfast.io.errors import InputError
from melfast.io.folders import list_images
from melfast.io.words import check_words
from melfast.models.decode import decode
from melfast.models.deploy import Precision
from melfast.models.record import ModelRecord

# The function of an exported model, see Engine.run.
Run = Callable[[NDArray[np.uint8], OptionalGroups], Outputs]

CHECK_BATCHES = (1, 2, 7, 32)
# Files of a class whose existence is checked; a run may have hundreds of thousands on slow storage.
LOOKED_FOR = 200
# Largest |difference| of a probability, and of a logit as a fraction of the largest logit: the
# latter catches what a probability near 0 or 1 hides.
MAX_PROBABILITY_ERROR = {"fp32": 1e-5, "fp16": 5e-3}
MAX_LOGIT_ERROR = {"fp32": 1e-4, "fp16": 2e-2}


@check_words
@dataclass(frozen=True)
class Check:
    """Differences between an export and torch in float32, over `images` images.

    Attributes:
        probability_error: largest absolute difference of P(malignant).
        logit_error: largest absolute difference of a logit, as a fraction of the largest absolute
            logit (or of 1 where all are smaller).
        lowest, highest: range of torch's P(malignant); similar images make a weak check.
        precision: precision of the export, which sets the tolerance.
        pictures: which of the images were the user's; empty: all were synthetic.
        not_run: why this machine cannot run a TensorRT engine; the differences are then those of the
            ONNX graph that it was built from.
    """

    images: int
    probability_error: float
    logit_error: float
    lowest: float
    highest: float
    precision: Precision = "fp32"
    pictures: str = ""
    not_run: str = ""

    @property
    def passed(self) -> bool:
        """Whether the differences are within tolerance; False for NaN."""
        return (
            self.probability_error <= MAX_PROBABILITY_ERROR[self.precision]
            and self.logit_error <= MAX_LOGIT_ERROR[self.precision]
        )

    def require_passed(self, where: object) -> None:
        """Raises InputError, naming `where`, unless the check passed."""
        if not self.passed:
            raise InputError(
                f"{where}: the exported model differs from torch by {self.probability_error:.2g} "
                f"in probability and {self.logit_error:.2g} in logits, expected at most "
                f"{MAX_PROBABILITY_ERROR[self.precision]:g} and "
                f"{MAX_LOGIT_ERROR[self.precision]:g} ({self.precision}); nothing was written"
            )


@dataclass(frozen=True)
class Pictures:
    """Real images for the check.

    Attributes:
        images_nhw3: uint8 sRGB at the model's size.
        description: what they are, to show.
    """

    images_nhw3: NDArray[np.uint8]
    description: str


def read_pictures(source: Path, record: ModelRecord) -> Pictures:
    """As many images as a check needs, from every class (manifest) or every folder in turn.

    Raises:
        InputError: a manifest lacks images of a class, a folder has no images, or one is unreadable.
    """
    if source.is_dir():
        paths = list_images(source)
        of_folder: dict[Path, list[Path]] = {}
        for path in paths:
            of_folder.setdefault(path.parent, []).append(path)
        return _read(source, record, list(of_folder.values()), [""] * len(of_folder))
    kinds = _by_class(read_manifest(source), record)
    for kind, name in zip(kinds, record.classes, strict=True):
        if not kind:
            raise InputError(f"{source}: no {name} image; the check needs images of each class")
    return _read(source, record, kinds, list(record.classes))


def pictures_at_hand(source: Path, record: ModelRecord) -> Pictures:
    """`read_pictures` for a manifest whose image files may be missing; uses those that exist.

    Raises:
        InputError: the manifest does not exist, or no image of a class exists.
    """
    kinds = [
        [path for path in _spread(kind, LOOKED_FOR) if path.is_file()]
        for kind in _by_class(read_manifest(source), record)
    ]
    for kind, name in zip(kinds, record.classes, strict=True):
        if not kind:
            raise InputError(f"{source}: no file of a {name} image exists")
    return _read(source, record, kinds, list(record.classes))


def _by_class(manifest: Manifest, record: ModelRecord) -> list[list[Path]]:
    files, targets = manifest.image_paths, manifest.targets
    return [[files[i] for i in np.flatnonzero(targets == c)] for c in range(len(record.classes))]


def _spread(paths: list[Path], count: int) -> list[Path]:
    """At most `count` items, spread over the list."""
    picked = np.random.default_rng(0).permutation(len(paths))[:count]
    return [paths[i] for i in np.sort(picked)]


def _read(source: Path, record: ModelRecord, kinds: list[list[Path]], names: list[str]) -> Pictures:
    """As many images as a check needs, from the kinds in turn."""
    picked = _in_turn(kinds, sum(CHECK_BATCHES))
    counts = ", ".join(
        f"{len(set(picked).intersection(kind))} {name}" for kind, name in zip(kinds, names, strict=True) if name
    )
    plan = evaluation_plan(len(picked), batch_size=len(picked))
    (batch,) = NativeLoader(picked, record.preprocess, plan, dtype=np.uint8)
    return Pictures(batch.images.copy(), f"{len(picked)} from {source}" + (f" ({counts})" if counts else ""))


def _in_turn(kinds: list[list[Path]], count: int) -> list[Path]:
    """The first of each, the second of each, and so on, up to `count` of them."""
    longest = max(map(len, kinds))
    rounds = ([kind[i] for kind in kinds if i < len(kind)] for i in range(longest))
    return list(islice(chain.from_iterable(rounds), count))


@check_words
def compare_outputs(
    run: Run,
    classifier: torch.nn.Module,
    record: ModelRecord,
    precision: Precision = "fp32",
    pictures: Pictures | None = None,
) -> Check:
    """Runs an export and torch, fed as in training, in batches of CHECK_BATCHES.

    Args:
        classifier: normalised images [B, 3, H, W] to logits [B, K]; float32, in eval mode.
        pictures: real images to check in addition to synthetic ones.
    """
    size = record.preprocess
    errors, probabilities = [], []
    for images in _batches(size, pictures):
        logits = torch_logits(classifier, size, images)
        # Every tone group and unknown in turn; models that take no group ignore it.
        group_b = np.arange(len(images)) % (len(record.groups) + 1) - 1
        probability = decode(logits, record, torch.from_numpy(group_b)).numpy()
        found_probability, found_logits = run(images, group_b)
        assert found_probability.shape == probability.shape, found_probability.shape
        assert found_logits.shape == tuple(logits.shape), found_logits.shape
        scale = max(1.0, float(logits.abs().max()))
        errors.append(
            (np.abs(found_probability - probability).max(), np.abs(found_logits - logits.numpy()).max() / scale)
        )
        probabilities.append(probability)
    worst, all_probabilities = np.max(errors, axis=0), np.concatenate(probabilities)
    return Check(
        images=len(all_probabilities),
        probability_error=float(worst[0]),
        logit_error=float(worst[1]),
        lowest=float(all_probabilities.min()),
        highest=float(all_probabilities.max()),
        precision=precision,
        pictures=pictures.description if pictures else "",
    )


def torch_logits(classifier: torch.nn.Module, size: Preprocess, images_bhw3: NDArray[np.uint8]) -> torch.Tensor:
    """Logits [B, K] of images as training and evaluation feed them."""
    inputs = np.empty(images_bhw3.shape, np.float32)
    for image, out in zip(images_bhw3, inputs, strict=True):
        core.normalize(image, out, size.colour, size.mean, size.std)
    with torch.inference_mode():
        logits: torch.Tensor = classifier(torch.from_numpy(inputs).permute(0, 3, 1, 2)).float()
    return logits


def _batches(size: Preprocess, pictures: Pictures | None) -> Iterable[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for count in CHECK_BATCHES:
        yield draw_images(rng, count, size.height, size.width)
    if pictures is not None:
        order = cycle(range(len(pictures.images_nhw3)))  # a few images are used repeatedly
        for count in CHECK_BATCHES:
            yield pictures.images_nhw3[list(islice(order, count))]


def draw_images(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colourful images with increasing noise, uint8 [count, height, width, 3]."""
    images = np.empty((count, height, width, 3), np.uint8)
    for image in images:
        patches = rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), dtype=np.uint8)
        core.resize(patches, image)
        noise = rng.normal(0, rng.choice([0, 8, 64]), image.shape)
        image[:] = np.clip(image + noise, 0, 255)
    return images
