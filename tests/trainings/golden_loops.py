"""The loops of users, whose trainings are on file: each does or suffers something that a scheduler has to bear."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from golden_records import Record, as_text, digest
from lrpilot import Bundle, load_policy
from lrpilot.torch import PilotLR

EVERY = 16  # steps between two learning rates on file
EXAMPLES, BATCH, FEATURES = 240, 16, 4


class Altered(Bundle):
    """The shipped policy with a fault in it: `answer` makes what is answered out of what was."""

    def __init__(self, answer: Callable[[float], float]) -> None:
        super().__init__(load_policy("default").path)
        self.answer = answer

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.array([self.answer(float(action)) for action in super().__call__(observation)])


class Training:
    """A user's loop: a noisy regression in float64, so that rounding has little to grow from."""

    def __init__(self, case: Case) -> None:
        torch.set_num_threads(1)
        self.case, self.done = case, 0
        rng = np.random.default_rng(1)
        x = rng.uniform(-1.7, 1.7, (EXAMPLES + 80, FEATURES))
        y = case.height * (np.sin(x.sum(1, keepdims=True)) + rng.uniform(-0.7, 0.7, (len(x), 1)))
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            norm = [nn.BatchNorm1d(8)] if case.norm else []
            self.model = nn.Sequential(nn.Linear(FEATURES, 8), *norm, nn.Tanh(), nn.Linear(8, 1)).double()
        self.optimizer = case.optimizer(self.groups(), lr=0.123)
        self.rates: list[list[float]] = []  # by step, of all groups: those it used, then those named after it
        self.logged: list[float] = []
        self.warned = 0
        policy = "default" if case.answer is as_said else Altered(self.answer)
        self.scheduler = self.make_scheduler(policy, {"log": self.log, **case.options})

    def groups(self) -> Any:
        return self.model.parameters()

    def make_scheduler(self, policy: str | Bundle, options: dict[str, Any]) -> PilotLR:
        model = self.model if self.case.norm else None
        return PilotLR(self.optimizer, self.case.steps, policy, model=model, **options)

    @property
    def interval(self) -> int:
        """The present interval: 0 up to the first decision, where there is a probe."""
        return len(self.scheduler.history)

    def answer(self, action: float) -> float:
        return self.case.answer(self.interval, action)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.logged += [step, *figures.values()]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.model(x), y)

    def validate(self) -> None:
        """As often as the case says, knowing nothing of where decisions fall."""
        if self.done in self.case.validates:
            with torch.no_grad():
                self.scheduler.observe(val_loss=self.loss(self.x[EXAMPLES:], self.y[EXAMPLES:]))

    def update(self) -> Tensor:
        """One optimizer step; the loss of its last micro-batch, not yet passed on."""
        if self.done == 0:
            self.validate()
        at = BATCH * (self.done % (EXAMPLES // BATCH))
        parts = self.case.parts
        self.optimizer.zero_grad()
        for part in range(parts):
            rows = slice(at + part * BATCH // parts, at + (part + 1) * BATCH // parts)
            loss = self.loss(self.x[rows], self.y[rows])
            self.scaled(loss / parts).backward()
            if part < parts - 1:
                self.report(loss)
        self.make_step()
        self.done += 1
        self.rates.append([float(group["lr"]) for group in self.optimizer.param_groups])
        return loss

    def scaled(self, loss: Tensor) -> Tensor:
        return loss

    def make_step(self) -> None:
        self.optimizer.step()

    def report(self, loss: Tensor) -> None:
        self.scheduler.step(self.case.loss(self.interval, loss.detach()))

    def complete(self, loss: Tensor) -> None:
        """All that follows an optimizer step."""
        if (norm := self.case.gradient(self.interval)) is not None:
            self.scheduler.observe(grad_norm=norm)
        self.validate()
        self.report(loss)
        self.rates[-1] += map(float, self.scheduler.get_last_lr())
        if (total := self.case.extends.get(self.done)) is not None:
            self.scheduler.extend(total)

    def train(self, until: int | None = None) -> Training:
        """Make steps until so many are made, all by default."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while self.done < (self.case.made if until is None else until):
                self.complete(self.update())
        self.warned += sum(str(warning.message).startswith("PilotLR") for warning in caught)
        return self

    def resumed(self) -> Training:
        """The same training in new objects, from a checkpoint on file."""
        file = io.BytesIO()
        names = ("model", "optimizer", "scheduler")
        torch.save({name: getattr(self, name).state_dict() for name in names}, file)
        file.seek(0)
        state, other = torch.load(file, weights_only=True), type(self)(self.case)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in names:
                getattr(other, name).load_state_dict(state[name])
        for name in ("done", "rates", "logged", "warned"):
            setattr(other, name, getattr(self, name))
        return other

    def record(self) -> Record:
        """What goes on file."""
        history = self.scheduler.history
        decisions = [
            {
                "step": d.step,
                **{name: as_text(getattr(d, name)) for name in ("lr", "action", "applied", "level")},
                "event": d.event,
            }
            for d in history
        ]
        details = [digest([d.lr_before, *d.observation.values(), *d.telemetry.values()]) for d in history]
        weights = [x for value in self.model.state_dict().values() for x in value.double().flatten().tolist()]
        rates = [rate for step in self.rates for rate in step]
        bits = {"rates": digest(rates), "weights": digest(weights), "log": digest(self.logged), "decisions": details}
        return {"decisions": decisions, "warnings": self.warned, "rates": as_text(self.rates[::EVERY]), "bits": bits}


class Grouped(Training):
    """Two groups of parameters, of different rates."""

    def groups(self) -> Any:
        first, *_, last = self.model
        return [{"params": first.parameters(), "lr": 0.01}, {"params": last.parameters(), "lr": 0.03}]


class Meddled(Training):
    """Other code writes rates, and hands over the last layer late."""

    def groups(self) -> Any:
        return self.model[0].parameters()

    def make_step(self) -> None:
        if self.done == 100:
            self.optimizer.add_param_group({"params": self.model[-1].parameters(), "lr": 0.05})
        if self.done % 40 == 20:
            self.optimizer.param_groups[0]["lr"] = 0.5
        super().make_step()


class Loaded(Training):
    """The DataLoader says how many data there are."""

    def make_scheduler(self, policy: str | Bundle, options: dict[str, Any]) -> PilotLR:
        batches = DataLoader(TensorDataset(self.x[:EXAMPLES], self.y[:EXAMPLES]), BATCH, shuffle=True)
        return super().make_scheduler(policy, {"data": batches, **options})


class Watched(Training):
    """The scheduler takes the loss from the module that puts it out."""

    def make_scheduler(self, policy: str | Bundle, options: dict[str, Any]) -> PilotLR:
        scheduler = super().make_scheduler(policy, options)
        self.judge = nn.MSELoss()
        scheduler.watch(self.judge)
        return scheduler

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return self.judge(self.model(x), y)

    def report(self, loss: Tensor) -> None:
        self.scheduler.step()


class Scaled(Training):
    """Steps through a GradScaler, which skips those whose gradient is not finite."""

    def make_scheduler(self, policy: str | Bundle, options: dict[str, Any]) -> PilotLR:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=100)
        return super().make_scheduler(policy, options)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return super().loss(x, y) * (math.inf if self.done in (6, 202) else 1.0)

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss) * (math.inf if self.done % 50 == 4 else 1.0)

    def make_step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Swelling(Training):
    """A loss that rises by a twentieth per step while it is probed, with little noise."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss = super().loss(x, y)
        return loss if self.interval else 1.0 + 0.05 * max(self.done - 8, 0) + 0.05 * loss


class Plateau(Training):
    """Weights that move, and a loss that stays where it is."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return 1.0 + 1e-3 * torch.tanh(self.model(x)).mean() * (-1) ** self.done


class Hopeless(Plateau):
    """The same; after the probe the gradient has vanished."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss = super().loss(x, y)
        return loss.detach() + 1e-4 * (loss - loss.detach()) if self.interval else loss


class Lost(Plateau):
    """The same, but soon after the probe the weights become nan."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return super().loss(x, y) * (math.nan if self.interval == 4 else 1.0)


class Raised(Training):
    """Weights that become nan after a rise of the level."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return super().loss(x, y) * (math.nan if self.interval == 21 else 1.0)


def as_it_is(interval: int, loss: Tensor) -> Any:
    return loss


def unmeasured(interval: int) -> float | None:
    return None


def as_said(decision: int, action: float) -> float:
    return action


@dataclass(frozen=True)
class Case:
    """One training, and what its user does or suffers in it."""

    what: str  # for people
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    steps: int = 320  # what PilotLR is told
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of PilotLR
    loop: type[Training] = Training
    norm: bool = False  # whether there is batch norm, and PilotLR is given the model
    height: float = 1.0  # of the targets
    parts: int = 1  # micro-batches of an optimizer step
    validates: frozenset[int] = frozenset()  # completed steps at which a validation loss is observed
    loss: Callable[[int, Tensor], Any] = as_it_is  # (interval, batch loss) -> what the loop passes on
    gradient: Callable[[int], float | None] = unmeasured  # interval -> the gradient norm that the loop observes
    answer: Callable[[int, float], float] = as_said  # (decision, action) -> what the policy answers
    extends: Mapping[int, int] = field(default_factory=dict[int, int])  # completed steps -> another total
    until: int | None = None  # steps that are made, if not `steps`

    @property
    def made(self) -> int:
        return self.steps if self.until is None else self.until
