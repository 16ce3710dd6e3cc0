"""Small trainings under the shipped policy whose decisions are on file, so that a change of the code shows in them.

    golden_training.json    {"processor": where it was written, "policy": sha256 of policy.onnx, "trainings": {...}}

A training is on file as its decisions and some of its learning rates, numbers as `float.hex` writes them, and as
"bits": hashes of everything, which only the same arithmetic gives again. On another kind of processor numbers are
compared within `CLOSE`. To compare two versions of the code bit for bit there, write the file with the older one first:

    PYTHONPATH=.:tests/helpers python -m golden_training            say what differs from the file
    PYTHONPATH=.:tests/helpers python -m golden_training --write    write it anew
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.resources
import io
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot import Bundle, load_policy
from lrpilot.torch import PilotLR
from pipeline.simulation.simulate import follow_policy, simulate
from pipeline.workloads.base import Data, Workload
from tiny import world

FILE = Path(__file__).with_name("golden_training.json")
EVERY = 16  # steps between two learning rates on file
CLOSE = 2e-5  # what processors may differ by: relative in learning rates, absolute in levels and actions
RATES = ("lr", "rates")
EXAMPLES, BATCH, FEATURES = 240, 16, 4
Record = dict[str, Any]


def policy_hash() -> str:
    """sha256 of the policy that lrpilot ships."""
    return hashlib.sha256(_policy_file().read_bytes()).hexdigest()


def _policy_file() -> Any:
    return importlib.resources.files("lrpilot") / "models/default/policy.onnx"


def digest(values: Iterable[float]) -> str:
    """A hash of every bit of some numbers; one nan is as good as another."""
    return hashlib.sha256(" ".join(float(x).hex() for x in values).encode()).hexdigest()[:16]


def as_text(values: Any) -> Any:
    """A number, or an array as nested lists, as texts that keep every bit."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return [as_text(x) for x in values] if isinstance(values, list) else float(values).hex()


# Trainings that a user drives


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


class Hopeless(Training):
    """Weights that move, and a loss that stays where it is."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return 1.0 + 1e-3 * torch.tanh(self.model(x)).mean() * (-1) ** self.done


class Lost(Hopeless):
    """The same; soon after the probe the weights become nan."""

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


def _sudden(interval: int, loss: Tensor) -> Any:
    """Losses that do everything but creep up, with some peace in between."""
    if interval in (13, 14):
        return math.inf
    if interval == 18:  # its last losses are finite
        return loss if loss > 0.5 else math.nan
    if interval in (23, 24):
        return None
    if interval == 28:
        return loss + 1.0
    return loss + 9.0 if 36 <= interval < 42 else loss


def _creeping(interval: int, loss: Tensor) -> Any:
    """From interval 20 on the loss rises slowly."""
    return float(loss) + 0.03 * max(interval - 20, 0)


def _climbing(decision: int, action: float) -> float:
    """From decision 28 on the policy wants to climb, so that guards have to hold it back."""
    return action if decision < 28 else max(action, 0.8)


def _raising(decision: int, action: float) -> float:
    """A policy that raises the level once, by much."""
    return 0.9 if decision == 20 else action


def _failing(decision: int, action: float) -> float:
    """A policy that does everything wrong, with some right answers in between."""
    if decision in (0, 12):
        raise RuntimeError("the policy file is gone")
    wrong = {5: math.nan, 6: math.inf, 17: 7.0, 18: -40.0}
    return wrong.get(decision, action)


def _beyond(decision: int, action: float) -> float:
    return 7.0 if decision % 10 == 3 else action


SGD = partial(torch.optim.SGD, momentum=0.9)
CASES = {
    "plain": Case("AdamW, a model with batch norm, all that PilotLR can be told", norm=True,
                  options={"steps_per_epoch": EXAMPLES / BATCH, "examples": EXAMPLES}),
    "loader": Case("the number of data from a DataLoader", torch.optim.Adam, 300, loop=Loaded),
    "watched": Case("the loss from a module that is watched", loop=Watched),
    "untold": Case("SGD, micro-batches, validation losses before training and now and then", SGD, parts=2,
                   validates=frozenset(range(0, 320, 37))),
    "blown": Case("SGD whose probe blows up early", SGD, height=30.0),
    "swelling": Case("a probe whose loss rises slowly; only the first quarter of the steps", torch.optim.Adam, 640,
                     loop=Swelling, until=160),
    "grouped": Case("two groups of parameters, and bounds", torch.optim.Adam, loop=Grouped,
                    options={"min_lr": 0.03, "max_lr": 0.08}),
    "meddled": Case("rates written by other code, and a group added", SGD, loop=Meddled),
    "scaled": Case("a GradScaler that skips steps", SGD, loop=Scaled),
    "unprobed": Case("short, without a probe, and some steps too many", torch.optim.Adam, 100, {"probe": False},
                     validates=frozenset({0, 40}), until=105),
    "short": Case("too short for a probe", SGD, 40),
    "silent": Case("no loss at first: the probe is left out", torch.optim.Adam, 160,
                   loss=lambda interval, loss: None if interval < 5 else loss),
    "sudden": Case("losses and gradients that are no numbers, jump, or are missing", torch.optim.Adam, 480,
                   loss=_sudden, gradient=lambda interval: math.nan if interval == 32 else None, answer=_climbing),
    "creeping": Case("a loss that rises slowly", SGD, 480, loss=_creeping),
    "failing": Case("a policy that fails, and answers nan and what is out of bounds", torch.optim.Adam,
                    answer=_failing),
    "unguarded": Case("a policy whose answers are out of bounds, without guards", torch.optim.Adam,
                      options={"guards": False}, answer=_beyond),
    "hopeless": Case("nothing is learned: back to the start", torch.optim.Adam, norm=True, loop=Hopeless),
    "lost": Case("weights that are nan before anything is learned: back to the start", SGD, norm=True, loop=Lost),
    "raised": Case("weights that are nan after a rise: back to before it", SGD, norm=True, loop=Raised,
                   answer=_raising),
    "extended": Case("longer, then shorter, while it runs", torch.optim.Adam, 240, extends={90: 400, 250: 320},
                     until=320),
}  # fmt: skip


def uninterrupted(name: str) -> Record:
    return CASES[name].loop(CASES[name]).train().record()


def interrupted(name: str, stop: int, between: bool = False) -> Record:
    """Saved and resumed after `stop` steps; `between`: before the scheduler was told of the last of them."""
    training = CASES[name].loop(CASES[name]).train(stop - between)
    loss = training.update() if between else None
    training = training.resumed()
    if loss is not None:
        training.complete(loss)
    return training.train().record()


# Populations that the pipeline trains


def _double(workload: Workload) -> Workload:
    """The same in float64."""
    splits = {name: getattr(workload, name) for name in ("train", "val", "test")}
    doubles: dict[str, Any] = {name: Data(split.x.double(), split.y) for name, split in splits.items()}
    return replace(workload, build=lambda: workload.build().double(), **doubles)


def _flat(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss that can hardly fall."""
    return 1.0 + 0.01 * torch.tanh(outputs[:, 0] * (y - 1)).mean()


