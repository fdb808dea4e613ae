"""TorchEngine: run a checkpoint directly in torch."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.engines.base import EngineInfo, OptionalGroups, Outputs, file_sha256, groups_or_unknown, require_images
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.checkpoint import WEIGHTS, find_checkpoint, load_checkpoint
from melfast.models.deploy import ExportedClassifier


class TorchEngine:
    """See melfast.engines.base.Engine."""

    in_flight = 1

    @check_words
    def __init__(
        self, path: str | Path, *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int | None = None
    ) -> None:
        """
        Args:
            path: a run folder (its best checkpoint), a checkpoint or its weights.
            device: `auto`: CUDA if there is a device.
            threads: torch threads of the whole process; None: unchanged.
        Raises:
            InputError: no checkpoint, one for masked images, or CUDA is requested but missing.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise InputError("torch finds no CUDA device")
        classifier, self.record = load_checkpoint(Path(path))
        if self.record.preprocess.masked:
            raise InputError(
                f"{path}: the model was trained on masked images (preprocess.masked); only melfast evaluate makes them"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.module = ExportedClassifier(classifier, self.record).eval().to(self.device)
        weights = find_checkpoint(Path(path)) / WEIGHTS
        name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        self.provider = f"torch {name}"
        self.info = EngineInfo(
            backend="torch",
            provider=self.provider,
            runtime=f"torch {torch.__version__}",
            model=str(weights),
            sha256=file_sha256(weights),
        )

    def run(self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        require_images(images_bhw3, self.record)
        # torch.tensor copies, so read-only arrays are accepted.
        images = torch.tensor(images_bhw3, device=self.device)
        with torch.inference_mode():
            group = torch.from_numpy(groups_or_unknown(group_b, images_bhw3)).to(self.device)
            probability, logits = self.module(images, group)
        return probability.cpu().numpy(), logits.cpu().numpy()
