"""Every known data set in small: its real columns, files and folders, with synthetic pixels."""

import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melfast.data.manifest import Manifest, write_manifest
from melfast.io.errors import InputError
from melfast.io.tables import read_table
from melfast.prepare.datasets import DATASETS
from melfast.prepare.diagnoses import find_diagnosis
from melfast.prepare.importers import Choice
from melfast.prepare.sources import import_dataset
from melfast.prepare.split import split_manifest, unused_identities

HAM_MASKS = "HAM10000_segmentations_lesion_tschandl"
ISIC2024 = "isic_id,target,patient_id,tbp_tile_type,tbp_lv_A,lesion_id,iddx_full,iddx_1,iddx_2,iddx_3\n"
MILK = "lesion_id,image_type,isic_id,attribution,copyright_license,skin_tone_class,site\n"
SIIM = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge"


@dataclass(frozen=True)
class Layout:
    """A data set as distributed, and the expected manifest.

    Attributes:
        files: table or text by path; images are made for `images`.
        rows: of columns `image_name`, `target`, and those of `columns`.
        unused: tables that import should name.
    """

    files: dict[str, str | bytes]
    images: tuple[str, ...]
    rows: list[tuple[str, ...]]
    columns: tuple[str, ...] = ()
    kind: str = ""
    unused: str = ""
    options: dict[str, object] = field(default_factory=dict)


def one_hot(image: str, classes: str, *rows: str) -> str:
    """`A=MEL` to a row with a 1.0 under MEL."""
    names = classes.split(",")
    cells = [
        ",".join([row.split("=")[0], *("1.0" if name == row.split("=")[1] else "0.0" for name in names)])
        for row in rows
    ]
    return "\n".join([f"{image},{classes}", *cells, ""])


