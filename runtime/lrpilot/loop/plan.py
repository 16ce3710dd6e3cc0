"""How long a training is, and how many data it has, from what its scheduler is given. Needs torch.

    PilotLR(optimizer, epochs=20, data=loader)                    # 20 passes over a DataLoader
    PilotLR(optimizer, epochs=20, data=loader, accumulate=4)      # one optimizer step per four of its batches
    PilotLR(optimizer, epochs=20, steps_per_epoch=500)            # as OneCycleLR takes them
    PilotLR(optimizer, total_steps=10_000, data=loader)           # the number of optimizer steps is known already

An epoch is what the loop calls one: all batches that the loader yields. A pass over the data is what the policy is
told of: in it each example is drawn once, on average. They differ where a sampler draws fewer or more examples than
there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Any, cast

from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, WeightedRandomSampler

from lrpilot.loop.arguments import positive, shown, whole
from lrpilot.text import counted


@dataclass(frozen=True)
class LoaderSize:
    """What a loader says of itself; None: it does not know."""

    batches: int | None  # of an epoch, in this process
    examples: int | None  # that there are to draw from, over all processes
    passes: float = 1.0  # over the data, in an epoch


@dataclass(frozen=True)
class Plan:
    """A training's length and data, as far as they are known."""

    total_steps: int  # optimizer steps of the whole training
    steps_per_epoch: float | None  # optimizer steps per pass over the data; None: not known
    examples: int | None  # of the training data; None: not known
    epochs: float | None  # as given
    loader: LoaderSize | None  # where there is one
    accumulate: int | None  # batches of the loader per optimizer step; None: not said, and taken for 1

    def accumulated(self, accumulate: int | None) -> Plan:
        """The plan of a training that makes an optimizer step per so many batches, where that was not said."""
        if self.accumulate is not None or accumulate is None:
            return self
        if self.loader is None or self.loader.batches is None:
            return replace(self, accumulate=accumulate)
        steps = steps_of_epoch(self.loader.batches, accumulate)
        return replace(
            self,
            total_steps=self.total_steps if self.epochs is None else math.ceil(self.epochs * steps),
            steps_per_epoch=steps / self.loader.passes,
            accumulate=accumulate,
        )

    @property
    def depends_on_accumulation(self) -> bool:
        """Whether it would be another plan if it were known that batches are accumulated."""
        return self.accumulate is None and self.loader is not None and self.loader.batches is not None


def plan(
    total_steps: Any,
    epochs: Any,
    data: Any,
    accumulate: Any,
    steps_per_epoch: float | None,
    examples: int | None,
) -> Plan:
    """The plan that these arguments of `PilotLR` make, where None stands for what is not given.

    Raises:
        TypeError: an argument of another kind, such as a data set in the place of a loader.
        ValueError: an argument out of range, too few of them to know the length, or two that disagree.
    """
    total = None if total_steps is None else whole("total_steps", total_steps, "the number of optimizer steps")
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if value is not None:
            positive(name, value)
    if examples is not None:
        whole("examples", examples, "the number of training examples")
        if steps_per_epoch is not None and examples < steps_per_epoch:
            raise ValueError(
                f"examples: {examples}, but steps_per_epoch={steps_per_epoch:g}; "
                "an epoch has no more steps than examples; are they swapped?"
            )
    batches_per_step = None if accumulate is None else whole("accumulate", accumulate, "batches per optimizer step")
    loader = None if data is None else size(data)
    steps: float | None = steps_per_epoch
    per_pass = steps_per_epoch
    if steps is None and loader is not None and loader.batches is not None:
        steps = steps_of_epoch(loader.batches, batches_per_step or 1)
        per_pass = steps / loader.passes
    if total is None:
        total = _length(epochs, steps, loader)
    elif epochs is not None and steps is not None and total != (made := math.ceil(epochs * steps)):
        raise ValueError(
            f"total_steps: {total}, but epochs={epochs} of {counted(f'{steps:g}', 'step')} make {made}; leave one "
            "out, or say accumulate= if an optimizer step takes several batches"
        )
    elif epochs is not None and steps is None:
        per_pass = total / epochs
    if examples is None and loader is not None:
        examples = loader.examples
    if steps_per_epoch is not None and loader is not None:
        loader = replace(loader, batches=None)  # its length does not count
    return Plan(total, per_pass, examples, epochs, loader, batches_per_step)


def size(data: object) -> LoaderSize:
    """What a loader, or any other collection of batches, says of its length and of the data behind it.

    Raises TypeError for what is no collection of batches, ValueError for an empty one.
    """
    indexed = hasattr(data, "__getitem__") and type(data) not in (list, tuple, deque)  # as data sets and tensors are
    if indexed or not hasattr(data, "__iter__") or isinstance(data, type):
        raise TypeError(f"data: {shown(data)}, want the DataLoader (or a list) that yields the training's batches")
    batches = _len(data)
    if batches == 0:
        raise ValueError("data: it yields no batch; give the loader of the training data (drop_last drops them all?)")
    if not isinstance(data, DataLoader):
        return LoaderSize(batches, _len(getattr(data, "dataset", None)))
    loader = cast(Any, data)
    if loader.batch_sampler is None and loader.batch_size is None:
        return LoaderSize(batches, None)  # the data set yields batches, or examples one by one: who knows
    examples, sampler = _len(_whole(loader.dataset)), _sampler(loader)
    drawn = _len(sampler)
    if examples is None or not drawn:
        return LoaderSize(batches, examples)
    if isinstance(sampler, RandomSampler | WeightedRandomSampler):
        return LoaderSize(batches, examples, drawn / examples)
    return LoaderSize(batches, examples if isinstance(sampler, DistributedSampler) else min(drawn, examples))


def _length(epochs: float | None, steps: float | None, loader: LoaderSize | None) -> int:
    if epochs is None:
        raise ValueError("total_steps, epochs: neither is given; pass epochs=20, data=loader, or total_steps=")
    if steps is not None:
        return math.ceil(epochs * steps)
    if loader is None:
        raise ValueError(f"epochs: {epochs!r} of unknown length; pass data=loader or steps_per_epoch= as well")
    raise ValueError("data: it has no length, as an iterable data set may have none; pass steps_per_epoch= as well")


def steps_of_epoch(batches: int, accumulate: int) -> int:
    """Optimizer steps of an epoch; the last one may take fewer batches, as in Trainer, Lightning and Accelerate."""
    return -(-batches // accumulate)


def _whole(dataset: Any) -> Any:
    """The data set of all processes; Accelerate wraps an iterable one into shards."""
    return dataset.dataset if hasattr(dataset, "num_processes") else dataset


def _sampler(loader: Any) -> Any:
    """What draws the examples of a DataLoader; Accelerate wraps it into batch samplers."""
    batch_sampler = loader.batch_sampler
    while hasattr(batch_sampler, "batch_sampler"):
        batch_sampler = batch_sampler.batch_sampler
    return getattr(batch_sampler, "sampler", None)


def _len(value: object) -> int | None:
    if not isinstance(value, Sized):
        return None
    try:
        return len(value)
    except (TypeError, NotImplementedError):  # a DataLoader over an iterable data set has no length, though a __len__
        return None
