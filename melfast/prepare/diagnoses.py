"""Diagnoses: map the words of any data set to the names in the ISIC Archive taxonomy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from melfast.io.tables import MISSING

# For names that no list can enumerate: `acral nevus`, `melanoma, acral lentiginous`.
MELANOMA = re.compile(r"(?<!non )(?<!no )(?<!not )\bmelanomas?\b")
NEVUS = re.compile(r"\b(nevus|nevi|naevus|naevi)\b")
NEVI = re.compile(r"\b(nevi|naevi|moles)\b")  # beside melanomas, not where one grew: `melanoma, nevi and moles`
# Levels 1 and 2 of the ISIC Archive.
ARCHIVE_CLASSES = {"Benign": "0", "Malignant": "1", "Indeterminate": "", "": ""}
ARCHIVE_MELANOMA = "Malignant melanocytic proliferations (Melanoma)"
# Those that may or may not be a melanoma; every other known diagnosis_2 is not.
ARCHIVE_UNSURE = ("", "Indeterminate melanocytic proliferations", "Collision - At least one malignant proliferation")


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis, and whether it is a melanoma or malignant: '1', '0', or '' if undecided."""

    name: str
    melanoma: str
    malignant: str


UNKNOWN = Diagnosis("", "", "")


def find_diagnosis(word: str, *, exact: bool = False) -> Diagnosis | None:
    """The diagnosis for a word of a data set; UNKNOWN for `unknown`, None for an unrecognised word.

    Args:
        exact: accept only words in the list, not words that merely contain `nevus` or `melanoma`.
    """
    word = _plain(word)
    known = _words()
    if word in known or exact:
        return known.get(word)
    if MELANOMA.search(word):
        return None if NEVI.search(word) else known["melanoma"]
    return known["nevus"] if NEVUS.search(word) else None


def archive_diagnosis(levels: Sequence[str]) -> Diagnosis:
    """The diagnosis for the levels of the ISIC Archive, from general to specific.

    Raises:
        KeyError: the first is not one of ARCHIVE_CLASSES.
    """
    general, particular, last, *_ = [*levels, "", "", ""]
    malignant = ARCHIVE_CLASSES[general]
    melanoma = "1" if particular == ARCHIVE_MELANOMA else "" if particular in ARCHIVE_UNSURE else "0"
    name = next((level for level in (last, particular, general) if level), "")
    return Diagnosis(name, "0" if general == "Benign" else melanoma, malignant)


def _plain(word: str) -> str:
    """`Melanocytic-nevi` to `melanocytic nevi`."""
    return re.sub(r"[^\w'.]+|_+", " ", word.lower()).strip()


@cache
def _words() -> dict[str, Diagnosis]:
    sections = yaml.safe_load((Path(__file__).parent / "diagnoses.yaml").read_text(encoding="utf-8"))
    words = {
        **dict.fromkeys(map(_plain, sections.pop("unknown")), UNKNOWN),
        **dict.fromkeys(map(_plain, MISSING), UNKNOWN),
    }
    values = {
        "melanoma": ("1", "1"),
        "malignant": ("0", "1"),
        "uncertain melanocytic": ("", ""),
        "uncertain": ("0", ""),
        "benign": ("0", "0"),
    }
    for section, names in sections.items():
        for name, others in names.items():
            words.update(dict.fromkeys(map(_plain, (name, *others)), Diagnosis(name, *values[section])))
    return words
