"""The training loop, in order of execution from top to bottom."""

import contextlib
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch

from melfast.config.schema import Config, TrainConfig
from melfast.data.batch import Batch
from melfast.data.feed import autocast, feed, open_loader
from melfast.data.loader import LoaderSettings
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.io.log import logger
from melfast.metrics.calibration import fit
from melfast.metrics.threshold import BARE_RULES, choose_by_group, choose_threshold
from melfast.metrics.validation import validation_metrics, value_of
from melfast.models.checkpoint import State, save_checkpoint
from melfast.models.infer import Inference, infer
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.train.data import LabelledImages, TrainingData
from melfast.train.epochs import epoch_plan, require_steps
from melfast.train.features import FeatureExtractor, Features
from melfast.train.learner import Learner, classifier_head
from melfast.train.logging import Log
from melfast.train.mix import Mixed, mix
from melfast.train.optim import set_rate
from melfast.train.sam import uphill
from melfast.train.schedule import learning_rate, warmup_steps, weight_decay
from melfast.train.stop import Stop

# The scale of fp16 is halved each time; after so many times it falls from 65,536 to far below 1.
MOST_OVERFLOWS = 40

Batches = Iterator[tuple[torch.Tensor, Batch]]


class Trainer:
    """Trains a learner from its current state to the last epoch.

    Every process of the world creates one and calls `train`.
    """

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        run: Path,
        world: World,
        record: ModelRecord,
        learner: Learner,
        state: State,
        log: Log,
    ) -> None:
        self.stop, self.stopped = Stop(), False
        self.config, self.data, self.run, self.world = config, data, run, world
        self.record, self.learner, self.state, self.log = record, learner, state, log
        self.targets = torch.from_numpy(data.train.targets).to(world.device)
        self.steps_per_epoch = require_steps(config, data.train.rows, world)
        self.total_steps = self.steps_per_epoch * config.train.epochs
        self.warmup_steps = warmup_steps(config.optim, self.total_steps, config.train.epochs)
        self.features: dict[str, Features] = {}
        self.overflows = 0  # consecutive steps that the fp16 scaler has skipped
        self.saved_at = time.monotonic()
        self.left_out: set[str] = set()

    def train(self, stop: Stop) -> None:
        """Trains, validates and saves in each epoch; `stopped` tells whether it ended early.

        Args:
            stop: once requested, training ends at the next report, with a checkpoint.

        Raises:
            InputError: an image cannot be read, the loss is not finite, a checkpoint cannot be
                written.
        """
        self.stop = stop
        state, name = self.state, self.config.train.best_metric
        if self.learner.from_features:
            self.cache_features()
        while state.epoch < self.config.train.epochs and not self.stopped:
            totals = self.train_epoch()
            if self.stopped and state.step_in_epoch < self.steps_per_epoch:
                return
            self.record, metrics = self.validate()
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
            best = not state.best or value_of(metrics, name) > value_of(state.best, name)
            if best:
                state.best = {"epoch": state.epoch, **metrics}
            self.log.record("valid", state.step, state.epoch, metrics)
            logger.info(self._epoch_line(totals, metrics, best))
            self.save(self.record, best)

    def train_epoch(self) -> "Window":
        """Runs the remaining steps of the epoch."""
        train, state = self.config.train, self.state
        totals, window = Window(), Window()
        self.learner.set_training()
        with self.open_batches() as batches:
            while state.step_in_epoch < self.steps_per_epoch:
                seed_step(train.seed, state.step, self.world.rank)
                rate = learning_rate(state.step, self.total_steps, self.warmup_steps, self.config.optim)
                decay = weight_decay(state.step, self.total_steps, self.config.optim)
                set_rate(self.learner.optimizer, rate, decay)
                self.take_step(batches, window)
                state.step, state.step_in_epoch = state.step + 1, state.step_in_epoch + 1
                if self.learner.ema is not None:
                    self.learner.ema.update(self.learner.model, state.step)
                last = state.step_in_epoch == self.steps_per_epoch
                if last or state.step % train.log_every == 0:
                    self.report(window, rate)
                    totals.add(window)
                    window = Window()
                    if not last and (self.stopped or self._checkpoint_is_due()):
                        self.save(self.record, best=False)
                    if self.stopped:
                        break
        return totals

    @contextlib.contextmanager
    def open_batches(self) -> Iterator[Batches]:
        """The remaining batches of the epoch."""
        config, state = self.config, self.state
        train = self.data.train
        plan = epoch_plan(config, train.rows, state.epoch, self.world)
        start = state.step_in_epoch * config.train.accumulate
        if self.features:
            yield self.features["train"].batches(plan, start)
            return
        with open_loader(
            train.images, self.record.preprocess, plan, self.world, self.loader_settings, start=start
        ) as loader:
            yield feed(loader, self.world.device)

    def take_step(self, batches: Batches, window: "Window") -> None:
        """One optimizer step, unless the loss or the gradient is not finite."""
        learner, optim = self.learner, self.config.optim
        pieces: Iterable[Piece] = self.pieces(batches, window)
        if optim.sam_rho:
            pieces = list(pieces)
        learned, losses = self.forward_backward(pieces)
        norm = self.gradient_norm()
        self.require_finite(norm, losses, window)
        window.losses.extend(losses)
        if optim.sam_rho:
            with uphill(learner.model, norm, optim.sam_rho):
                _, losses = self.forward_backward(pieces)
            norm = self.gradient_norm()
            self.require_finite(norm, losses, window)
        if optim.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(learner.model.parameters(), optim.clip_norm, norm)
        window.gradient_norms.append(norm)
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        learner.optimizer.zero_grad(set_to_none=True)
        if learned is not None:
            learner.criterion.update(self.world.sum(learned))

    def pieces(self, batches: Batches, window: "Window") -> Iterator["Piece"]:
        """Yields the pieces in which this process computes a step, on the device."""
        train, device = self.config.train, self.world.device
        for number in range(train.accumulate):
            asked = time.perf_counter()
            images, batch = next(batches)
            window.waited += time.perf_counter() - asked
            window.failures.extend(batch.failures)
            window.index.append(batch.index)
            last = number + 1 == train.accumulate
            if not len(batch.index):
                if last and self.world.size > 1:  # the other processes wait for its gradient
                    yield Piece.empty(images)
                continue
            assert batch.group is not None
            mixed = mix(images, train, (train.seed, self.state.step, self.world.rank, number))
            if self.config.optim.sam_rho and mixed.images is images and train.accumulate > 1:
                mixed = Mixed(images.clone())  # the next batch reuses the loader's memory
            yield Piece(
                mixed,
                self.targets[torch.from_numpy(batch.index).to(device, non_blocking=True)],
                torch.from_numpy(batch.group.astype(np.int64)).to(device, non_blocking=True),
                last=last,
            )

    def forward_backward(self, pieces: Iterable["Piece"]) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """Computes the gradient of the mean loss over the images of a step, piece by piece.

        The sum is divided by the nominal number of images in a step, so the gradient does not depend on
        how the step is divided among processes and pieces, or on skipped images.

        Returns:
            The statistics of the criterion in this process, and the loss of each image by piece.
        """
        losses: list[torch.Tensor] = []
        train, learner = self.config.train, self.learner
        images_per_step = train.batch_size // self.world.size
        statistics: torch.Tensor | None = None
        for piece in pieces:
            classes, groups = piece.classes, piece.groups
            # Gradients are averaged over the processes once per step, in its last backward pass.
            apart = self.world.size > 1 and not piece.last
            with learner.forward.no_sync() if apart else contextlib.nullcontext():
                with autocast(self.world.device, train.precision):
                    logits = learner.forward(piece.mixed.images)
                loss_b = learner.criterion(logits, classes, groups)
                if piece.mixed.own < 1:
                    others_b = learner.criterion(logits, classes.flip(0), groups.flip(0))
                    loss_b = piece.mixed.loss(loss_b, others_b)
                loss_b = loss_b * piece.weight
                learner.scaler.scale(loss_b.sum() / images_per_step).backward()
            if not piece.weight:
                continue
            learned = learner.criterion.statistics(logits, classes, groups)
            if learned is not None:
                statistics = learned if statistics is None else statistics + learned
            losses.append(loss_b.detach())
        return statistics, losses

    def gradient_norm(self) -> torch.Tensor:
        """Norm of the whole gradient, which is unscaled afterwards (fp16)."""
        self.learner.scaler.unscale_(self.learner.optimizer)
        gradients = [p.grad for p in self.learner.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def require_finite(self, norm: torch.Tensor, pieces: Sequence[torch.Tensor], window: "Window") -> None:
        """Stops all processes before a step with a loss or gradient that is not finite.

        Args:
            pieces: losses of the images of this process.
        Raises:
            InputError: in the first process; it names the images.
        """
        losses = torch.cat([torch.zeros(0, device=norm.device), *pieces])
        bad_loss, bad_norm = ~losses.isfinite().all(), ~norm.isfinite()
        images = torch.tensor(len(losses), device=norm.device)
        counts = self.world.sum(torch.stack([bad_loss.double(), bad_norm.double(), images.double()]))
        # Host-device sync, once per step: the price of stopping before the weights are damaged.
        bad_losses, bad_norms, count = counts.tolist()
        if not count:
            self._refuse_without_images(window)
        # The gradient scaler of fp16 detects such gradients itself and skips the step.
        if self.learner.scaler.is_enabled() and not bad_losses:
            self.overflows = self.overflows + 1 if bad_norms else 0
            if self.overflows == MOST_OVERFLOWS:
                self.world.refuse(
                    InputError(
                        f"the gradient overflowed in {self.overflows} consecutive steps, the last of them "
                        f"{self.state.step + 1}, and all were skipped; try train.precision bf16 or fp32"
                    )
                )
            return
        if not bad_losses and not bad_norms:
            return
        values = losses.cpu().numpy()
        bad = ~np.isfinite(values)
        index = np.concatenate(window.index[-self.config.train.accumulate :])
        parts = self.world.gather((values[bad].tolist(), index[bad].tolist(), index.tolist()))
        found = [value for part in parts for value in part[0]]
        rows = [row for part in parts for row in part[1 if found else 2]]
        names = ", ".join(self.data.train.names[row] for row in rows[:5])
        what = f"loss is {found[0]}" if found else "gradient is not finite"
        self.world.refuse(
            InputError(
                f"the {what} in step {self.state.step + 1}, which is skipped, for {len(rows)} images: {names}"
                f"{', ...' if len(rows) > 5 else ''}; try a lower optim.lr, or train.precision fp32"
            )
        )

    def _refuse_without_images(self, window: "Window") -> None:
        failures = [failure for part in self.world.gather(window.failures) for failure in part]
        self.world.refuse(
            InputError(
                f"none of the {self.config.train.batch_size} images of step {self.state.step + 1} can "
                f"be read: {failures[-1]}"
            )
        )

    def cache_features(self) -> None:
        """Runs the frozen backbone once on the images, which are the same in every epoch."""
        backbone = FeatureExtractor(self.learner.model).eval()
        for name, part in (("train", self.data.train), ("valid", self.data.valid)):
            found = self.infer(backbone, part)
            self.features[name] = Features(found, len(part), self.world.device)
        count = len(self.features["train"].rows) + len(self.features["valid"].rows)
        logger.info(
            f"the backbone is frozen and there is no augmentation: the features of {count:,} images are computed once"
        )

    def report(self, window: "Window", rate: float) -> None:
        """Reads the losses since the last report and logs them."""
        # Host-device sync, once every `log_every` steps.
        losses = torch.cat([torch.zeros(0), *(part.cpu() for part in window.losses)]).numpy()
        norm = torch.stack(window.gradient_norms).mean().item()
        parts = self.world.gather((float(losses.sum()), len(losses), window.failures, self.stop.wanted))
        self.stopped = any(part[3] for part in parts)  # in all processes at the same step
        window.loss_sum, window.images = (sum(part[i] for part in parts) for i in (0, 1))
        self._leave_out([failure for part in parts for failure in part[2]])
        window.seconds = time.perf_counter() - window.started
        epoch = self.state.epoch + self.state.step_in_epoch / self.steps_per_epoch
        values = {
            "loss": window.loss,
            "lr": rate,
            "gradient_norm": norm,
            "images_per_s": window.images_per_s,
            "waited": window.waited / window.seconds,
            "memory_gib": memory_gib(self.world.device),
        }
        self.log.record("train", self.state.step, epoch, values)
        self.log.advance(
            self.state.step,
            f"epoch {self.state.epoch + 1}/{self.config.train.epochs}  loss {window.loss:.3f}  "
            f"lr {rate:.1e}  {window.images_per_s:.0f} images/s  waited {values['waited']:.0%}",
        )

    def validate(self) -> tuple[ModelRecord, dict[str, float]]:
        """Metrics on the validation split, and the record with the threshold chosen there."""
        train, valid = self.config.train, self.data.valid
        self.world.share_buffers(self.learner.measured)
        model = self.learner.measured.eval()
        found = self.features["valid"].logits(classifier_head(model)) if self.features else self.infer(model, valid)
        self._leave_out(found.failures)
        targets, groups = valid.targets[found.index], valid.rows.groups[found.index]
        # From uncalibrated predictions, without the calibration of an earlier epoch.
        bare = self.record.replace(**fit("none", targets, targets))
        calibration = fit(train.calibration, targets, found.probabilities(bare, groups))
        calibrated = self.record.replace(**calibration)
        score = found.probabilities(calibrated, groups)
        rule, value, names = train.threshold_rule, train.threshold_value, self.data.group_names
        threshold = choose_threshold(targets, score, rule, value)
        by_group: tuple[float, ...] = ()
        if rule == "equal_recall":
            by_group = choose_by_group(targets, score, groups, len(names), value)
        record = calibrated.replace(threshold=threshold, threshold_rule=rule_in_words(train), group_thresholds=by_group)
        cut = record.thresholds(groups, threshold)
        metrics = validation_metrics(targets, score, cut, groups, names)
        metrics["threshold"] = threshold
        summary = self.record.training | {
            "epoch": self.state.epoch + 1,
            "step": self.state.step,
            "valid_metrics": metrics,
        }
        return record.replace(training=summary), metrics

    def infer(self, model: torch.nn.Module, part: LabelledImages) -> Inference:
        """Outputs of the model for the images of a split, without augmentation."""
        settings = InferenceSettings(**vars(self.loader_settings))
        return infer(model, part.images, self.record.preprocess, self.world, settings)

    @property
    def loader_settings(self) -> LoaderSettings:
        data = self.config.data
        return LoaderSettings(data.loader, data.threads, data.on_error, self.config.train.precision)

    def save(self, record: ModelRecord, best: bool) -> None:
        """Writes a checkpoint, in the first process only."""
        self.saved_at = time.monotonic()
        if self.world.first:
            weights = self.learner.measured.state_dict()
            training = self.learner.training_state()
            save_checkpoint(
                self.run, weights, record, self.state, training, best=best, keep_last=self.config.train.keep_last
            )

    def _checkpoint_is_due(self) -> bool:
        minutes = self.config.train.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self.saved_at >= 60 * minutes

    def _leave_out(self, failures: Sequence[ImageError]) -> None:
        """Reports each skipped image once, not once per epoch."""
        for failure in failures:
            if failure.path not in self.left_out:
                self.left_out.add(failure.path)
                logger.warning(f"left out ({len(self.left_out)} so far): {failure}")

    def _epoch_line(self, totals: "Window", metrics: dict[str, float], best: bool) -> str:
        return (
            f"epoch {self.state.epoch}/{self.config.train.epochs}  loss {totals.loss:.3f}  "
            f"valid auc {metrics['auc']:.4f}  ap {metrics['average_precision']:.4f}  "
            f"balanced accuracy {metrics['balanced_accuracy']:.4f}  "
            f"{totals.images_per_s:.0f} images/s  waited {totals.waited / totals.seconds:.0%}"
            f"{'  best' if best else ''}"
        )


@dataclass(frozen=True)
class Piece:
    """Images that a process computes at once.

    Attributes:
        mixed: the images, or their features from a frozen backbone.
        classes, groups: int64 [B]; group -1: unknown.
        last: whether it is the last of its step.
        weight: 0 for an empty piece, which only takes part in the exchange of gradients.
    """

    mixed: Mixed
    classes: torch.Tensor
    groups: torch.Tensor
    last: bool
    weight: float = 1.0

    @classmethod
    def empty(cls, images: torch.Tensor) -> Self:
        """A dummy piece in the shape of a batch; the last of its step."""
        one = torch.zeros((1, *images.shape[1:]), device=images.device)
        label = torch.zeros(1, dtype=torch.int64, device=images.device)
        return cls(Mixed(one), label, label, last=True, weight=0.0)


@dataclass
class Window:
    """Several steps; sums are over all processes, the rest belongs to this process."""

    losses: list[torch.Tensor] = field(default_factory=list)
    index: list[np.ndarray] = field(default_factory=list)
    failures: list[ImageError] = field(default_factory=list)
    gradient_norms: list[torch.Tensor] = field(default_factory=list)
    loss_sum: float = 0.0
    images: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def loss(self) -> float:
        return self.loss_sum / self.images

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds

    def add(self, other: "Window") -> None:
        self.loss_sum += other.loss_sum
        self.images += other.images
        self.waited += other.waited
        self.seconds += other.seconds


def rule_in_words(train: TrainConfig) -> str:
    """`youden`, or `recall 0.9` if the rule has a value."""
    bare = train.threshold_rule in BARE_RULES
    return train.threshold_rule + ("" if bare else f" {train.threshold_value:g}")


def memory_gib(device: torch.device) -> float:
    """Peak memory use, in GiB: of the GPU, otherwise of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in KiB


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds dropout and similar draws from the step, so that a resumed run draws the same."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
