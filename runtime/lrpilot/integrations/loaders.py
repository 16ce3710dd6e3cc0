"""What an epoch is where a framework takes only some batches of a loader, or shares it among processes. Needs torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lrpilot.loop.plan import LoaderSize, size


def epoch_of(loader: Any, batches: float, processes: int) -> LoaderSize | None:
    """An epoch that takes the first `batches` of a loader in each of so many processes; None where nobody can say.

    Where the loader shuffles, the data are still the whole data set, and such an epoch is a part of a pass over them.
    Where it does not, they are the batches that are taken.
    """
    if hasattr(loader, "__getitem__"):  # several loaders, in a list or a dict
        return None
    whole = size(loader)
    batch_sampler = getattr(loader, "batch_sampler", None)
    sampler = getattr(batch_sampler, "sampler", None)
    if whole.batches is None or not _is_shared(loader, sampler, processes):
        return None
    if batches >= whole.batches:
        return whole
    if not isinstance(batch_sampler, BatchSampler):
        return None
    if _shuffles(sampler):
        return replace(whole, batches=int(batches), passes=whole.passes * batches / whole.batches)
    if _is_sequential(sampler) and whole.examples is not None:
        taken = int(batches) * batch_sampler.batch_size * processes
        return LoaderSize(int(batches), min(taken, whole.examples))
    return None


def _is_shared(loader: Any, sampler: Any, processes: int) -> bool:
    """Whether the processes share an epoch of the loader, as far as that can be seen."""
    if isinstance(sampler, DistributedSampler):
        drawn_from = cast(Any, sampler).dataset  # Lightning wraps other samplers, which may draw more or fewer examples
        return len(drawn_from) == len(loader.dataset)
    return processes == 1


def _shuffles(sampler: Any) -> bool:
    if type(sampler) is DistributedSampler:
        return sampler.shuffle
    return isinstance(sampler, RandomSampler | WeightedRandomSampler | SubsetRandomSampler)


def _is_sequential(sampler: Any) -> bool:
    if type(sampler) is DistributedSampler:
        return not sampler.shuffle
    return isinstance(sampler, SequentialSampler)
