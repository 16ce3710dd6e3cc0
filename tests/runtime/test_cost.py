"""What PilotLR may not do: wait for the device on quiet steps, or grow with the training."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Still(torch.optim.Optimizer):
    """Does nothing, quickly, but with the hooks of every optimizer."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1.0})

    def step(self, closure: Any = None) -> None:
        return None


@pytest.mark.parametrize("rate", [0.1, "tensor"])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_no_step_but_a_decision_needs_a_number(policy: Bundle, rate: Any, micro_batches: int) -> None:
    """Meta tensors have no values: what would wait for a device raises there, in a window's steps too."""
    lr = torch.tensor(0.1, device="meta") if rate == "tensor" else rate
    p = nn.Parameter(torch.ones(40_000, device="meta"))
    optimizer = Still([p])
    scheduler = PilotLR(optimizer, 10_000, policy, probe=False)
    optimizer.param_groups[0]["lr"] = lr  # its value was asked for once, at construction

    def step() -> None:
        for _ in range(micro_batches):
            loss = p.square().sum()
            (loss / micro_batches).backward()
        scheduler.observe(grad_norm=p.grad.norm(), loss=loss)
        optimizer.step()
        scheduler.step(loss)

    end = int(scheduler.pilot.cadence.bounds[1])
    assert end > 10
    for _ in range(end - 1):
        step()
    assert scheduler.last_epoch == end - 1
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # the decision's one wait
        step()


def test_the_state_does_not_grow_with_the_training(policy: Bundle) -> None:
    """Of 10 M steps the first 30,000 and the first 200,000: equal but for the decisions, some 44 in all."""
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = Still([p])
    scheduler = PilotLR(optimizer, 10_000_000, policy)
    sizes: dict[int, int] = {}
    rest: dict[int, int] = {}
    for step in range(1, 200_001):
        optimizer.step()
        scheduler.step(1.0)
        if step in (30_000, 200_000):
            state = scheduler.state_dict()
            sizes[step] = len(pickle.dumps(state))
            assert len(state["losses"].pop("steps")) <= scheduler.pilot.protocol.cadence.losses
            state["pilot"].pop("history"), state.pop("meter")
            rest[step] = leaves(state)
    assert rest[30_000] == rest[200_000] < 5000 and max(sizes.values()) < 100_000
    assert scheduler.pilot.cadence.decisions < 50


def leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list | tuple) else 1


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "foreach": lambda params: torch.optim.Adam(params, lr=0.1, foreach=True),
    "fused": lambda params: torch.optim.Adam(params, lr=0.1, fused=True),
    "capturable": lambda params: torch.optim.Adam(params, lr=torch.tensor(0.1, device="cuda"), capturable=True),
}


@CUDA
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_quiet_steps_do_not_wait_for_cuda(policy: Bundle, name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 1, device="cuda")
    x = torch.randn(32, 8, device="cuda")
    optimizer = OPTIMIZERS[name](model.parameters())
    scheduler = PilotLR(optimizer, 2000, policy, model=model)
    quiet, ends = 0, set(scheduler.pilot.cadence.bounds[1:].tolist())
    for _ in range(2000):
        loss = (model(x) - x[:, :1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if not scheduler.probing and scheduler.last_epoch + 1 not in ends:  # windows included
            quiet += 1
            with no_waiting():
                optimizer.step()
                scheduler.step(loss)
        else:
            optimizer.step()
            scheduler.step(loss)
    assert quiet > 1500 and scheduler.last_epoch == 2000


@CUDA
def test_losses_on_cuda_are_the_same_losses(policy: Bundle) -> None:
    rates = []
    for kind in (lambda t: t, lambda t: t.item(), lambda t: np.float32(t.item())):
        torch.manual_seed(0)
        model = nn.Linear(8, 1, device="cuda")
        x = torch.randn(32, 8, device="cuda")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = PilotLR(optimizer, 300, policy, model=model)
        for _ in range(300):
            loss: Tensor = (model(x) - x[:, :1]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(kind(loss))
        rates.append([d.lr for d in scheduler.history])
    assert rates[0] == rates[1] == rates[2]
