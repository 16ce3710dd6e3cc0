"""What sets the learning rate: torch's schedulers, lrpilot's pilot, the plan's agents, and the behaviours of
recordings.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer, lr_scheduler

from experiments.original.agents import epochs
from experiments.original.agents.epochs import Telemetry
from experiments.original.trainings.training import Training
from pipeline.simulation.schedules import epsilon, multipliers


class RateSetter:
    """Sets the rate. It is called after every optimizer step and, a few times per epoch, with the validation.

    `action` is its last action.
    """

    wants_norm = False  # whether it needs the gradient norm of every step
    action = math.nan

    def after_step(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None: ...

    def decide(self, now: Telemetry) -> None:
        """Called before the training, and at the end of every interval but the last."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Scheduled(RateSetter):
    """A scheduler of torch, stepped with every optimizer step, its shape stretched over the whole training."""

    def __init__(self, optimizer: Optimizer, name: str, steps: int) -> None:
        self._scheduler = {
            "fixed": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
            "step": lambda: lr_scheduler.StepLR(optimizer, step_size=-(-steps // 3)),  # two drops by ten
            "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / steps)),  # to 1 %
            "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),  # to 0
        }[name]()

    def after_step(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


class Piloted(RateSetter):
    """`PilotLR` with the policy that lrpilot ships, at its own cadence. It may be shown the validation loss."""

    def __init__(self, optimizer: Optimizer, model: torch.nn.Module, steps: int, data: Any, validation: bool) -> None:
        from lrpilot.torch import PilotLR

        self._pilot, self._validation = PilotLR(optimizer, steps, data=data, model=model), validation

    def after_step(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        if norm is not None:  # as it was before it was clipped
            self._pilot.observe(grad_norm=norm)
        self._pilot.step(loss)

    def decide(self, now: Telemetry) -> None:
        if self._validation:
            self._pilot.observe(val_loss=now.val_loss)

    def state_dict(self) -> dict[str, Any]:
        return self._pilot.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pilot.load_state_dict(state)


class Deciding(RateSetter):
    """At every decision, multiplies the rate by the factor that `choose(observation, lr, decision)` returns with its
    action.
    """

    wants_norm = True

    def __init__(self, optimizer: Optimizer, choose: Any) -> None:
        self._optimizer, self._choose = optimizer, choose
        self._before: Telemetry | None = None
        self._decision = 0

    def decide(self, now: Telemetry) -> None:
        observation = epochs.observation(now, self._before or now)
        self.action, factor = self._choose(observation, now.lr, self._decision)
        self._before, self._decision = now, self._decision + 1
        for group in self._optimizer.param_groups:
            group["lr"] = epochs.moved(group["lr"], factor)

    def state_dict(self) -> dict[str, Any]:
        before = None if self._before is None else dict(vars(self._before))
        return {"before": before, "decision": self._decision, "action": self.action}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before = None if state["before"] is None else Telemetry(**state["before"])
        self._decision, self.action = state["decision"], state["action"]


class Agent:
    """The plan's agent, from its file."""

    def __init__(self, path: Path) -> None:
        from experiments.original.agents.epoch_policy import EpochPolicy

        self._policy = EpochPolicy(path)

    def __call__(self, observation: np.ndarray, lr: float, decision: int) -> tuple[float, float]:
        factor = float(self._policy(observation[None])[0])
        return factor, factor


class Explorer:
    """Follows a schedule as closely as the actions of a kind allow, and sometimes acts at random."""

    def __init__(self, training: Training, steps: int, decisions: int) -> None:
        rng = np.random.default_rng([training.seed, 0])
        curve = multipliers(training.behaviour, max(steps, 2), rng)
        middles = (np.arange(decisions) + 0.5) / decisions * len(curve)
        self._wanted = training.learning_rate * curve[middles.astype(int)]
        self._training = training

    def __call__(self, observation: np.ndarray, lr: float, decision: int) -> tuple[float, float]:
        kind, rng = self._training.scheduler, np.random.default_rng([self._training.seed, 1, decision])
        action = epochs.nearest(kind, self._wanted[decision] / lr)
        if rng.random() < epsilon(*self._training.exploration, decision):
            action = epochs.drawn(kind, rng)
        return action, epochs.factor(kind, action)


def rate_setter(training: Training, optimizer: Optimizer, model: torch.nn.Module, steps: int, data: Any) -> RateSetter:
    """Make what sets the rate, as the training names it; `data` is its loader."""
    if training.behaviour:
        decisions = training.setting.epochs * training.decisions
        return Deciding(optimizer, Explorer(training, steps, decisions))
    if training.scheduler.startswith("pilot"):
        return Piloted(optimizer, model, steps, data, validation=training.scheduler == "pilot_validation")
    if training.policy:
        return Deciding(optimizer, Agent(Path(training.policy)))
    return Scheduled(optimizer, training.scheduler, steps)
