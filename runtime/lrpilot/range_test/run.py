"""`suggest`: the probe alone, for people who keep a schedule of their own. Needs torch.

A learning-rate range test (Smith 2017, arXiv:1506.01186, section 3.3) on the training's own model, optimizer and
batches, as `lrpilot.probing.probe` has it, after which everything is put back.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrpilot.decisions.actions import reference
from lrpilot.loop import distributed
from lrpilot.loop.calls import is_driven
from lrpilot.loop.optimizers import kind_of, own_step, unwrapped
from lrpilot.loop.rates import Rates
from lrpilot.loop.rollback import RollBack, parameters
from lrpilot.probing.probe import Probes
from lrpilot.probing.probe_curve import LOW, levels
from lrpilot.range_test.suggestion import Suggestion, suggestion, wants_another
from lrpilot.text import counted

FEWEST_STEPS = 30  # a fifth of a decade from one probed rate to the next


def suggest(
    optimizer: Optimizer,
    data: Iterable[Any],
    loss_fn: Callable[[Any], Tensor],
    *,
    model: nn.Module | None = None,
    steps: int = 100,
) -> Suggestion:
    """Suggest a peak learning rate for a schedule of your own, with its reason, and put everything back.

    It runs a range test. The rate climbs geometrically from a three-hundredth of the optimizer's textbook rate (1e-3,
    for SGD 0.1) to three thousand times it, one batch and one optimizer step per rate, until the loss blows up. Param
    groups keep their ratios. If batch noise hides the fall of the loss, the test is repeated from the same start on
    further batches, at most three times in all.

    Parameters, gradients, optimizer state, rates, and the random numbers of torch, numpy and Python are put back bit
    for bit; with `model` also buffers (batch norm's statistics) and training modes. That holds when an exception is
    raised, too. In a distributed training every rank makes the same call, and rank 0's losses count.

    Args:
        optimizer: any torch optimizer that no `PilotLR` drives.
        data: batches: a DataLoader, a list, a generator. A loader or list that ends before the test starts over.
        loss_fn: returns the loss of one batch, a tensor of one element:
            `lambda batch: criterion(model(batch[0]), batch[1])`.
        model: the model, whose buffers, training modes and other parameters' gradients are put back, too.
        steps: number of optimizer steps of one test, each on one batch; at least 30.

    Returns:
        The suggestion; its `lr` is None if the tests give none.

    Raises:
        TypeError: `optimizer` is no optimizer, `steps` no int, or `loss_fn` returns no tensor.
        ValueError: there is no parameter to train, there are too few steps or batches, a `PilotLR` drives the
            optimizer, or the loss has several elements, has no gradient, or is not finite at the start.
    """
    optimizer = unwrapped(optimizer)
    _check(optimizer, steps)
    rates = 10.0 ** (reference(kind_of(optimizer)) + levels(steps))
    with (
        closing(_endless(data)) as batches,  # closing ends a loader's workers
        _put_back(optimizer, model),
        torch.enable_grad(),
    ):
        groups, rollback = Rates(optimizer), RollBack(optimizer, model)
        rollback.prepare()
        tests: list[Probes] = []
        while wants_another(tests):
            try:
                test = _range_test(optimizer, groups, rates, batches, loss_fn, rollback)
            finally:
                rollback.restore()
            if not test.running[0]:
                tests.append(test)
            elif tests:
                break  # the data ended; what was tested before counts
            else:
                made = counted(str(test.steps[0] + test.halted[0]), "batch", "batches")
                raise ValueError(
                    f"data: {made}, then no more, want {steps}, one for each step; "
                    "pass a DataLoader or a list, which is begun anew, or fewer steps"
                )
        return suggestion(rates, tests, groups.of)


def _range_test(
    optimizer: Optimizer,
    groups: Rates,
    rates: np.ndarray,
    batches: Iterator[Any],
    loss_fn: Callable[[Any], Any],
    rollback: RollBack,
) -> Probes:
    """One range test: one batch and one step per rate, until the loss blows up; still running where batches end."""
    probes, device = Probes(1, len(rates)), parameters(optimizer)[0].device
    for step, batch in enumerate(islice(batches, len(rates))):
        optimizer.zero_grad()
        loss = _checked(loss_fn(batch))
        (value,) = distributed.first([float(loss.detach())], device)
        if step == 0 and not math.isfinite(value):
            raise ValueError(f"loss_fn: the first loss is {value}, before any step; look at the batch and the model")
        if probes.record(step, value, math.nan)[0]:
            break
        if probes.back[0]:  # a loss that the batch may have broken: it makes no step, and the climb goes on
            rollback.restore()
        else:
            loss.backward()
            groups.write(float(rates[0]) * 10 ** float(probes.levels(step)[0] - LOW))
            optimizer.step()
    return probes


def _check(optimizer: Optimizer, steps: Any) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps: {steps!r}, want an int, the optimizer steps of one range test")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps: {steps}, want at least {FEWEST_STEPS}; 100 is a good number")
    if (refusal := own_step(optimizer)) is not None:
        raise ValueError(refusal)
    if not any(p.requires_grad for p in parameters(optimizer)):
        raise ValueError("optimizer: no parameter requires a gradient; unfreeze what is to be trained")
    if is_driven(optimizer):
        raise ValueError(
            "optimizer: a PilotLR drives it and would count these steps; call suggest() before building one, "
            "or delete the scheduler"
        )


def _checked(loss: Any) -> Any:
    """What loss_fn returned, if it can be differentiated."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn: returned {type(loss).__name__}, want the loss of the batch, a tensor")
    if loss.numel() != 1:
        raise ValueError(f"loss_fn: returned a tensor of shape {tuple(loss.shape)}, want one number: loss.mean()")
    if not loss.requires_grad:
        raise ValueError("loss_fn: the loss has no gradient; return it without detach(), item() or no_grad()")
    return loss


def _endless(data: Any) -> Generator[Any]:
    """The batches of `data`, over and over, where it can be begun anew."""
    if not isinstance(data, Iterable):
        raise TypeError(f"data: {type(data).__name__}, want batches: a DataLoader, a list, a generator")
    ended = False
    while not ended:
        ended = True
        for batch in cast(Iterable[Any], data):
            ended = False
            yield batch


@contextmanager
def _put_back(optimizer: Optimizer, model: nn.Module | None) -> Generator[None]:
    """What a roll-back leaves alone: gradients, the groups' rates, training modes, random numbers."""
    params = {*parameters(optimizer), *(() if model is None else model.parameters())}
    gradients = [(p, p.grad) for p in params]
    rates = [
        {name: copy.deepcopy(group[name]) for name in ("lr", "initial_lr") if name in group}
        for group in optimizer.param_groups
    ]
    modes = [] if model is None else [(module, module.training) for module in model.modules()]
    devices = {p.device for p in params if p.device.type == "cuda"}
    torch_random: Any = torch.random
    numpy_state, python_state = np.random.get_state(), random.getstate()
    for p in params:
        p.grad = None  # the probe's are other tensors than the user's
    try:
        with torch_random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for p, gradient in gradients:
            p.grad = gradient
        for group, saved in zip(optimizer.param_groups, rates, strict=True):
            _restore_rates(group, saved)
        for module, mode in modes:
            module.training = mode


def _restore_rates(group: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in {"lr", "initial_lr"} & group.keys() - saved.keys():
        del group[name]
    for name, rate in saved.items():
        if isinstance(group[name], Tensor):
            group[name].copy_(rate)  # who holds it goes on holding it
        else:
            group[name] = rate