LAYOUTS = {
    "isic2020-full": Layout(
        {
            "ISIC_2020_full.csv": "image_name;ita;color_r;group;group_str;patient_id;target;split\n"
            "A.jpg;43,8;9;0;Light;P;1;train\nB.jpg;40,0;9;0;Light;Q;0;valid\n"
        },
        ("A.jpg", "B.jpg"),
        [("A", "1", "train", "P"), ("B", "0", "valid", "Q")],
        ("split", "patient_id"),
    ),
    "ham10000": Layout(
        {
            "HAM10000_metadata": "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n"
            "H_1,A,mel,histo,60.0,male,back,vidir_modern\nH_1,B,nv,histo,60.0,male,back,vidir_modern\n"
            "H_2,C,akiec,histo,,male,back,rosendahl\n",
            "hmnist_8_8_L.csv": "pixel0000,pixel0001,label\n0,1,2\n",
        },
        (
            "HAM10000_images_part_1/A.jpg",
            "HAM10000_images_part_2/B.jpg",
            "HAM10000_images_part_2/C.jpg",
            "ham10000_images_part_1/A.jpg",
            "HAM10000_segmentations_lesion_tschandl/A_segmentation.png",
        ),
        [
            ("A", "1", "H_1", "Melanoma, NOS", "mel", "1", f"{HAM_MASKS}/A_segmentation.png"),
            ("B", "0", "H_1", "Nevus", "nv", "0", ""),
            ("C", "0", "H_2", "Actinic keratosis or intraepidermal carcinoma", "akiec", "1", ""),
        ],
        ("lesion_id", "diagnosis", "diagnosis_source", "malignant", "mask_path"),
        unused="hmnist_8_8_L.csv",
    ),
    "isic2016": Layout(
        {
            "ISBI2016_ISIC_Part3_Training_GroundTruth.csv": "A,benign\nB,malignant\n",
            "ISBI2016_ISIC_Part3_Test_GroundTruth.csv": "C,0.0\nD,1.0\n",
        },
        (
            "ISBI2016_ISIC_Part3_Training_Data/A.jpg",
            "ISBI2016_ISIC_Part3_Training_Data/B.jpg",
            "ISBI2016_ISIC_Part3_Test_Data/C.jpg",
            "ISBI2016_ISIC_Part3_Test_Data/D.jpg",
        ),
        [("C", "0", "test"), ("D", "1", "test"), ("A", "0", "train"), ("B", "1", "train")],
        ("split",),
    ),
    "isic2017": Layout(
        {
            "ISIC-2017_Training_Part3_GroundTruth.csv": "image_id,melanoma,seborrheic_keratosis\nA,1.0,0.0\n"
            "B,0.0,1.0\nC,0.0,0.0\n",
            "ISIC-2017_Training_Data_metadata.csv": "image_id,age_approximate,sex\nB,55,female\nA,unknown,male\n",
        },
        (
            "ISIC-2017_Training_Data/A.jpg",
            "ISIC-2017_Training_Data/B.jpg",
            "ISIC-2017_Training_Data/C.jpg",
            "ISIC-2017_Training_Part1_GroundTruth/A_segmentation.png",
        ),
        [("A", "1", "melanoma", "male"), ("B", "0", "seborrheic_keratosis", "female"), ("C", "0", "nevus", "")],
        ("diagnosis_source", "sex"),
    ),
    "isic2018": Layout(
        {
            "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv": one_hot(
                "image", "MEL,NV,BCC,AKIEC,BKL,DF,VASC", "A=MEL", "B=BKL"
            ),
            "ISIC2018_Task3_Validation_GroundTruth/ISIC2018_Task3_Validation_GroundTruth.csv": one_hot(
                "image", "MEL,NV,BCC,AKIEC,BKL,DF,VASC", "C=NV"
            ),
            "ISIC2018_Task3_Training_LesionGroupings.csv": "image,lesion_id,diagnosis_confirm_type\n"
            "A,H_7,histopathology\n"
            "B,H_8,serial imaging\n",
        },
        (
            "ISIC2018_Task3_Training_Input/A.jpg",
            "ISIC2018_Task3_Training_Input/B.jpg",
            "ISIC2018_Task3_Validation_Input/C.jpg",
        ),
        [("A", "1", "H_7", "train"), ("B", "0", "H_8", "train"), ("C", "0", "", "valid")],
        ("lesion_id", "split"),
    ),
    "isic2019": Layout(
        {
            "ISIC_2019_Training_GroundTruth.csv": one_hot(
                "image", "MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK", "A_downsampled=MEL", "B=AK", "C=UNK"
            ),
            "ISIC_2019_Training_Metadata.csv": "image,age_approx,anatom_site_general,lesion_id,sex\n"
            "B,55,torso,L_2,male\nA_downsampled,,,L_1,\nC,,,,\n",
        },
        (
            "ISIC_2019_Training_Input/A_downsampled.jpg",
            "ISIC_2019_Training_Input/B.jpg",
            "ISIC_2019_Training_Input/C.jpg",
        ),
        [
            ("A_downsampled", "1", "L_1", "Melanoma, NOS"),
            ("B", "0", "L_2", "Solar or actinic keratosis"),
            ("C", "", "", ""),
        ],
        ("lesion_id", "diagnosis"),
    ),
    "isic2020": Layout(
        {
            "ISIC_2020_Training_GroundTruth_v2.csv": "image_name,patient_id,lesion_id,sex,age_approx,"
            "anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
            "A,P,L,male,45,head/neck,unknown,benign,0\nB,Q,M,male,45,head/neck,melanoma,malignant,1\n"
        },
        ("train/A.jpg", "train/B.jpg"),
        [("A", "0", "P", "L", "", "unknown"), ("B", "1", "Q", "M", "Melanoma, NOS", "melanoma")],
        ("patient_id", "lesion_id", "diagnosis", "diagnosis_source"),
    ),
    "isic2020-test": Layout(
        {"ISIC_2020_Test_Metadata.csv": "image,patient,age_approx,anatom_site_general,sex\nA,P,50,torso,male\n"},
        ("ISIC_2020_Test_Input/A.jpg",),
        [("A", "", "P")],
        ("patient_id",),
    ),
    "kaggle": Layout(
        {
            "train.csv": f"{SIIM},diagnosis,benign_malignant,target\nA,P,male,45.0,,nevus,benign,0\n"
            "B,P,male,45.0,,melanoma,malignant,1\n",
            "test.csv": f"{SIIM}\nZ,R,male,70,\n",
            "sample_submission.csv": "image_name,target\nZ,0\n",
        },
        ("jpeg/train/A.jpg", "jpeg/train/B.jpg", "jpeg/test/Z.jpg"),
        [("A", "0", "P", "jpeg/train/A.jpg"), ("B", "1", "P", "jpeg/train/B.jpg")],
        ("patient_id", "path"),
        unused="sample_submission.csv, test.csv",
    ),
    "kaggle-test": Layout(
        {"test.csv": f"{SIIM}\nZ,R,male,70,\n"}, ("jpeg/test/Z.jpg",), [("Z", "", "R")], ("patient_id",)
    ),
    "isic2024": Layout(
        {
            "train-metadata.csv": f"{ISIC2024}A,0,P,3D: white,20.2,,Benign,Benign,,\n"
            "B,1,Q,3D: XP,20.2,IL_1,x,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma Invasive\n",
            "test-metadata.csv": "isic_id,patient_id,tbp_tile_type,tbp_lv_A\nZ,R,3D: XP,22.8\n",
            "sample_submission.csv": "isic_id,target\nZ,0.3\n",
        },
        ("train-image/image/A.jpg", "train-image/image/B.jpg"),
        [("A", "0", "P", "", "Benign"), ("B", "1", "Q", "IL_1", "Melanoma Invasive")],
        ("patient_id", "lesion_id", "diagnosis"),
        unused="sample_submission.csv, test-metadata.csv",
    ),
    "isic2024-test": Layout(
        {"test-metadata.csv": "isic_id,patient_id,tbp_tile_type,tbp_lv_A\nZ,R,3D: XP,22.8\n"},
        ("Z.jpg",),
        [("Z", "", "R")],
        ("patient_id",),
    ),
    "isic2024-truth": Layout(
        {
            "ISIC_2024_Training_GroundTruth.csv": "isic_id,malignant\nA,0.0\nB,1.0\n",
            "ISIC_2024_Training_Supplement.csv": "isic_id,lesion_id,iddx_full\nA,,Benign\nB,IL_2,Malignant::Basal\n",
        },
        ("ISIC_2024_Training_Input/A.jpg", "ISIC_2024_Training_Input/B.jpg"),
        [("A", "0", ""), ("B", "1", "IL_2")],
        ("lesion_id",),
    ),
    "bcn20000": Layout(
        {
            "bcn_20k_train.csv": "bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,"
            "capture_date,sex,split\n"
            "BCN_1.jpg,55.0,anterior torso,MEL,BCN_L1,2012-05-16,male,train\n"
            "BCN_2.jpg,,,SCC,BCN_L2,2012-05-16,male,train\n",
            "bcn_20k_test.csv": "bcn_filename,age_approx,anatom_site_general,sex,split\nBCN_3.jpg,50,,male,test\n",
        },
        ("BCN_20k_train/bcn_20k_train/BCN_1.jpg", "BCN_20k_train/bcn_20k_train/BCN_2.jpg"),
        [("BCN_1", "1", "BCN_L1", "", "Melanoma, NOS"), ("BCN_2", "0", "BCN_L2", "", "Squamous cell carcinoma, NOS")],
        ("lesion_id", "split", "diagnosis"),
        unused="bcn_20k_test.csv",
    ),
    "pad-ufes-20": Layout(
        {
            "metadata.csv": "patient_id,lesion_id,smoke,fitspatrick,region,diagnostic,img_id,biopsed\n"
            "PAT_1,11,False,3.0,NECK,NEV,PAT_1_11_1.png,False\nPAT_1,12,,,NECK,MEL,PAT_1_12_2.png,True\n"
            "PAT_2,13,,2.0,NECK,ACK,PAT_2_13_3.png,False\n"
        },
        (
            "images/imgs_part_1/imgs_part_1/PAT_1_11_1.png",
            "images/imgs_part_2/PAT_1_12_2.png",
            "images/imgs_part_3/PAT_2_13_3.png",
        ),
        [
            ("PAT_1_11_1", "0", "PAT_1", "11", "Nevus", "III"),
            ("PAT_1_12_2", "1", "PAT_1", "12", "Melanoma, NOS", ""),
            ("PAT_2_13_3", "0", "PAT_2", "13", "Solar or actinic keratosis", "II"),
        ],
        ("patient_id", "lesion_id", "diagnosis", "group_str"),
    ),
    "fitzpatrick17k": Layout(
        {
            "fitzpatrick17k.csv": "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,"
            "three_partition_label,qc,url,url_alphanum\n"
            "aa1,3,3,psoriasis,inflammatory,non-neoplastic,,http://x/1,x1.jpg\n"
            "bb2,-1,1,malignant melanoma,malignant melanoma,malignant,,http://x/2,x2.jpg\n"
        },
        ("data/finalfitz17k/aa1.jpg", "data/finalfitz17k/bb2.jpg"),
        [("aa1", "0", "psoriasis", "III", "3"), ("bb2", "1", "Melanoma, NOS", "", "")],
        ("diagnosis", "group_str", "fitzpatrick"),
    ),
    "ddi": Layout(
        {
            "ddi_metadata.csv": ",DDI_ID,DDI_file,skin_tone,malignant,disease\n"
            "0,1,000001.png,56,False,melanocytic-nevi\n"
            "1,2,000002.png,12,True,basal-cell-carcinoma\n2,3,000003.png,34,True,subungual-thing\n"
        },
        ("000001.png", "000002.png", "000003.png"),
        [
            ("000001", "0", "V-VI", "Nevus"),
            ("000002", "1", "I-II", "Basal cell carcinoma"),
            ("000003", "1", "III-IV", "subungual-thing"),
        ],
        ("group_str", "diagnosis"),
    ),
    "derm7pt": Layout(
        {
            "meta/meta.csv": "case_num,diagnosis,seven_point_score,sex,management,clinic,derm,case_id,notes\n"
            "1,blue nevus,0,female,excision,NEL/NEL025.JPG,NEL/Nel026.jpg,,\n"
            "2,melanoma (in situ),1,female,excision,NEL/NEL026.JPG,NEL/Nel027.jpg,101,\n"
            "3,melanoma (less than 0.76 mm),4,male,excision,NEL/NEL027.JPG,NEL/Nel028.jpg,101,\n",
            "meta/train_indexes.csv": "indexes\n0\n",
            "meta/valid_indexes.csv": "indexes\n2\n",
            "meta/test_indexes.csv": "indexes\n1\n",
        },
        tuple(
            f"images/NEL/{name}"
            for name in ("NEL025.JPG", "NEL026.JPG", "NEL027.JPG", "Nel026.jpg", "Nel027.jpg", "Nel028.jpg")
        ),
        [
            ("Nel026", "0", "", "1", "train", "Nevus"),
            ("Nel027", "1", "101", "2", "test", "Melanoma in situ"),
            ("Nel028", "1", "101", "3", "valid", "Melanoma Invasive"),
        ],
        ("patient_id", "lesion_id", "split", "diagnosis"),
    ),
    "ph2": Layout(
        {
            "PH2_dataset.csv": "Image Name,Histological Diagnosis,Common Nevus,Atypical Nevus,Melanoma,Asymmetry\n"
            "IMD002,,X,,,0\nIMD003,,,X,,1\nIMD058,,,,X,2\n"
        },
        tuple(
            f"PH2 Dataset images/{n}/{n}_{part}/{n}{end}.png"
            for n in ("IMD002", "IMD003", "IMD058")
            for part, end in (("Dermoscopic_Image", ""), ("lesion", "_lesion"))
        ),
        [
            (name, target, f"PH2 Dataset images/{name}/{name}_lesion/{name}_lesion.png")
            for name, target in (("IMD002", "0"), ("IMD003", "0"), ("IMD058", "1"))
        ],
        ("mask_path",),
    ),
    "ph2-txt": Layout(
        {
            "PH2_dataset.txt": "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | "
            "Pigment Network ||\n"
            "|| IMD002 ||              ||                  0 ||         0 |               T ||\n"
            "|| IMD058 ||              ||                  2 ||         0 |               T ||\n\n"
            "Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma\n"
        },
        (
            "PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.png",
            "PH2 Dataset images/IMD058/IMD058_Dermoscopic_Image/IMD058.png",
        ),
        [("IMD002", "0"), ("IMD058", "1")],
    ),
    "milk10k": Layout(
        {
            "MILK10k_Training_GroundTruth.csv": one_hot(
                "lesion_id", "AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC", "IL_2=MEL", "IL_1=MAL_OTH"
            ),
            "MILK10k_Training_Metadata.csv": f"{MILK}IL_1,clinical: close-up,A,x,CC,3,trunk\n"
            "IL_1,dermoscopic,B,x,CC,3,trunk\n"
            "IL_2,dermoscopic,C,x,CC,5,trunk\n",
            "MILK10k_Training_Supplement.csv": "isic_id,diagnosis_full,diagnosis_confirm_type\n"
            "C,Melanoma Invasive,histopathology\n",
            "MILK10k_Test_Metadata.csv": f"{MILK}IL_9,dermoscopic,Z,x,CC,3,trunk\n",
        },
        tuple(f"MILK10k_Training_Input/{name}.jpg" for name in ("IL_1/A", "IL_1/B", "IL_2/C")),
        [
            ("A", "0", "IL_1", "", "Malignant - Other"),
            ("B", "0", "IL_1", "", "Malignant - Other"),
            ("C", "1", "IL_2", "histopathology", "Melanoma, NOS"),
        ],
        ("lesion_id", "diagnosis_confirm_type", "diagnosis"),
        unused="MILK10k_Test_Metadata.csv",
    ),
    "isic-archive": Layout(
        {
            "metadata.csv": "isic_id,attribution,copyright_license,diagnosis_1,diagnosis_2,diagnosis_3,"
            "fitzpatrick_skin_type,"
            "lesion_id,patient_id\n"
            "A,x,CC-0,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma in situ,III,IL_1,IP_1\n"
            "B,x,CC-0,Indeterminate,Indeterminate melanocytic proliferations,,,IL_2,IP_1\n"
            "C,x,CC-0,Benign,Benign melanocytic proliferations,Nevus,,IL_3,IP_2\n",
            "attribution.txt": "x\n\ny",
            "licenses/CC-0.txt": "x\n",
        },
        ("A.jpg", "B.jpg", "C.jpg"),
        [
            ("A", "1", "IP_1", "IL_1", "Melanoma in situ", "1"),
            ("B", "", "IP_1", "IL_2", "Indeterminate melanocytic proliferations", ""),
            ("C", "0", "IP_2", "IL_3", "Nevus", "0"),
        ],
        ("patient_id", "lesion_id", "diagnosis", "malignant"),
    ),
    "isic-archive-2022": Layout(
        {
            "metadata.csv": "isic_id,attribution,copyright_license,benign_malignant,diagnosis,lesion_id,patient_id\n"
            "A,x,CC-0,malignant,melanoma,IL_1,IP_1\nB,x,CC-0,benign,lentigo NOS,,\n"
            "C,x,CC-0,malignant,basal cell carcinoma,,\n"
            "D,x,CC-0,,other,,\n"
        },
        ("A.jpg", "B.jpg", "C.jpg", "D.jpg"),
        [("A", "1", "Melanoma, NOS"), ("B", "0", "Lentigo NOS"), ("C", "0", "Basal cell carcinoma"), ("D", "", "")],
        ("diagnosis",),
    ),
    "csv": Layout(
        {"my labels.csv": "filename,Diagnosis,Patient,Lesion\na.jpg,melanoma,7,1\nb.jpg,blue naevus,7,2\n"},
        ("photos/a.jpg", "photos/b.jpg"),
        [("a", "1", "7", "1", "Melanoma, NOS", "melanoma"), ("b", "0", "7", "2", "Nevus", "blue naevus")],
        ("patient_id", "lesion_id", "diagnosis", "diagnosis_source"),
    ),
    "folder": Layout(
        {},
        (
            "archive/Train/melanoma/1.jpg",
            "archive/Train/pigmented benign keratosis/1.jpg",
            "archive/Test/melanoma/1.jpg",
            "archive/Test/nevus/1.jpg",
        ),
        [
            ("Test/melanoma/1", "1", "test", "Melanoma, NOS"),
            ("Test/nevus/1", "0", "test", "Nevus"),
            ("Train/melanoma/1", "1", "train", "Melanoma, NOS"),
            ("Train/pigmented benign keratosis/1", "0", "train", "Pigmented benign keratosis"),
        ],
        ("split", "diagnosis"),
    ),
    "images": Layout({}, ("a.jpg", "b.jpg"), [("a", ""), ("b", "")]),
    "two classes, numbered": Layout(
        {},
        tuple(
            f"{split}/{word}/{i}.jpg" for split in ("train", "test") for word in ("benign", "malignant") for i in (1, 2)
        ),
        [
            (f"{split}/{word}/{i}", target, "valid" if split == "val" else split)
            for split in ("test", "train")
            for word, target in (("benign", "0"), ("malignant", "1"))
            for i in (1, 2)
        ],
        ("split",),
        kind="folder",
    ),
    "Melanoma and NotMelanoma": Layout(
        {},
        ("DermMel/train_sep/Melanoma/a.jpg", "DermMel/train_sep/NotMelanoma/b.jpg", "DermMel/valid/Melanoma/c.jpg"),
        [("a", "1", "train"), ("b", "0", "train"), ("c", "1", "valid")],
        ("split",),
        kind="folder",
    ),
    "classes 0 and 1": Layout(
        {}, ("train/0/a.jpg", "train/1/b.jpg"), [("a", "0", "train"), ("b", "1", "train")], ("split",), kind="folder"
    ),
    "Hugging Face imagefolder": Layout(
        {
            "train/metadata.csv": "file_name,label\n0.jpg,benign\n1.jpg,malignant\n",
            "test/metadata.jsonl": '{"file_name": "0.jpg", "label": "malignant"}\n',
        },
        ("train/0.jpg", "train/1.jpg", "test/0.jpg"),
        [
            ("test/0", "1", "test", "test/0.jpg"),
            ("train/0", "0", "train", "train/0.jpg"),
            ("train/1", "1", "train", "train/1.jpg"),
        ],
        ("split", "path"),
        kind="csv",
    ),
    "Harvard's tables, with the test set of ISIC 2018": Layout(
        {
            "HAM10000_metadata.tab": "lesion_id\timage_id\tdx\tdx_type\nH_1\tA\tmel\thisto\nH_2\tB\tnv\thisto\n",
            "ISIC2018_Task3_Test_GroundTruth.tab": "lesion_id\timage_id\tdx\tdx_type\nH_3\tC\tnv\thisto\n",
        },
        ("HAM10000_images_part_1/A.jpg", "HAM10000_images_part_2/B.jpg", "ISIC2018_Task3_Test_Images/C.jpg"),
        [("A", "1", "train"), ("B", "0", "train"), ("C", "0", "test")],
        ("split",),
        kind="ham10000",
    ),
    "ISIC 2017, metadata among the images": Layout(
        {
            "ISIC-2017_Training_Part3_GroundTruth.csv": "image_id,melanoma,seborrheic_keratosis\nA,1.0,0.0\n",
            "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": "image_id,age_approximate,sex\nA,5,male\n",
            "ISIC-2017_Training_Part2_GroundTruth/A_features.json": "{}",
        },
        ("ISIC-2017_Training_Data/A.jpg", "ISIC-2017_Training_Data/A_superpixels.png"),
        [("A", "1", "male")],
        ("sex",),
        kind="isic2017",
    ),
    "ISIC 2018, tasks 1 and 2": Layout(
        {},
        (
            "ISIC2018_Task1-2_Training_Input/A.jpg",
            "ISIC2018_Task1_Training_GroundTruth/A_segmentation.png",
            "ISIC2018_Task2_Training_GroundTruth_v3/A_attribute_milia_like_cyst.png",
        ),
        [("A", "", "ISIC2018_Task1_Training_GroundTruth/A_segmentation.png")],
        ("mask_path",),
        kind="images",
    ),
    "archive's JSON files before 2022": Layout(
        {
            f"Data/Descriptions/ISIC_{number}": json.dumps(
                {
                    "dataset": {"name": "UDA-1"},
                    "name": f"ISIC_{number}",
                    "meta": {"clinical": {"benign_malignant": "x", "diagnosis": word, "patient_id": f"P{number}"}},
                }
            )
            for number, word in ((1, "melanoma"), (2, "nevus"))
        },
        ("Data/Images/ISIC_1.jpeg", "Data/Images/ISIC_2.jpeg", "Data/Segmentation/ISIC_2_expert.png"),
        [("ISIC_1", "1", "P1", ""), ("ISIC_2", "0", "P2", "../Data/Segmentation/ISIC_2_expert.png")],
        ("patient_id", "mask_path"),
        kind="csv",
    ),
    "a list in JSON": Layout(
        {
            "train/_annotations.coco.json": "{}",
            "table.json": '[{"file": "a.jpg", "label": "benign"},\n {"file": "b.jpg"}]',
        },
        ("train/a.jpg", "train/b.jpg"),
        [("a", "0"), ("b", "")],
        kind="csv",
    ),
    "Roboflow": Layout(
        {
            "README.roboflow.txt": "x",
            "train/_classes.csv": "filename, benign, malignant\na.jpg, 1, 0\nb.jpg, 0, 1\n",
            "valid/_classes.csv": "filename, benign, malignant\nc.jpg, 1, 0\n",
        },
        ("train/a.jpg", "train/b.jpg", "valid/c.jpg"),
        [("a", "0", "train"), ("b", "1", "train"), ("c", "0", "valid")],
        ("split",),
        kind="csv",
    ),
    "archive's API before 2022": Layout(
        {
            "metadata.csv": "_id,name,meta.clinical.benign_malignant,meta.clinical.diagnosis,"
            "meta.clinical.patient_id\n"
            "5,ISIC_1,malignant,melanoma,IP_1\n6,ISIC_2,benign,nevus,IP_1\n"
        },
        ("ISIC_1.jpg", "ISIC_2.jpg"),
        [("ISIC_1", "1", "IP_1"), ("ISIC_2", "0", "IP_1")],
        ("patient_id",),
        kind="csv",
    ),
}


