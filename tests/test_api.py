"""What `import melfast` offers: light to import, listed, and each name does its work in a line or two."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import melfast
from melfast.models.checkpoint import State, save_checkpoint
from melfast.models.classifier import build_classifier
from tests.models.test_checkpoint import RECORD

OFFERED = sorted(set(melfast.__all__) - {"__version__"})


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
