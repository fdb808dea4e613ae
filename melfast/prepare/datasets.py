"""The data sets that import recognises by the columns of their tables, one entry each.

Column names are compared ignoring case, spaces and underscores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from melfast.io.columns import canonical

ISIC_ONE_HOT = ("MEL", "NV", "BCC", "BKL", "DF", "VASC")
DIAGNOSIS_COLUMNS = ("diagnosis", "dx", "diagnostic", "disease", "diag", "finaldiagnosis", "histologicdiagnosis")
LEVELS = ("diagnosis_1", "diagnosis_2", "diagnosis_3")

# Column of a manifest: its names in other tables, in canonical form; the first that exists is used.
CASES = ("case", "caseid", "caseno", "casenr", "casenum", "casenumber")
ALIASES: dict[str, tuple[str, ...]] = {
    "image_name": ("imagename", "imageid", "isicid", "image", "name", "imgid", "img", "imgname"),
    "path": ("path", "imagepath", "filepath", "file", "filename", "imagefile", "imagefilename", "imgpath"),
    "target": ("target",),
    "patient_id": (
        *("patientid", "patient", "patientno", "patientnr", "patientnum", "patientnumber", "patientcode", "patid"),
        *("pid", "mrn", "subject", "subjectid", "participant", "participantid", "person", "personid", *CASES),
    ),
    "lesion_id": (
        *("lesionid", "lesion", "lesionno", "lesionnr", "lesionnum", "lesionnumber", "moleid", "mole", *CASES),
    ),
    "split": ("split",),
    "mask_path": ("maskpath",),
}
# Columns that may contain the label; the first in which all cells are understood is used.
TARGET_COLUMNS = ("target", "label", "class", "melanoma", "ismelanoma", "groundtruth", "y")
MALIGNANT_COLUMNS = ("malignant", "ismalignant", "benignmalignant", "malignancy", "benignormalignant")

TARGET_WORDS = {
    **dict.fromkeys(("0", "0.0", "benign", "false", "no", "negative", "non-neoplastic"), "0"),
    **dict.fromkeys(("not melanoma", "notmelanoma", "non-melanoma", "nonmelanoma", "no melanoma"), "0"),
    **dict.fromkeys(("1", "1.0", "malignant", "true", "yes", "positive"), "1"),
}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class DataSet:
    """Description of a data set.

    Attributes:
        title: name to show.
        header: a table with all these columns is this data set; the most specific entry comes first.
        columns: maps its columns to those of a manifest, beyond ALIASES.
        diagnosis: column of the diagnosis, or several for the levels of the ISIC Archive taxonomy; none if
            the classes are one-hot columns or ALIASES suffice.
        words: diagnoses of its own labels.
        otherwise: diagnosis of a row whose one-hot columns are all 0.
        target: definition of the target: melanoma or malignant by diagnosis, or a column of that name.
        joins: (part of the file name of the table, its replacement in the name of a side table); the side
            table is joined by image or lesion.
        row_splits: side tables with the row numbers of train, valid and test.
        labelled: False for a published test set, which has no labels.
    """

    title: str
    header: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    diagnosis: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""
    target: str = "melanoma"
    joins: tuple[tuple[str, str], ...] = ()
    row_splits: tuple[str, str, str] | tuple[()] = ()
    labelled: bool = True


DATASETS: dict[str, DataSet] = {
    "isic2020-full": DataSet(
        "ISIC 2020 with skin tones (ISIC_2020_full.csv)",
        ("image_name", "ita", "group_str", "color_r", "split"),
        target="target",
    ),
    "ham10000": DataSet("HAM10000, Harvard Dataverse or Kaggle", ("dx", "dx_type"), diagnosis=("dx",)),
    "isic2016": DataSet("ISIC 2016 part 3, and any table of names and labels without a header", target=""),
    "isic2017": DataSet(
        "ISIC 2017 part 3",
        ("image_id", "melanoma", "seborrheic_keratosis"),
        otherwise="nevus",
        joins=(("Part3_GroundTruth", "Data_metadata"),),
    ),
    "isic2018": DataSet(
        "ISIC 2018 task 3", ("image", *ISIC_ONE_HOT, "AKIEC"), joins=(("GroundTruth", "LesionGroupings"),)
    ),
    "isic2019": DataSet("ISIC 2019", ("image", *ISIC_ONE_HOT, "AK", "SCC"), joins=(("GroundTruth", "Metadata"),)),
    "isic2020": DataSet(
        "ISIC 2020, challenge",
        ("image_name", "patient_id", "lesion_id", "diagnosis", "benign_malignant"),
        diagnosis=("diagnosis",),
        target="target",
    ),
    "isic2020-test": DataSet(
        "ISIC 2020, test set", ("image", "patient", "age_approx", "anatom_site_general", "sex"), labelled=False
    ),
    "kaggle": DataSet(
        "ISIC 2020, Kaggle (SIIM)",
        ("image_name", "patient_id", "anatom_site_general_challenge", "target"),
        diagnosis=("diagnosis",),
        target="target",
    ),
    "kaggle-test": DataSet(
        "ISIC 2020, Kaggle, test.csv", ("image_name", "patient_id", "anatom_site_general_challenge"), labelled=False
    ),
    "isic2024": DataSet(
        "ISIC 2024, Kaggle, with train-image.hdf5 or files",
        ("isic_id", "target", "iddx_full", "tbp_tile_type"),
        diagnosis=("iddx_1", "iddx_2", "iddx_3"),
        target="target",
    ),
    "isic2024-test": DataSet("ISIC 2024, Kaggle, test set", ("isic_id", "tbp_tile_type", "tbp_lv_A"), labelled=False),
    "bcn20000": DataSet(
        "BCN20000", ("bcn_filename", "diagnosis"), {"bcn_filename": "image_name"}, diagnosis=("diagnosis",)
    ),
    "pad-ufes-20": DataSet(
        "PAD-UFES-20",
        ("img_id", "diagnostic", "fitspatrick"),
        {"fitspatrick": "fitzpatrick"},
        diagnosis=("diagnostic",),
    ),
    "fitzpatrick17k": DataSet(
        "Fitzpatrick17k",
        ("md5hash", "label", "three_partition_label", "fitzpatrick_scale"),
        {"md5hash": "image_name", "fitzpatrick_scale": "fitzpatrick", "three_partition_label": "malignant"},
        diagnosis=("label",),
        target="malignant",
    ),
    "ddi": DataSet(
        "DDI, Stanford",
        ("DDI_file", "skin_tone", "malignant"),
        {"DDI_file": "path", "skin_tone": "fitzpatrick"},
        diagnosis=("disease",),
        target="malignant",
    ),
    "derm7pt": DataSet(
        "Derm7pt, its dermoscopic images",
        ("case_num", "diagnosis", "derm", "clinic"),
        {"derm": "path", "case_num": "lesion_id", "case_id": "patient_id"},
        diagnosis=("diagnosis",),
        row_splits=("train_indexes.csv", "valid_indexes.csv", "test_indexes.csv"),
    ),
    "ph2": DataSet("PH2 (PH2_dataset.xlsx)", ("Image Name", "Common Nevus", "Atypical Nevus", "Melanoma")),
    "ph2-txt": DataSet(
        "PH2 (PH2_dataset.txt)",
        ("Name", "Histological Diagnosis", "Clinical Diagnosis"),
        diagnosis=("Clinical Diagnosis",),
        words={"0": "common nevus", "1": "atypical nevus", "2": "melanoma"},
    ),
    "milk10k": DataSet(
        "MILK10k",
        ("lesion_id", "isic_id", "image_type", "skin_tone_class"),
        joins=(("Metadata", "GroundTruth"), ("Metadata", "Supplement")),
    ),
    "isic-archive": DataSet(
        "ISIC Archive, isic-cli since 2024", ("isic_id", "copyright_license", "diagnosis_1"), diagnosis=LEVELS
    ),
    "isic-archive-2022": DataSet(
        "ISIC Archive, isic-cli of 2022 and 2023",
        ("isic_id", "copyright_license", "benign_malignant"),
        diagnosis=("diagnosis",),
    ),
    "isic2024-truth": DataSet(
        "ISIC 2024, challenge",
        ("isic_id", "malignant"),
        diagnosis=("iddx_1", "iddx_2", "iddx_3"),
        target="malignant",
        joins=(("GroundTruth", "Supplement"),),
    ),
    "csv": DataSet("any other table with a column of image names or files", target=""),
    "folder": DataSet("folders of classes, with or without train, valid and test above them"),
    "images": DataSet("a folder of images without labels", labelled=False),
}
HEADERLESS = "isic2016"
FOLDER_KINDS = ("folder", "images")


def recognise_dataset(columns: Sequence[str]) -> str | None:
    """The kind of a table by its header: `csv` if no entry matches but it lists images, otherwise None."""
    names = {canonical(name) for name in columns}
    images = names & {*ALIASES["image_name"], *ALIASES["path"]}
    if len(columns) == 2 and not images and columns[1].strip().lower() in TARGET_WORDS:
        return HEADERLESS
    if {"path", "imagename"} <= names:  # a manifest, regardless of its source
        return "csv"
    for kind, data_set in DATASETS.items():
        if data_set.header and {canonical(name) for name in data_set.header} <= names:
            return kind
    return "csv" if images else None