def lay_out(folder: Path, files: dict[str, str | bytes], images: tuple[str, ...]) -> None:
    for number, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # A second copy in the folders of Kaggle's HAM10000 is the same picture.
        shade = 0 if "ham10000_images_part_1" in name.lower() else 9 * number + 9
        kind = "PNG" if name.endswith(".png") else "JPEG"
        Image.new("RGB", (8, 6), (shade, 90, 60)).save(folder / name, kind)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def rows(manifest: Manifest, *columns: str) -> list[tuple[str, ...]]:
    return list(zip(*(manifest.column(name).tolist() for name in ("image_name", "target", *columns)), strict=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    lay_out(tmp_path, layout.files, layout.images)
    found = import_dataset(tmp_path)
    assert found.kind == (layout.kind or name)
    assert rows(found.manifest, *layout.columns) == layout.rows
    assert all(path.is_file() for path in found.manifest.image_paths)
    unused = [note.removeprefix("tables not used: ") for note in found.notes if note.startswith("tables not used: ")]
    assert unused == ([layout.unused] if layout.unused else [])
    assert bool(found.target) == any(row[1] for row in layout.rows)


def test_every_entry_has_a_layout() -> None:
    assert set(DATASETS) <= set(LAYOUTS)


def simple(tmp_path: Path, text: str, *images: str, name: str = "t.csv") -> Path:
    lay_out(tmp_path, {name: text}, images)
    return tmp_path / name


TABLE = "photo,dx,who,image\nx,mel,1,a\ny,psoriasis,1,b\nz,,2,c\n"


@pytest.mark.parametrize(
    ("choice", "targets", "said"),
    [
        (Choice(target="dx", positive=("MEL",)), ["1", "0", ""], "'dx': 1 positive, 1 negative, 1 unlabelled"),
        (Choice(positive=("mel", "psoriasis")), ["1", "1", ""], "'dx': 2 positive, 0 negative, 1 unlabelled"),
        (Choice(target="map.yaml"), ["1", "0", ""], "map.yaml, of 'dx': 1 positive, 1 negative, 1 unlabelled"),
        (Choice(target="who", positive=("2",)), ["0", "0", "1"], "'who': 1 positive, 2 negative"),
    ],
)
def test_targets_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: Choice, targets: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = simple(tmp_path, TABLE, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "map.yaml").write_text("Melanoma, NOS: 1\npsoriasis: 0\n")
    found = import_dataset(path, choice=choice)
    assert found.manifest.column("target").tolist() == targets
    assert found.target == said


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            Choice(),
            ":3: dx 'psoriasis' is no diagnosis that is known: say with `positive` which of its words are the "
            "positive class, or give a table of them with `target=MAP.yaml`",
        ),
        (
            Choice(target="dx"),
            ":2: dx must be 0 or 1, benign or malignant, or empty, got 'mel' (for other words: "
            "`target=dx` `positive=WORD,WORD`)",
        ),
        (Choice(target="dx", positive=("mell",)), ": `positive` 'mell' is in no row of 'dx'; there are mel, psoriasis"),
        (Choice(target="dxx"), ": no column 'dxx'; columns are photo, dx, who, image; did you mean 'dx'?"),
        (Choice(target="map.yaml"), ":3: dx 'psoriasis' is not in map.yaml"),
        (Choice(patient="whom"), ": no column 'whom'; columns are photo, dx, who, image; did you mean 'who'?"),
    ],
)
def test_targets_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: Choice, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.yaml").write_text("mel: 1\n")
    path = simple(tmp_path, TABLE)
    with pytest.raises(InputError) as caught:
        import_dataset(path, choice=choice, require_images=False)
    assert str(caught.value) == f"{path}{message}"


