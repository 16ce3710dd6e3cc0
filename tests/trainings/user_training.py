"""A user's training of a small net on fixed data, as the tests of PilotLR's contract vary it."""

import copy
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundles import write_bundle
from lrpilot.decisions.features import NAMES
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

N = 80  # steps; the probe takes 16 of them at most
Make = Callable[..., torch.optim.Optimizer]


def adam(params: Any, **kw: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.5, **kw)


def sgd(params: Any, **kw: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.5, momentum=0.9, **kw)


MAKES: dict[str, Make] = {"adam": adam, "sgd": sgd}


def drawn_policy(path: Path, seed: int = 0) -> Bundle:
    """A policy that answers something else at each decision."""
    weights = np.random.default_rng(seed).normal(0, 0.05, len(NAMES)).tolist()
    return Bundle(write_bundle(path, weights=dict(zip(NAMES, weights, strict=True))))


class Training:
    """`compiled` makes what trains out of the model; `make` the optimizer of its parameters; inputs are of `scale`."""

    def __init__(
        self,
        policy: Bundle,
        make: Make = adam,
        compiled: Callable[[nn.Module], Any] = lambda m: m,
        scale: float = 1.0,
        **kw: Any,
    ) -> None:
        torch.set_num_threads(1)
        self.x = scale * torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        self.y = torch.sin(self.x.sum(1, keepdim=True) / scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.model = compiled(model)
        self.optimizer = make(self.model.parameters())
        self.scheduler = PilotLR(self.optimizer, kw.pop("total_steps", N), policy, model=self.model, **kw)
        self.rates: list[float] = []  # that the steps used

    def loss(self) -> Tensor:
        at = 16 * (len(self.rates) % 4)
        return nn.functional.mse_loss(self.model(self.x[at : at + 16]), self.y[at : at + 16])

    def update(self) -> Tensor:
        """One optimizer step, which the scheduler does not know of yet."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
        return loss

    def train(self, until: int) -> list[float]:
        while len(self.rates) < until:
            self.scheduler.step(self.update())
        return self.rates

    def through_probe(self) -> int:
        """Train to the end of the probe; its steps."""
        while not self.scheduler.history:
            self.scheduler.step(self.update())
        return len(self.rates)

    def everything(self) -> dict[str, Any]:
        """Copies of all that the probe's roll-back must put back."""
        return copy.deepcopy({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()["state"]})

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds, through a real one."""
        file = io.BytesIO()
        torch.save({name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def resume(self, state: dict[str, Any], done: int) -> None:
        for name in ("model", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(state[name])
        self.rates = [math.nan] * done
