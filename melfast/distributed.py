"""Processes of a run: one alone, or those that torchrun started."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar, cast

import torch
from torch import distributed

from melfast.io.errors import InputError
from melfast.io.log import logger
from melfast.io.words import check_words

Value = TypeVar("Value")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The processes that work together, seen from one of them.

    Attributes:
        rank: this process; 0 alone writes and prints.
        size: how many there are.
        local_size: how many of them share this machine's cores.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in every process; any object that pickles."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of every process's tensor, in every process."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def first_does(self, work: Callable[[], Value]) -> Value:
        """What the first process's work returns; the others wait for it.

        Its InputError or OSError is raised there and ends the others.
        """
        value: Value | None = None
        error: Exception | None = None
        if self.first:
            try:
                value = work()
            except (InputError, OSError) as caught:
                error = caught
        value, failed = self.gather((value, error is not None))[0]
        if error is not None:
            raise error
        if failed:
            sys.exit(1)  # without a word: the first process has said it
        return cast(Value, value)

    def refuse(self, error: InputError) -> NoReturn:
        """Ends all processes by an error that each of them has found; the first alone tells it."""
        if self.first:
            raise error
        sys.exit(1)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Says in a line what it means when an exchange with the other processes breaks off.

        Raises:
            InputError: another process has ended.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error).lower()
            if self.size == 1 or not any(word in text for word in ("gloo", "nccl", "connection")):
                raise
            raise InputError(
                "another process of the run has ended, so this one cannot go on; what that one "
                "said or the system's log tells why; `resume=True` goes on from the last checkpoint"
            ) from error

    def share_buffers(self, model: torch.nn.Module) -> None:
        """The first process's buffers to all: batch norm's averages differ between processes."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)


@check_words
@contextmanager
def start_world(device: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[World]:
    """The world as torchrun's environment says: gloo on the CPU, nccl on CUDA; alone without it.

    Of several processes the first alone reports to the log.

    Raises:
        InputError: CUDA is asked for and there is none, or torchrun's variables are not whole.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device is 'cuda', but torch sees no CUDA device here")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    size = _variable("WORLD_SIZE", 1)
    if size == 1:
        yield World(device=torch.device(kind))
        return
    rank, local_rank = _variable("RANK"), _variable("LOCAL_RANK")
    if kind == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"{_variable('LOCAL_WORLD_SIZE', size)} processes on this machine, but only "
                f"{torch.cuda.device_count()} CUDA devices; wanted one each, or `device=cpu`"
            )
        torch.cuda.set_device(local_rank)
    own = torch.device(kind, local_rank) if kind == "cuda" else torch.device("cpu")
    distributed.init_process_group(
        "nccl" if kind == "cuda" else "gloo", store=_store(rank, size), rank=rank, world_size=size
    )
    world = World(rank, size, _variable("LOCAL_WORLD_SIZE", size), own)

    def first_alone(record: logging.LogRecord) -> bool:
        return world.first

    logger.addFilter(first_alone)
    try:
        yield world
    finally:
        logger.removeFilter(first_alone)
        distributed.destroy_process_group()


def _store(rank: int, size: int) -> distributed.Store:
    """Where the processes find each other.

    torchrun's own outlives the processes, and those that are started again would find the addresses
    of the dead (pytorch/pytorch#135712). Each machine counts its restarts alone; on several,
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes torchrun open a new one instead.
    """
    store: distributed.Store = next(distributed.rendezvous("env://", rank, size))[0]
    if started_again() and _variable("LOCAL_WORLD_SIZE", size) == size:
        return distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    return store


def launch_id() -> str:
    """What torchrun's processes share, those it starts again among them, and no others; empty
    without torchrun."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "")
    # Without a rendezvous of their own all launches are called so; their agent tells them apart.
    return run_id if run_id != "none" else f"{socket.gethostname()} {os.getppid()}"


def started_again() -> bool:
    """Whether torchrun has started these processes anew after one had died."""
    return _variable("TORCHELASTIC_RESTART_COUNT", 0) > 0


def _variable(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, default)
    if text is None:
        raise InputError(f"WORLD_SIZE is set and {name} is not; start the processes with torchrun")
    return int(text)