def test_malignant_by_diagnosis(tmp_path: Path) -> None:
    path = simple(tmp_path, "image,dx\na,bcc\nb,ak\nc,nv\n")
    found = import_dataset(path, choice=Choice(target="malignant"), require_images=False)
    assert found.manifest.targets.tolist() == [1, -1, 0]
    assert found.target == "malignant, by 'dx': 1 positive, 1 negative, 1 unlabelled"
    assert found.notes == ["images unlabelled, for their diagnosis leaves malignant open: 1"]


@pytest.mark.parametrize(
    ("patient", "lesion", "expected"),
    [
        ("Patient", "Lesion", ("patient_id", "lesion_id")),
        ("PatientID", "LESION ID", ("patient_id", "lesion_id")),
        ("subject", "mole_id", ("patient_id", "lesion_id")),
        ("Case No", "lesion", ("patient_id", "lesion_id")),
        ("participant-id", "case", ("patient_id", "lesion_id")),
    ],
)
def test_identities_in_any_spelling(tmp_path: Path, patient: str, lesion: str, expected: tuple[str, str]) -> None:
    path = simple(tmp_path, f"image,target,{patient},{lesion},age\na,1,P,7,40\nb,0,P,8,50\n")
    found = import_dataset(path, require_images=False)
    assert rows(found.manifest, *expected) == [("a", "1", "P", "7"), ("b", "0", "P", "8")]
    assert found.used == {"image_name": "image", "target": "target", "patient_id": patient, "lesion_id": lesion}
    assert found.unused == ["age"]


