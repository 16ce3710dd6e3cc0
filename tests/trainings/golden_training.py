"""Small trainings under the shipped policy whose decisions are on file, so that a change of the code shows in them.

    golden_training.json    {"processor": where it was written, "policy": sha256 of policy.onnx, "trainings": {...}}

A training is on file as its decisions and some of its learning rates, numbers as `float.hex` writes them, and as
"bits": hashes of everything, which only the same arithmetic gives again. On another kind of processor numbers are
compared within `CLOSE`. To compare two versions of the code bit for bit there, write the file with the older one first:

    PYTHONPATH=.:tests/trainings python -m golden_training            say what differs from the file
    PYTHONPATH=.:tests/trainings python -m golden_training --write    write it anew
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.resources
import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

import golden_loops as loops
from golden_loops import Case
from golden_records import CLOSE, Record, as_text, differences, digest, lines
from lrpilot import load_policy
from pipeline.simulation.simulate import follow_policy, simulate
from pipeline.workloads.base import Data, Workload
from tiny import world

FILE = Path(__file__).with_name("golden_training.json")

# Trainings that a user drives


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
                  options={"steps_per_epoch": loops.EXAMPLES / loops.BATCH, "examples": loops.EXAMPLES}),
    "loader": Case("the number of data from a DataLoader", torch.optim.Adam, 300, loop=loops.Loaded),
    "watched": Case("the loss from a module that is watched", loop=loops.Watched),
    "untold": Case("SGD, micro-batches, validation losses before training and now and then", SGD, parts=2,
                   validates=frozenset(range(0, 320, 37))),
    "blown": Case("SGD whose probe blows up early", SGD, height=30.0),
    "swelling": Case("a probe whose loss rises slowly; only the first quarter of the steps", torch.optim.Adam, 640,
                     loop=loops.Swelling, until=160),
    "grouped": Case("two groups of parameters, and bounds", torch.optim.Adam, loop=loops.Grouped,
                    options={"min_lr": 0.03, "max_lr": 0.08}),
    "meddled": Case("rates written by other code, and a group added", SGD, loop=loops.Meddled),
    "scaled": Case("a GradScaler that skips steps", SGD, loop=loops.Scaled),
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
    "hopeless": Case("nothing is learned: back to the start", torch.optim.Adam, norm=True, loop=loops.Hopeless),
    "lost": Case("weights that are nan before anything is learned: back to the start", SGD, norm=True, loop=loops.Lost),
    "raised": Case("weights that are nan after a rise: back to before it", SGD, norm=True, loop=loops.Raised,
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
        "rates": as_text(record.lr_curve[:: loops.EVERY]),
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


def policy_hash() -> str:
    """sha256 of the policy that lrpilot ships."""
    return hashlib.sha256(_policy_file().read_bytes()).hexdigest()


def _policy_file() -> Any:
    return importlib.resources.files("lrpilot") / "models/default/policy.onnx"


def processor() -> str:
    """A fingerprint of this machine's arithmetic, from sums like those of the trainings, but without lrpilot."""
    torch.set_num_threads(1)
    grid = np.linspace(0.01, 9.0, 1001)
    outcomes = [*np.log10(grid), *np.exp(grid), *np.sin(grid), *(10.0**-grid)]
    outcomes += [(grid[:n] @ grid[-n:]) for n in range(40, 1000, 20)]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(loops.BATCH, loops.FEATURES, dtype=torch.float64, generator=generator)
    for make in (torch.optim.AdamW, torch.optim.Adam, SGD):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(loops.FEATURES, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
        optimizer = make(model.parameters(), lr=0.01)
        for _ in range(20):
            loss = nn.functional.cross_entropy(model(x), torch.arange(loops.BATCH) % 3) + model(x[:8]).square().mean()
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
    FILE.write_text(lines(golden) + "\n", encoding="utf-8")


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
    differ = [
        line
        for name, train in TRAININGS.items()
        for line in differences(golden["trainings"].get(name), train(), same, where=name)
    ]
    print("\n".join(differ or ["no difference"]))
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
