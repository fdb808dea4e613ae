"""The training loop. Read from top to bottom: that is the order in which things happen."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from melfast.config import Config
from melfast.data.batch import Batch
from melfast.errors import ImageError, InputError
from melfast.evaluate.infer import infer
from melfast.evaluate.metrics import binary_metrics
from melfast.evaluate.threshold import choose_threshold
from melfast.models.record import ModelRecord
from melfast.train.checkpoint import State, save_checkpoint
from melfast.train.data import TrainingData
from melfast.train.distributed import World
from melfast.train.epochs import epoch_plan, require_steps
from melfast.train.feed import autocast, feed, open_loader
from melfast.train.learner import Learner
from melfast.train.logging import Log
from melfast.train.mix import mix
from melfast.train.optim import set_rate
from melfast.train.schedule import learning_rate, weight_decay
from melfast.train.stop import Stop

Batches = Iterator[tuple[torch.Tensor, Batch]]


class Trainer:
    """Trains a learner from where its state is to the last epoch.

    Every process of the world makes one and calls `train`.
    """

    def __init__(
        self, config: Config, data: TrainingData, run: Path, world: World,
        record: ModelRecord, learner: Learner, state: State, log: Log, stop: Stop | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            stop: once it is wanted, training ends at the next report, with a checkpoint.
        """
        self.stop = stop or Stop()
        self.stopped = False
        self.config, self.data, self.run, self.world = config, data, run, world
        self.record, self.learner, self.state, self.log = record, learner, state, log
        self.targets = torch.from_numpy(data.train.targets).to(world.device)
        self.steps_per_epoch = require_steps(config, data.train.rows, world)
        self.total_steps = self.steps_per_epoch * config.train.epochs
        self.saved_at = time.monotonic()
        self.left_out: set[str] = set()

    def train(self) -> None:
        """Epochs of training, validation and a checkpoint; `stopped` tells whether it ended early.

        Raises:
            InputError: an image cannot be read, the loss is not finite, a checkpoint cannot be
                written.
        """
        state, name = self.state, self.config.train.best_metric
        while state.epoch < self.config.train.epochs and not self.stopped:
            totals = self.train_epoch()
            if self.stopped and state.step_in_epoch < self.steps_per_epoch:
                return
            self.record, metrics = self.validate()
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
            best = not state.best or metrics[name] > state.best[name]
            if best:
                state.best = {"epoch": state.epoch, **metrics}
            self.log.record("valid", state.step, state.epoch, metrics)
            self.log.say(self._epoch_line(totals, metrics, best))
            self.save(self.record, best)

    def train_epoch(self) -> "Window":
        """The steps of the epoch that are not done yet."""
        train, state = self.config.train, self.state
        totals, window = Window(), Window()
        self.learner.set_training()
        with self.open_batches() as batches:
            while state.step_in_epoch < self.steps_per_epoch:
                seed_step(train.seed, state.step, self.world.rank)
                rate = learning_rate(state.step, self.total_steps, self.config.optim)
                decay = weight_decay(state.step, self.total_steps, self.config.optim)
                set_rate(self.learner.optimizer, rate, decay)
                self.forward_backward(batches, window)
                self.update_weights(window)
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
        """The batches of the epoch that are not used yet."""
        config, state = self.config, self.state
        train = self.data.train
        plan = epoch_plan(config, train.rows, state.epoch, self.world)
        with open_loader(
            train.paths, self.record.preprocess, plan, self.world, masks=train.masks,
            checked=train.checked, loader=config.data.loader, threads=config.data.threads,
            on_error=config.data.on_error,
            precision=config.train.precision, start=state.step_in_epoch * config.train.accumulate,
        ) as loader:  # fmt: skip
            yield feed(loader, self.world.device)

    def forward_backward(self, batches: Batches, window: "Window") -> None:
        """The gradient of the mean loss of one step's images, piece by piece.

        The sum is divided by the images a step should have, not by those of a piece: so it is the
        same gradient however the step is dealt over processes and pieces, and whatever is left out.
        """
        train, learner, device = self.config.train, self.learner, self.world.device
        images_per_step = train.batch_size // self.world.size
        statistics: torch.Tensor | None = None
        for piece in range(train.accumulate):
            asked = time.perf_counter()
            images, batch = next(batches)
            window.waited += time.perf_counter() - asked
            require_images(batch)
            assert batch.group is not None
            classes = self.targets[torch.from_numpy(batch.index).to(device, non_blocking=True)]
            groups = torch.from_numpy(batch.group.astype(np.int64)).to(device, non_blocking=True)
            # Gradients are averaged over the processes once a step, in its last backward.
            last = piece + 1 == train.accumulate
            apart = self.world.size > 1 and not last
            with learner.forward.no_sync() if apart else contextlib.nullcontext():
                seed = (train.seed, self.state.step, self.world.rank, piece)
                mixed = mix(images, train, seed)
                with autocast(device, train.precision):
                    logits = learner.forward(mixed.images)
                loss_b = learner.criterion(logits, classes, groups)
                if mixed.own < 1:
                    others_b = learner.criterion(logits, classes.flip(0), groups.flip(0))
                    loss_b = mixed.loss(loss_b, others_b)
                learner.scaler.scale(loss_b.sum() / images_per_step).backward()
            learned = learner.criterion.statistics(logits, classes, groups)
            if learned is not None:
                statistics = learned if statistics is None else statistics + learned
            window.losses.append(loss_b.detach())
            window.index.append(batch.index)
            window.failures.extend(batch.failures)
        if statistics is not None:
            learner.criterion.update(self.world.sum(statistics))

    def update_weights(self, window: "Window") -> None:
        """One optimizer step with the gradient that is there, clipped."""
        learner, clip_norm = self.learner, self.config.optim.clip_norm
        learner.scaler.unscale_(learner.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            learner.model.parameters(), clip_norm if clip_norm else math.inf
        )
        window.gradient_norms.append(norm.detach())
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        learner.optimizer.zero_grad(set_to_none=True)

    def report(self, window: "Window", rate: float) -> None:
        """Reads the losses since the last report, refuses what is not finite, and logs."""
        # Host-device sync, once every `log_every` steps.
        losses = torch.cat(window.losses).cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            rows = np.concatenate(window.index)[bad]
            names = [self.data.train.names[row] for row in rows[:5]]
            raise InputError(
                f"the loss is {losses[bad[0]]} by step {self.state.step} for {bad.size} images: "
                f"{', '.join(names)}{', ...' if bad.size > 5 else ''}; "
                "try a lower optim.lr, or train.precision fp32"
            )
        # The gradient scaler of fp16 looks for such gradients itself, and leaves their step out.
        norms = [] if self.learner.scaler.is_enabled() else window.gradient_norms
        if norms and not torch.stack(norms).isfinite().all():
            raise InputError(
                f"the gradient is not finite by step {self.state.step}; "
                "try a lower optim.lr, or train.precision fp32"
            )
        parts = self.world.gather(
            (float(losses.sum()), len(losses), window.failures, self.stop.wanted)
        )
        self.stopped = any(part[3] for part in parts)  # in all processes at the same step
        window.loss_sum, window.images = (sum(part[i] for part in parts) for i in (0, 1))
        self._leave_out([failure for part in parts for failure in part[2]])
        window.seconds = time.perf_counter() - window.started
        epoch = self.state.epoch + self.state.step_in_epoch / self.steps_per_epoch
        values = {"loss": window.loss, "lr": rate, "images_per_s": window.images_per_s,
                  "waited": window.waited / window.seconds}  # fmt: skip
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
        found = infer(
            self.learner.measured.eval(), valid.paths, self.record.preprocess, self.world,
            masks=valid.masks, checked=valid.checked, loader=self.config.data.loader,
            precision=train.precision, threads=self.config.data.threads,
            on_error=self.config.data.on_error,
        )  # fmt: skip
        self._leave_out(found.failures)
        targets, score = (
            valid.targets[found.index],
            found.probabilities(self.record, valid.rows.groups[found.index]),
        )
        threshold = choose_threshold(targets, score, train.threshold_rule)
        metrics = binary_metrics(targets, score, threshold) | {"threshold": threshold}
        summary = self.record.training | {
            "epoch": self.state.epoch + 1,
            "step": self.state.step,
            "valid_metrics": metrics,
        }
        record = self.record.replace(
            threshold=threshold, threshold_rule=train.threshold_rule, training=summary
        )
        return record, metrics

    def save(self, record: ModelRecord, best: bool) -> None:
        """Writes a checkpoint; the first process alone does."""
        self.saved_at = time.monotonic()
        if self.world.first:
            weights = self.learner.measured.state_dict()
            training = self.learner.training_state()
            save_checkpoint(self.run, weights, record, self.state, training, best=best)

    def _checkpoint_is_due(self) -> bool:
        minutes = self.config.train.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self.saved_at >= 60 * minutes

    def _leave_out(self, failures: Sequence[ImageError]) -> None:
        """Says each image that is left out once, not once an epoch."""
        for failure in failures:
            if failure.path not in self.left_out:
                self.left_out.add(failure.path)
                self.log.say(f"warning: left out ({len(self.left_out)} by now): {failure}")

    def _epoch_line(self, totals: "Window", metrics: dict[str, float], best: bool) -> str:
        return (
            f"epoch {self.state.epoch}/{self.config.train.epochs}  loss {totals.loss:.3f}  "
            f"valid auc {metrics['auc']:.4f}  ap {metrics['average_precision']:.4f}  "
            f"balanced accuracy {metrics['balanced_accuracy']:.4f}  "
            f"{totals.images_per_s:.0f} images/s  waited {totals.waited / totals.seconds:.0%}"
            f"{'  best' if best else ''}"
        )


@dataclass
class Window:
    """Some steps: sums are over all processes, the rest is of this process."""

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


def require_images(batch: Batch) -> None:
    """Raises InputError where a batch has lost all its images."""
    if not len(batch.index):
        count, first = len(batch.failures), batch.failures[0]
        raise InputError(f"none of a batch's {count} images can be read: {first}")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout and its like are drawn anew from the step, so that a resumed run draws the same."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