def test_an_identity_that_is_not_used_is_a_warning(tmp_path: Path) -> None:
    lines = "".join(f"i{i},{i % 2},A{i % 3:04},P{i // 2},{30 + i % 4},{'lr'[i % 2]}\n" for i in range(24))
    path = simple(tmp_path, "image,target,Sujeto,who,patient_age,lesion_side\n" + lines)
    found = import_dataset(path, require_images=False)
    said = (
        "column 'Sujeto' looks like an id but is not used: 3 of its 3 values have several images, which a split may "
        "separate; name it with 'melfast prepare import --patient-column Sujeto' (or --lesion-column), or rename it "
        "to patient_id"
    )
    assert [note for note in found.notes if "looks like an id" in note] == [f"warning: {said}"]
    split = split_manifest(found.manifest, (0.5, 0.25, 0.25))
    assert unused_identities(split) == [
        said.replace("have several images, which a split may separate", "are in more than one split")
    ]
    found = import_dataset(path, choice=Choice(patient="Sujeto"), require_images=False)
    assert unused_identities(found.manifest) == []
    assert found.notes == []


@pytest.mark.parametrize(
    ("column", "values", "looks"),
    [
        ("paciente_id", ["1", "1", "2"], True),
        ("PatientNr", ["1", "1", "2"], True),
        ("patient age", ["1", "1", "2"], False),
        ("lesion", ["yes", "yes", "no"], False),
        ("patient", ["1", "2", "3"], False),
        ("Common Nevus", ["X", "", "X"], False),
        ("code", [f"HX-{i // 2:04}" for i in range(30)], True),
        ("device", [f"HX-{i % 3:04}" for i in range(30)], False),
    ],
)
def test_what_looks_like_an_id(column: str, values: list[str], looks: bool) -> None:
    frame = pd.DataFrame({"image_name": [str(i) for i in range(len(values))], column: values}, dtype=str)
    assert bool(unused_identities(Manifest(Path("m.csv"), frame))) == looks