SOME = np.array([True, False, True])  # of three runs
SIMULATIONS: dict[str, tuple[Callable[[], Workload], dict[str, Any]]] = {
    "simulated, adamw": (lambda: world("adamw", 240, 0.02), {"show_validation": SOME, "show_epochs": ~SOME}),
    "simulated, sgd": (lambda: world("sgd", 240), {"show_validation": False, "milestones": (60, 120, 240)}),
    "simulated, unprobed": (lambda: world("adam", 160), {"probed": False}),
    "simulated, hopeless": (lambda: replace(world("adam", 240), loss=_flat), {"show_epochs": False}),
}


def simulated(name: str) -> Record:
    """Three runs in lock-step under the shipped policy."""
    torch.set_num_threads(1)
    make, options = SIMULATIONS[name]
    policy, observed, answers = load_policy("default"), [], []

    def ask(observation: np.ndarray) -> np.ndarray:
        observed.append(digest(observation.flatten().tolist()))
        answers.append(policy(observation))
        return answers[-1]

    record = simulate(_double(make()), range(len(SOME)), policy.protocol, follow_policy(ask), test=True, **options)
    assert record.lr_curve is not None and record.test_loss is not None
    columns = zip(record.steps, record.rates, record.levels, strict=True)
    telemetry = [digest(np.concatenate([*fields.values()]).tolist()) for fields in record.telemetry]
    ends = [*record.val_loss, *record.val_error, record.test_loss, record.test_error, record.best_loss]
    return {
        "decisions": [
            {"step": steps.astype(int).tolist(), "lr": as_text(lr), "level": as_text(level)}
            for steps, lr, level in columns
        ],
        "action": as_text(np.array(answers)),
        "rates": as_text(record.lr_curve[::EVERY]),
        "bits": {
            "rates": digest(record.lr_curve.flatten().tolist()),
            "losses": digest(np.concatenate(ends).tolist()),
            "observations": observed,
            "telemetry": telemetry,
        },
    }


TRAININGS: dict[str, Callable[[], Record]] = {
    **{name: partial(uninterrupted, name) for name in CASES},
    **{name: partial(simulated, name) for name in SIMULATIONS},
}


