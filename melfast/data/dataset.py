"""MelanomaDataset: a manifest as a torch data set, for your own training loop."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from melfast.data.manifest import Manifest, read_manifest
from melfast.data.native import load_record
from melfast.data.plan import EpochPlan, evaluation_plan
from melfast.data.preprocess import Preprocess

Item = tuple[torch.Tensor, int, int]


class MelanomaDataset(Dataset[Item]):
    """Item i is (image, label, group), with the same pixels as from NativeLoader.

    image: float32 [3, H, W], normalised by `preprocess`;
    label: 1 malignant, 0 benign, -1 unlabelled;
    group: tone group, -1 unknown; see `group_names`.

    Images are read when an item is requested, in the thread or worker process that requests it.

        dataset = MelanomaDataset("manifest.csv", Preprocess(224, 224), split="train")
        loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=4)

    Augmented images come from a plan with one record per item; each epoch needs its own plan:

        rows = Rows.of(read_manifest("manifest.csv").split("train"))
        plan = training_plan(rows, Augment(), batch_size=32, seed=0, epoch=3, height=224, width=224)
        dataset = MelanomaDataset("manifest.csv", Preprocess(224, 224), split="train", plan=plan)
    """

    def __init__(
        self,
        manifest: Manifest | str | Path,
        preprocess: Preprocess,
        *,
        split: str | None = None,
        plan: EpochPlan | None = None,
    ) -> None:
        """
        Args:
            manifest: a manifest, or the path of one.
            preprocess: size, colour and normalisation; `record.preprocess` of a checkpoint has them.
            split: train, valid or test; None: all rows.
            plan: its records are the items, drawn from the rows of that split; None: each image once,
                unchanged.
        Raises:
            InputError: the manifest cannot be used, or has no such split.
            ValueError: the plan has more rows than there are.
        """
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(manifest)
        if split is not None:
            manifest = manifest.split(split)
        if plan is None:
            plan = evaluation_plan(len(manifest), batch_size=1, masked=preprocess.masked)
        if len(plan.index) and plan.index.max() >= len(manifest):
            raise ValueError(f"`plan` has {plan.index.max() + 1} rows, the manifest {len(manifest)}")
        self.manifest, self.preprocess, self.plan = manifest, preprocess, plan
        self.group_names = manifest.group_names
        self.images = manifest.images
        groups = manifest.groups[plan.index] if plan.group is None else plan.group
        self._labels: list[int] = manifest.targets[plan.index].tolist()
        self._groups: list[int] = groups.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, item: int) -> Item:
        """
        Raises:
            ImageError: the image cannot be read. (A worker process of a DataLoader raises it as a
                RuntimeError that ends with the same line.)
            IndexError: there is no such item.
        """
        record = range(len(self))[item]
        image = np.empty((self.preprocess.height, self.preprocess.width, 3), np.float32)
        load_record(self.plan, record, self.images, self.preprocess, image)
        channels_first = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        return channels_first, self._labels[record], self._groups[record]

    def get_labels(self) -> list[int]:
        """The label of each item, without reading images; for samplers."""
        return list(self._labels)

    def get_groups(self) -> list[int]:
        """The tone group of each item."""
        return list(self._groups)