@pytest.mark.parametrize(
    ("header", "choice"),
    [
        ("scan,target", Choice(image="scan")),
        ("scan,is_melanoma", Choice(image="scan")),
        ("image_file,isMalignant", Choice()),
        ("scan,label,image", Choice(image="scan")),
    ],
)
def test_columns_by_other_names(tmp_path: Path, header: str, choice: Choice) -> None:
    ends = ",z" if header.endswith("image") else ""
    path = simple(tmp_path, f"{header}\na.jpg,positive{ends}\nb.jpg,Negative{ends}\n", "a.jpg", "b.jpg")
    assert rows(import_dataset(path, choice=choice).manifest, "path") == [("a", "1", "a.jpg"), ("b", "0", "b.jpg")]


@pytest.mark.parametrize(
    ("files", "images", "message"),
    [
        (
            {"who.csv": "case,patient\n1,2\n"},
            ("train/Melanoma Nevi and Moles/a.jpg", "train/Eczema/b.jpg"),
            "holds images in folders that name no class (train/Eczema: 1 .jpg, train/Melanoma Nevi and Moles: 1 .jpg; "
            "tables without a column of images that is known: who.csv); expected labels.csv or another table, or "
            "benign/ and malignant/ folders (`positive=WORD,WORD` names the folders of the positive class, "
            "`unlabelled=True` imports without labels)",
        ),
        (
            {"ham.zip": "x", "readme": "y"},
            (),
            "nothing known found (it holds 1 .zip, 1 without a suffix; unpack the archives); expected labels.csv or "
            "another table, benign/ and malignant/ folders, or images (melfast prepare import --list tells the known "
            "data sets)",
        ),
    ],
)
def test_folders_that_cannot_be(tmp_path: Path, files: dict[str, str], images: tuple[str, ...], message: str) -> None:
    lay_out(tmp_path, files, images)
    with pytest.raises(InputError) as caught:
        import_dataset(tmp_path, choice=Choice(unlabelled=False))
    assert str(caught.value) == f"{tmp_path}: {message}"


