"""Processes of a run: a single one, or those that torchrun started."""

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
    """The processes that work together, from the view of one of them.

    Attributes:
        rank: this process; only rank 0 writes and prints.
        size: number of processes.
        local_size: number of processes that share this machine's cores.
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
        """The values of all processes by rank, returned in every process; any object that can be pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of the tensors of all processes, returned in every process."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def first_does(self, work: Callable[[], Value]) -> Value:
        """Runs a function in the first process; all processes wait and return its result.

        The first process raises its InputError or OSError, which ends the others.
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
            sys.exit(1)  # silently: the first process has reported the error
        return cast(Value, value)

    def refuse(self, error: InputError) -> NoReturn:
        """Ends all processes with an error that each of them found; only the first reports it."""
        if self.first:
            raise error
        sys.exit(1)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises a one-line error if communication with the other processes fails.

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
                "another process of the run has ended, so this one stops; its own message or the system's log says "
                "why; `resume=True` resumes from the last checkpoint"
            ) from error

    def share_buffers(self, model: torch.nn.Module) -> None:
        """Copies the buffers of the first process to all, since batch-norm averages differ between processes."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)


@check_words
@contextmanager
def start_world(device: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[World]:
    """The world of torchrun's environment (gloo on the CPU, nccl on CUDA), or a single process.

    If there are several processes, only the first writes to the log.

    Raises:
        InputError: CUDA is requested but missing, or torchrun's variables are incomplete.
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
                f"{torch.cuda.device_count()} CUDA devices; expected one each, or `device=cpu`"
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
    """The store through which the processes find each other.

    torchrun's own store outlives the processes, so restarted processes would find the addresses of
    dead ones (pytorch/pytorch#135712). Each machine counts its restarts separately; with several
    machines, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes torchrun open a new store instead.
    """
    store: distributed.Store = next(distributed.rendezvous("env://", rank, size))[0]
    if started_again() and _variable("LOCAL_WORLD_SIZE", size) == size:
        return distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    return store


def launch_id() -> str:
    """An id shared by the processes of one torchrun, including restarted ones, and by no others; empty
    without torchrun."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "")
    # Launches without their own rendezvous all have this id; their agent distinguishes them.
    return run_id if run_id != "none" else f"{socket.gethostname()} {os.getppid()}"


def started_again() -> bool:
    """Whether torchrun has restarted these processes after one died."""
    return _variable("TORCHELASTIC_RESTART_COUNT", 0) > 0


def _variable(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, default)
    if text is None:
        raise InputError(f"WORLD_SIZE is set and {name} is not; start the processes with torchrun")
    return int(text)
