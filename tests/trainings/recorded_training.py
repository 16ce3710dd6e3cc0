"""A tiny training under `PilotLR`, and what it really did, step by step."""

import math
from functools import cache

import torch

from lrpilot.torch import PilotLR

torch.set_num_threads(1)
STEPS = 120


def fault(step: int, loss: torch.Tensor) -> torch.Tensor | None:
    """What a loop reports of a loss: everything that wakes a guard, in turn."""
    if 60 < step <= 75:
        return None
    return loss * (math.nan if 75 < step <= 85 else 100 if 95 < step <= 105 else 1)


@cache
def training(probe: bool = True) -> tuple[PilotLR, list[float]]:
    """The scheduler after STEPS steps, and the rate that each step used."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = PilotLR(optimizer, STEPS, model=model, probe=probe)
    rates = []
    for step in range(1, STEPS + 1):
        x = torch.randn(16, 4)
        loss = torch.nn.functional.mse_loss(model(x), x[:, :1])
        optimizer.zero_grad()
        loss.backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(fault(step, loss))
    return scheduler, rates