def test_a_class_beside_diagnoses_does_not_vanish(tmp_path: Path) -> None:
    lay_out(tmp_path, {}, ("data/melanoma/a.jpg", "data/dysplastic/b.jpg", "data/lipoma/c.jpg"))
    with pytest.raises(InputError) as caught:
        import_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'data/lipoma/c.jpg'}: is beside folders of classes but in no class folder, expected benign or "
        "malignant, or a diagnosis (for other words: `positive=WORD,WORD`)"
    )
    found = import_dataset(tmp_path, choice=Choice(positive=("melanoma",)))
    assert rows(found.manifest) == [("b", "0"), ("c", "0"), ("a", "1")]


def test_missing_images_are_named_with_what_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melfast.io.folders.readable_suffixes", lambda: (".jpg",))
    path = simple(tmp_path, "image,target\nA,1\n", "A.dcm")
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == (
        f"{path}: 1 of 1 listed images are not in {tmp_path}: A; not read: 1 .dcm (to read them: pip install pydicom) "
        "(`images` names another folder, `on_missing=drop` leaves them out)"
    )


def test_no_labels_is_a_question(tmp_path: Path) -> None:
    path = simple(tmp_path, "image,age\na,40\n", "a.jpg")
    ask = Choice(unlabelled=False)
    with pytest.raises(InputError) as caught:
        import_dataset(path, choice=ask)
    assert str(caught.value) == (
        f"{path}: no column 'target'; columns are image, age (`target=COLUMN` names it, "
        "`unlabelled=True` imports without)"
    )
    assert import_dataset(path).notes == ["no labels: all images are unlabelled"]
    path.write_text("scan,age\na,40\n")
    with pytest.raises(InputError) as caught:
        import_dataset(tmp_path, choice=ask)
    assert str(caught.value) == (
        f"{tmp_path}: holds images without labels, and tables that were not used: t.csv; "
        "name one as SOURCE, or say `unlabelled=True`"
    )
    assert import_dataset(tmp_path, "images", choice=ask).kind == "images"
    path.unlink()
    assert import_dataset(tmp_path, choice=ask).notes == ["no labels: all images are unlabelled"]


def test_the_manifest_that_was_made_of_a_table_is_none_of_the_tables(tmp_path: Path) -> None:
    path = simple(tmp_path, "filename,diagnosis,patient\na.jpg,melanoma,1\n", "a.jpg")
    manifest = write_manifest(import_dataset(tmp_path).manifest, tmp_path / "m.csv")
    assert manifest.column("diagnosis_source").tolist() == ["melanoma"]
    found = import_dataset(tmp_path)
    assert found.notes == ["tables not used: m.csv"]
    path.unlink()
    again = import_dataset(tmp_path).manifest.table
    assert again[manifest.table.columns].equals(manifest.table.reset_index(drop=True))


