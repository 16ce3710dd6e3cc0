"""What the ranks of a distributed training must agree on. Needs torch.

Rank 0 decides: its losses, its validation losses and its policy's answers count, and the others follow. So a
checkpoint that rank 0 writes is whole. Parameters that are sharded (FSDP2's DTensors) are sampled shard by shard, and
every rank gets the whole sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)


def alone() -> bool:
    """Whether this process trains by itself."""
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def leads() -> bool:
    """Whether this process is rank 0, or alone."""
    return alone() or dist.get_rank() == 0


def place() -> list[int]:
    """This process's rank, and the number of ranks."""
    return [dist.get_rank(), dist.get_world_size()]


def first(values: Sequence[float], device: torch.device, count: int | None = None) -> list[float]:
    """Rank 0's `values`; a collective call, over `device`.

    Without `count` every rank has as many. With it, `count` is how many rank 0 has, and others may have more or fewer.
    """
    if alone():
        return list(values)
    mine = list(values) if count is None else [*values, *[0.0] * count][:count]
    vector = torch.tensor(mine, dtype=torch.float64, device=device)
    dist.broadcast(vector, src=0)
    return numbers(vector)


class FirstPolicy:
    """Rank 0's policy, for the decision of one training; a call is collective, over `device`."""

    def __init__(self, policy: Callable[[np.ndarray], np.ndarray], device: torch.device) -> None:
        self._policy, self._device = policy, device

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Rank 0's answer (1,) to its observation (1, F); raises where rank 0's policy did."""
        failure, answer = None, math.nan
        if leads():
            try:
                answer = float(np.asarray(self._policy(observation)).reshape(-1)[0])
            except Exception as error:
                failure = error
        failed, answer = first([failure is not None, answer], self._device)
        if failed:
            raise failure or RuntimeError("the policy failed on rank 0")
        return np.array([answer])


def total(value: Tensor) -> Tensor:
    """Sum over the ranks; a collective call."""
    out = value.clone()
    dist.all_reduce(out)
    return out


def square_sum(tensor: Tensor, device: torch.device) -> Tensor:
    """() float64 on `device`: the sum of squares of the part that lies in this process, 0 where another counts it."""
    whole = tensor.detach()
    if (mine := local(whole)) is not whole and not alone() and not is_first_copy(tensor):
        return torch.zeros((), dtype=torch.float64, device=device)
    linalg: Any = torch.linalg
    return linalg.vector_norm(mine.to_dense() if mine.is_sparse else mine, dtype=torch.float64).to(device).square()


def sizes(mine: Sequence[int], device: torch.device) -> list[list[int]]:
    """Every rank's numbers (ranks, numbers); a collective call."""
    out = torch.zeros(dist.get_world_size(), len(mine), dtype=torch.int64, device=device)
    out[dist.get_rank()] = torch.tensor(mine, dtype=torch.int64, device=device)
    rows: Any = total(out)
    return rows.tolist()


def numbers(vector: Tensor) -> list[float]:
    """A vector's elements, waiting for its device."""
    values: Any = vector
    return values.tolist()


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor of which this process holds a part."""
    return any(placement.is_shard() for placement in getattr(tensor, "placements", ()))


def is_first_copy(tensor: Tensor) -> bool:
    """Whether, of the ranks that hold the same elements of the tensor, this one is the first."""
    placements: Sequence[Any] = getattr(tensor, "placements", ())
    if not placements:
        return dist.get_rank() == 0
    mesh: Any = getattr(tensor, "device_mesh")  # noqa: B009 -- no attribute of a plain Tensor
    place = mesh.get_coordinate()
    return place is not None and all(p.is_shard() or at == 0 for p, at in zip(placements, place, strict=True))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process, sharing its memory where gradients are off."""
    if type(tensor) in PLAIN:  # to miss an attribute of a tensor takes longer
        return tensor
    to_local: Any = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
