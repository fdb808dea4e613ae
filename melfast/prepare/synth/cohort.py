"""Cohort: patient, lesion and class of each image number, independent of how many are drawn."""

import functools
from dataclasses import dataclass

import numpy as np

from melfast.skin.locus import ITA_RANGE
from melfast.skin.tone import TONE_GROUPS

# Each block of images has this many lesions and patients, assigned at random: on average 1.6 images per
# lesion and 2 lesions per patient. A block can be drawn without the earlier ones.
BLOCK_IMAGES, BLOCK_LESIONS, BLOCK_PATIENTS = 32, 20, 10

# First words of the seeds, so that the streams differ.
_BLOCK, _TONE, _PATIENT, _LESION, _VIEW, _CLASS = range(1, 7)


@dataclass(frozen=True)
class Case:
    """Patient, lesion and class of an image.

    Attributes:
        patient, lesion: numbers from 0, the same in all their images.
        target: 1 malignant, 0 benign; the same in all images of a lesion.
        patient_rng, lesion_rng, view_rng: fresh generators for the appearance of the patient, of the
            lesion and of this image.
    """

    patient: int
    lesion: int
    target: int
    patient_rng: np.random.Generator
    lesion_rng: np.random.Generator
    view_rng: np.random.Generator


def make_case(seed: int, index: int, malignant: float) -> Case:
    """The case of image number `index` (from 0).

    Malignant lesions are spread evenly over the lesion numbers: among the first n, n * malignant of
    them, give or take one.
    """
    block, place = divmod(index, BLOCK_IMAGES)
    lesion_of_image, patient_of_lesion = _deal(seed, block)
    lesion = block * BLOCK_LESIONS + lesion_of_image[place]
    patient = block * BLOCK_PATIENTS + patient_of_lesion[lesion_of_image[place]]
    start = float(np.random.default_rng([_CLASS, seed]).random())
    count = np.floor((lesion + np.array([0, 1])) * malignant + start)
    return Case(
        patient,
        lesion,
        int(count[1] - count[0]),
        np.random.default_rng([_PATIENT, seed, patient]),
        np.random.default_rng([_LESION, seed, lesion]),
        np.random.default_rng([_VIEW, seed, index]),
    )


def draw_patient_ita(seed: int, patient: int, rng: np.random.Generator) -> float:
    """ITA of a patient, degrees: uniform over the six tone groups, and within each.

    Six patients in a row have the six groups in some order, so small sets hold all tones.
    """
    edges = (ITA_RANGE[1], *TONE_GROUPS["six"].lower_deg, ITA_RANGE[0])
    order = np.random.default_rng([_TONE, seed, patient // 6]).permutation(6)
    group = int(order[patient % 6])
    return float(rng.uniform(edges[group + 1], edges[group]))


@functools.lru_cache(maxsize=64)
def _deal(seed: int, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lesion of each image and patient of each lesion in a block; each has at least one."""
    rng = np.random.default_rng([_BLOCK, seed, block])
    lesions = np.r_[:BLOCK_LESIONS, rng.integers(BLOCK_LESIONS, size=BLOCK_IMAGES - BLOCK_LESIONS)]
    patients = np.r_[:BLOCK_PATIENTS, rng.integers(BLOCK_PATIENTS, size=BLOCK_LESIONS - BLOCK_PATIENTS)]
    return tuple(np.sort(lesions).tolist()), tuple(np.sort(patients).tolist())