# The file


def processor() -> str:
    """A fingerprint of this machine's arithmetic, from sums like those of the trainings, but without lrpilot."""
    torch.set_num_threads(1)
    grid = np.linspace(0.01, 9.0, 1001)
    outcomes = [*np.log10(grid), *np.exp(grid), *np.sin(grid), *(10.0**-grid)]
    outcomes += [(grid[:n] @ grid[-n:]) for n in range(40, 1000, 20)]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, FEATURES, dtype=torch.float64, generator=generator)
    for make in (torch.optim.AdamW, torch.optim.Adam, SGD):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
        optimizer = make(model.parameters(), lr=0.01)
        for _ in range(20):
            loss = nn.functional.cross_entropy(model(x), torch.arange(BATCH) % 3) + model(x[:8]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            outcomes += [loss.item(), *(p.norm().item() for p in model.parameters())]
    stack = torch.rand(3, 6, 12, dtype=torch.float64, generator=generator)
    outcomes += torch.bmm(stack.transpose(1, 2), stack).tanh().flatten().tolist()
    session: Any = onnxruntime.InferenceSession(_policy_file().read_bytes(), providers=["CPUExecutionProvider"])
    width = session.get_inputs()[0].shape[1]
    rows = np.sin(np.arange(20 * width, dtype=np.float32).reshape(20, width))
    answers = [session.run(None, {session.get_inputs()[0].name: rows[:count]})[0] for count in (1, 3, 20)]
    outcomes += np.concatenate(answers).flatten().tolist()
    versions = (f"{module.__name__} {module.__version__}" for module in (torch, np, onnxruntime))
    return ", ".join([*versions, digest(outcomes)])


def read() -> Record:
    return json.loads(FILE.read_text(encoding="utf-8"))


def write() -> None:
    golden = {
        "processor": processor(),
        "policy": policy_hash(),
        "trainings": {name: train() for name, train in TRAININGS.items()},
    }
    FILE.write_text(_lines(golden) + "\n", encoding="utf-8")


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for every decision."""
    if depth == 4 or not isinstance(value, dict | list):
        return json.dumps(value)
    rows = (
        [f"{json.dumps(k)}: {_lines(v, depth + 1)}" for k, v in value.items()]
        if isinstance(value, dict)
        else [_lines(v, depth + 1) for v in value]
    )
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    indent = "\n" + " " * depth
    return opening + ",".join(f"{indent} {row}" for row in rows) + indent + closing


def differences(golden: Any, now: Any, to_the_bit: bool, name: str = "", where: str = "") -> list[str]:
    """Where two records differ; hashes count only where every bit shall be the same."""
    if name == "bits" and not to_the_bit:
        return []
    if isinstance(golden, dict) and isinstance(now, dict) and golden.keys() == now.keys():
        pairs = [(k, f"{where}/{k}", golden[k], now[k]) for k in golden]
    elif isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        pairs = [(name, f"{where}/{i}", *both) for i, both in enumerate(zip(golden, now, strict=True))]
    else:
        same = golden == now or (not to_the_bit and _close(golden, now, name))
        return [] if same else [f"{where}: {_say(golden)} on file, now {_say(now)}"]
    return [line for k, at, a, b in pairs for line in differences(a, b, to_the_bit, k, at)]


def _number(value: Any) -> float | None:
    """What `as_text` wrote, None for anything else."""
    odd = ("nan", "inf", "-inf")
    return float.fromhex(value) if isinstance(value, str) and (value in odd or "0x" in value) else None


def _close(golden: Any, now: Any, name: str) -> bool:
    a, b = _number(golden), _number(now)
    if a is None or b is None:
        return False
    return math.isclose(a, b, rel_tol=CLOSE) if name in RATES else math.isclose(a, b, rel_tol=0.0, abs_tol=CLOSE)


def _say(value: Any) -> str:
    number = _number(value)
    if number is not None:
        return f"{number:.17g}"
    return f"{len(value)} entries" if isinstance(value, dict | list) else repr(value)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="golden_training", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the file anew")
    writes = parser.parse_args(argv).write
    logging.getLogger("lrpilot").setLevel(logging.CRITICAL)
    if writes:
        write()
        return 0
    golden = read()
    same = golden["processor"] == processor()
    print("bit for bit" if same else f"within {CLOSE:g}: this machine computes in another way than the file's")
    lines = [
        line
        for name, train in TRAININGS.items()
        for line in differences(golden["trainings"].get(name), train(), same, where=name)
    ]
    print("\n".join(lines or ["no difference"]))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
