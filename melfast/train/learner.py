"""Learner: everything that training changes, in one place, so that checkpoints are complete."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch.nn.parallel import DistributedDataParallel

import melfast
from melfast.config.schema import Config
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.log import logger
from melfast.losses import CrossEntropy, build_loss
from melfast.models.checkpoint import WEIGHTS, load_training, load_weights
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.models.weights import load_file
from melfast.train.cells import priors, require_groups
from melfast.train.data import TrainingData
from melfast.train.ema import Ema
from melfast.train.features import sees_the_same
from melfast.train.optim import build_optimizer

CHANGEABLE = ("betas", "momentum")  # the learning rate and the decay are set at every step


@dataclass(frozen=True)
class Learner:
    """A network in training.

    Attributes:
        model: the plain network.
        forward: the network to call: compiled, in DistributedDataParallel.
        ema: running average of the weights.
        frozen: only the head is trained.
        from_features: `forward` is only the head, applied to features of the frozen backbone.
        criterion: the loss and its state.
    """

    model: torch.nn.Module
    forward: Any
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    criterion: CrossEntropy
    frozen: bool = False
    from_features: bool = False
    ema: Ema | None = None

    @property
    def measured(self) -> torch.nn.Module:
        """The network to evaluate, save and export: the average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def set_training(self) -> None:
        """Sets every trained part to training mode; a frozen backbone is unchanged."""
        self.model.train()
        if self.frozen:
            self.model.eval()
            classifier_head(self.model).train()

    def training_state(self) -> dict[str, Any]:
        """The state needed for resuming besides the weights.

        It has no random state, because each step seeds itself, see `loop.seed_step`.
        """
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "criterion": self.criterion.state_dict(),
            # Then the weights of the checkpoint are the average.
            "weights": None if self.ema is None else self.model.state_dict(),
        }

    def restore(self, checkpoint: Path) -> None:
        """Loads the weights and the training state of a checkpoint folder."""
        training = load_training(checkpoint, list(self.training_state()))
        load_weights(self.measured, checkpoint / WEIGHTS)
        if self.ema is not None:
            self.model.load_state_dict(training["weights"] or self.ema.module.state_dict())
        # torch would restore the options of the groups with the state, but the user may change them.
        options = [{k: g[k] for k in CHANGEABLE if k in g} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(training["optimizer"])
        for group, own in zip(self.optimizer.param_groups, options, strict=True):
            group.update(own)
        self.criterion.load_state_dict(training["criterion"])
        if training["scaler"]:  # empty unless it was fp16
            self.scaler.load_state_dict(training["scaler"])


def build_learner(
    config: Config, record: ModelRecord, world: World, cells: NDArray[np.float64], *, restored: bool = False
) -> Learner:
    """The network with seeded initial weights, optimizer and helpers, on the device of the world.

    Args:
        cells: see melfast.train.cells.
        restored: a checkpoint will be loaded afterwards, so initial weights are not needed.
    Raises:
        InputError: the initial weights cannot be loaded.
    """
    torch.manual_seed(config.train.seed)
    wanted = config.model
    fetched = (wanted.pretrained or wanted.in_22k) and not wanted.weights and not restored
    model = build_classifier(record, pretrained=fetched, in_22k=wanted.in_22k)
    if wanted.weights and not restored:
        if wanted.pretrained or wanted.in_22k:
            logger.info(f"{wanted.weights}: used instead of model.pretrained")
        logger.info(f"{wanted.weights}: {load_file(model, wanted.weights)}")
    if wanted.freeze:
        freeze(model)
    model = model.to(world.device).to(memory_format=torch.channels_last)
    from_features = sees_the_same(config)
    forward: Any = classifier_head(model) if from_features else model
    if world.size > 1:
        on_cuda = world.device.type == "cuda"
        forward = DistributedDataParallel(forward, device_ids=[world.device] if on_cuda else None)
    if config.train.compile:
        forward = torch.compile(forward)
    return Learner(
        model=model,
        forward=forward,
        optimizer=build_optimizer(model, config.optim),
        # Half precision has too narrow a range for small gradients; bfloat16 has float32's.
        scaler=torch.amp.GradScaler(world.device.type, enabled=config.train.precision == "fp16"),
        criterion=build_loss(config.loss, cells, record.head).to(world.device),
        frozen=wanted.freeze,
        from_features=from_features,
        ema=Ema(model, config.train.ema) if config.train.ema else None,
    )


def freeze(model: torch.nn.Module) -> None:
    """Disables gradients except for the head, so that no activations are kept for them."""
    model.requires_grad_(False)
    classifier_head(model).requires_grad_(True)


def classifier_head(model: torch.nn.Module) -> torch.nn.Module:
    """The linear layer that returns the logits."""
    head = model.get_classifier()  # type: ignore[operator]
    if not isinstance(head, torch.nn.Module):
        raise InputError(f"model.freeze: {type(model).__name__} has {len(head)} heads; expected a backbone of one")
    return head


def new_record(config: Config, data: TrainingData, cells: NDArray[np.float64]) -> ModelRecord:
    """The record of a model that is about to be trained.

    Args:
        cells: see melfast.train.cells.
    Raises:
        InputError: the head needs tone groups that the data lack, or does not have that inference.
    """
    if config.model.inference == "group_conditional" and config.model.head != "domain_independent":
        raise InputError(
            f"model.inference: group_conditional goes with model.head domain_independent, got {config.model.head}"
        )
    require_groups(config.model.head, cells, config.loss)
    wanted = config.model.num_groups
    if wanted and wanted != len(data.group_names):
        raise InputError(
            f"model.num_groups is {wanted}, but the data have {len(data.group_names)} tone groups: "
            f"{', '.join(data.group_names) or 'none'}"
        )
    options = dict(config.model.backbone_options)
    if config.model.drop_path:
        options["drop_path_rate"] = config.model.drop_path
    train, valid = data.train.class_counts, data.valid.class_counts
    return ModelRecord(
        backbone=config.model.backbone,
        backbone_options=options,
        head=config.model.head,
        groups=data.group_names,
        priors=priors(cells),
        inference=config.model.inference,
        preprocess=config.preprocess.resolve(),
        training={
            "train": {"benign": train[0], "malignant": train[1]},
            "valid": {"benign": valid[0], "malignant": valid[1]},
            "seed": config.train.seed,
            "versions": {
                "melfast": melfast.__version__,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        },
    )