def test_rounded_ids_are_an_error(tmp_path: Path) -> None:
    path = simple(tmp_path, "image,target,patient\na,0,1.23457E+11\nb,1,1.23457E+11\nc,1,1.3E+11\n")
    with pytest.raises(InputError) as caught:
        import_dataset(path, require_images=False)
    assert str(caught.value) == (
        f"{path}:2: patient_id '1.23457E+11' is in scientific notation, in 2 rows: a spreadsheet "
        "rounds long numbers, so different ids become one; export the column as text"
    )
    path.write_text("image,target,patient\na,0,1e5\nb,1,1.2E+11\n")
    assert len(import_dataset(path, require_images=False).manifest) == 2


def test_paths_of_another_machine(tmp_path: Path) -> None:
    lay_out(tmp_path, {}, ("here/benign/1.jpg", "here/malignant/1.jpg", "here/x/2.jpg"))
    text = "path,target\nC:\\me\\data\\benign\\1.jpg,0\nC:\\me\\data\\malignant\\1.jpg,1\n/other/2.png,1\n"
    found = import_dataset(simple(tmp_path, text), images=tmp_path / "here")
    assert rows(found.manifest, "path") == [
        ("C:/me/data/benign/1", "0", "here/benign/1.jpg"),
        ("C:/me/data/malignant/1", "1", "here/malignant/1.jpg"),
        ("/other/2", "1", "here/x/2.jpg"),
    ]
    assert found.notes == ["files that are not where the table says, found by name: 3"]
    # The other class's file is not taken for one that is missing.
    (tmp_path / "here/benign/1.jpg").unlink()
    with pytest.raises(InputError, match="1 of 3 listed images are not in"):
        import_dataset(tmp_path / "t.csv", images=tmp_path / "here")


def test_names_composed_and_decomposed(tmp_path: Path) -> None:
    path = simple(tmp_path, "image,target\nN\u00e4vus,1\n", "Na\u0308vus.jpg")
    assert import_dataset(path).manifest.column("path").tolist() == ["Na\u0308vus.jpg"]


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("img_A1.JPG", "; img_A1.JPG is there: upper and lower case differ"),
        ("0001.jpg", "; 0001.jpg is there: leading zeros are missing, as a spreadsheet drops them"),
        ("other.jpg", ""),
    ],
)
def test_hints_at_names(tmp_path: Path, file: str, hint: str) -> None:
    path = simple(tmp_path, "image,target\nIMG_A1,1\n1,0\n", file)
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == (
        f"{path}: 2 of 2 listed images are not in {tmp_path}: IMG_A1, 1{hint} "
        "(`images` names another folder, `on_missing=drop` leaves them out)"
    )


def test_images_packed_in_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), (9, 9, 9)).save(picture, "JPEG")
    path = simple(tmp_path, f"{ISIC2024}A,1,P,3D: XP,20.2,,Malignant,Malignant,,\n", name="train-metadata.csv")
    with h5py.File(tmp_path / "train-image.hdf5", "w") as archive:  # a scalar of bytes under each name, as on Kaggle
        archive["A"] = np.void(picture.getvalue())
    for _ in range(2):  # the second time from the files
        found = import_dataset(path, unpack=tmp_path / "m.images")
        assert rows(found.manifest, "path") == [("A", "1", "m.images/A.jpg")]
    assert (tmp_path / "m.images/A.jpg").read_bytes() == picture.getvalue()
    (tmp_path / "m.images/A.jpg").unlink()
    with pytest.raises(InputError, match=r"they may be in train-image\.hdf5: 'melfast prepare import' unpacks it"):
        import_dataset(path)
    with h5py.File(tmp_path / "train-image.hdf5", "w") as archive:
        archive["A"] = np.void(b"GIF89a")
    with pytest.raises(InputError, match=r"train-image\.hdf5: cannot be unpacked into .*m\.images: A is not a JPEG$"):
        import_dataset(path, unpack=tmp_path / "m.images")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError) as caught:
        import_dataset(path, unpack=tmp_path / "m.images")
    assert str(caught.value) == (
        f"{tmp_path / 'train-image.hdf5'}: holds 1 of the listed images in HDF5: pip install h5py reads it"
    )


def test_tables_are_not_read_before_one_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from melfast.prepare import sources

    layout = LAYOUTS["ham10000"]
    lay_out(tmp_path, layout.files, layout.images)
    read = []
    monkeypatch.setattr(
        sources, "read_table", lambda path, header=(): read.append(path.name) or read_table(path, header)
    )
    import_dataset(tmp_path)
    assert read == ["HAM10000_metadata"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("MEL", "Melanoma, NOS"),
        ("melanoma (0.76 to 1.5 mm)", "Melanoma Invasive"),
        ("Malignant-Melanoma", "Melanoma, NOS"),
        ("acral_nevus", "Nevus"),
        ("melanocytic-nevi", "Nevus"),
        ("Squamous cell carcinoma, NOS", "Squamous cell carcinoma, NOS"),
        ("#N/A", ""),
        ("unknown", ""),
        ("non-melanoma", None),
        ("nevus-associated melanoma", "Melanoma, NOS"),
        ("melanoma, nevi and moles", None),
        ("psoriasis", None),
    ],
)
def test_diagnoses(word: str, name: str | None) -> None:
    found = find_diagnosis(word)
    assert (found.name if found else None) == name


def test_list_of_data_sets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "melfast", "prepare", "import", "--list"], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")] == list(DATASETS)
    assert "ham10000           HAM10000, Harvard Dataverse or Kaggle\n" in done.stdout
