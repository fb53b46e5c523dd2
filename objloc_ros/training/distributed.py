"""A training in several processes, one per GPU, as torchrun starts them: each learns from its part of every batch.

Sums of losses and gradients are those of the whole batch, so that the processes keep equal weights, and the training is
the one that a single process would make, but for the rounding of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Replicas:
    """The processes of a training, and which of them this is.

    Args:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the sums of some numbers over all processes."""
        if self.count == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(together)
        return together.tolist()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over all processes; parameters without one count as 0."""
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        flat = torch.cat([_gradient(parameter).flatten() for parameter in learning])
        distributed.all_reduce(flat)
        for parameter, part in zip(learning, flat.split([p.numel() for p in learning]), strict=True):
            parameter.grad = part.view_as(parameter)

    def join(self, parts: dict[T, U]) -> dict[T, U]:
        """Return what all processes hold, by key; of equal keys the last process's."""
        gathered: list[Any] = [parts] * self.count
        if self.count > 1:
            distributed.all_gather_object(gathered, parts)
        return {key: value for part in gathered for key, value in part.items()}

    def share(self, module: nn.Module) -> None:
        """Give all processes the weights of the first."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Replicas()


@contextmanager
def join_replicas(device: torch.device) -> Iterator[Replicas]:
    """Join the other processes that torchrun has started, if it has: `WORLD_SIZE` in the environment says so.

    Args:
        device: Where this process computes; processes on GPUs talk by NCCL, others by gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Replicas(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def choose_local_device(device: torch.device) -> torch.device:
    """Return this process's own GPU where torchrun has started one process per GPU, else the device itself."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
