"""One training of the benchmark: a task, what drives its learning rate, a seed.

All methods of a task share initialisations and batches (common random numbers): run `seed` starts from the same
weights and meets the same batches whatever drives its learning rate. Every step counts, those of a probe too.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrpilot import load_policy
from lrpilot.actions import ActionEquation
from lrpilot.features import NAMES, PROBE_NAMES
from lrpilot.pilot import Policy, Protocol
from pipeline import code_hash
from pipeline.evaluation import loops, rivals, shapes
from pipeline.evaluation.splits import Task
from pipeline.simulation.follow import Recording, follow
from pipeline.simulation.schedules import multipliers
from pipeline.simulation.simulate import Act, follow_policy, hold_level, simulate
from pipeline.workloads.base import Workload
from pipeline.workloads.families import family
from pipeline.workloads.population import Population

MILESTONES = 20  # evenly spaced points of a run at which its validation loss is noted
VAL_EXAMPLES = 256
CURVE_POINTS = 100  # of a learning-rate curve, evenly spaced in progress

# What decides a run's numbers, by what drives it.
FOLLOW = tuple(f"pipeline.{name}" for name in ("evaluation.shapes", "simulation.follow", "simulation.schedules"))
DRIVE = ("lrpilot.bundle", "pipeline.simulation.simulate")
LOOP = ("pipeline.evaluation.loops",)
PACKAGES = {
    "prodigy": "prodigyopt",
    "schedule_free": "schedulefree",
    "d_adaptation": "dadaptation",
    "greedy": "transformers",
}


@dataclass(frozen=True)
class Method:
    """What drives the learning rate; exactly one of the fields from `schedule` on says how."""

    kind: str  # "baseline", "grid", "oracle", "rival", "control", "policy"
    name: str
    lr0: float | None = None  # of a schedule: its highest rate
    schedule: str | None = None
    shape: shapes.Shape | None = None
    curve: tuple[float, ...] | None = None  # log10 of the rate over progress
    rule: str | None = None  # of RULES, inside the decision process
    policy: str | None = None  # path of a bundle
    validation: bool = False  # shows the validation loss to the policy, at the milestones
    epochs: bool = False  # tells the policy how long an epoch is
    unprobed: bool = False  # the policy begins without a probe
    loop: str | None = None  # of rivals.RIVALS, or module:factory; "pilot" follows `policy`

    def follows(self) -> bool:
        """Whether its rates are known beforehand."""
        return self.schedule is not None or self.shape is not None or self.curve is not None

    def alone(self) -> bool:
        """Whether each of its runs trains by itself: in a loop, under what may look at a model's tensors."""
        return self.loop is not None and self.loop not in rivals.RIVALS

    def together(self) -> tuple[Hashable, ...]:
        """Equal for methods whose runs of one task train in one population, unless they train alone."""
        if self.follows():
            return ()
        if self.loop is not None:
            return ("rivals",)
        return ("policies", _graph(self.policy)[1], self.unprobed) if self.policy is not None else (self,)

    def content(self) -> dict[str, Any]:
        """All that decides what it does, whatever it is called here."""
        how = {k: v for k, v in asdict(self).items() if k not in ("kind", "name") and v not in (None, False)}
        if self.policy is not None:
            how["policy"] = _graph(self.policy)
        own = [self.loop.partition(":")[0]] if self.loop and ":" in self.loop else []
        return how | {"own": [_source(module) for module in own]}

    def code(self) -> tuple[str, ...]:
        """The modules that decide its numbers, but for that of the family."""
        modules = FOLLOW
        if self.loop is not None:
            modules += LOOP
        if self.policy is not None or self.rule is not None:
            modules += DRIVE
        return modules

    def packages(self) -> tuple[str, ...]:
        """The packages, by the names that they are installed under, that its rival comes from."""
        return tuple(package for rival, package in PACKAGES.items() if (self.loop or "").startswith(rival))


@dataclass(frozen=True)
class Run:
    """One training."""

    task: Task
    method: Method
    seed: int
    device: str = "cpu"

    def key(self) -> str:
        """Stands for everything that decides what comes of it."""
        content = {"method": self.method.content(), "seed": self.seed, "device": self.device}
        return _key(content, self.task, self.method.code(), self.method.packages())


def _key(content: dict[str, Any], task: Task, modules: tuple[str, ...], packages: tuple[str, ...] = ()) -> str:
    code = code_hash.digest(*modules, family(task.family).module, packages=packages)
    content = content | {"task": asdict(task), "code": code, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _graph(path: str) -> list[str]:
    manifest = load_policy(path).manifest
    return [manifest.graph, repr(manifest.protocol)]


@cache
def _source(module: str) -> str:
    """Hash of somebody's own scheduler."""
    file = importlib.import_module(module).__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else module


def execute(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Train runs of one task, equal in `Method.together`; a row for each."""
    workload, method = runs[0].task.sample(), runs[0].method
    begin = time.perf_counter()
    if method.follows():
        record = _follow(runs, workload)
    elif method.loop is not None:
        record = _loop(runs, workload)
    else:
        record = _drive(runs, workload)
    return _rows(workload, record, len(runs), (time.perf_counter() - begin) / len(runs))


def milestones(n: int) -> list[int]:
    """Completed steps at which the validation loss is noted; the end is one of them."""
    return np.unique(np.linspace(0, n, MILESTONES + 1).round().astype(int)[1:]).tolist()


def rates(method: Method, n: int) -> np.ndarray:
    """(n,) learning rates of a method that follows known ones."""
    if method.curve is not None:
        return 10 ** np.interp((np.arange(n) + 0.5) / n, np.linspace(0, 1, len(method.curve)), method.curve)
    if method.shape is not None:
        return shapes.rates(method.shape, n)
    assert method.schedule is not None and method.lr0 is not None
    return method.lr0 * multipliers(method.schedule, n)


def _follow(runs: Sequence[Run], workload: Workload) -> Recording:
    n = workload.n_steps
    table = np.stack([rates(run.method, n) for run in runs], axis=1)
    seeds = [run.seed for run in runs]
    return follow(
        workload, seeds, table, val_examples=VAL_EXAMPLES, milestones=milestones(n), device=runs[0].device
    )  # fmt: skip


def _loop(runs: Sequence[Run], workload: Workload) -> Recording:
    torch.set_num_threads(1)
    recipes = [rivals.recipe(run.method.loop, run.method.policy) for run in runs if run.method.loop]
    return loops.train(workload, [run.seed for run in runs], recipes, VAL_EXAMPLES, milestones(workload.n_steps))


def _drive(runs: Sequence[Run], workload: Workload) -> Recording:
    methods = [run.method for run in runs]
    if methods[0].policy is None:
        assert methods[0].rule is not None
        protocol, act = Protocol(), RULES[methods[0].rule]()
    else:
        bundles = {path: load_policy(path) for path in dict.fromkeys(m.policy for m in methods if m.policy)}
        protocol = bundles[methods[0].policy].protocol
        act = follow_policy(side_by_side([bundles[m.policy] for m in methods if m.policy]))
    return simulate(
        workload, [run.seed for run in runs], protocol, act, probed=not methods[0].unprobed,
        val_examples=VAL_EXAMPLES, show_validation=np.array([m.validation for m in methods]),
        show_epochs=np.array([m.epochs for m in methods]), milestones=milestones(workload.n_steps), test=True,
        device=runs[0].device,
    )  # fmt: skip


def side_by_side(policies: Sequence[Policy]) -> Policy:
    """One policy for a population in which each of `policies` drives one run."""
    rows: dict[int, list[int]] = {}
    for i, policy in enumerate(policies):
        rows.setdefault(id(policy), []).append(i)

    def policy(seen: np.ndarray) -> np.ndarray:
        out = np.empty(len(seen))
        for mine in rows.values():
            out[mine] = np.ravel(policies[mine[0]](seen[mine]))
        return out

    return policy


def _find(rule: Callable[[np.ndarray], np.ndarray]) -> Act:
    """The level that a finder's rule names, then linear decay."""
    return hold_level(lambda pilot: pilot.anchor + rule(pilot.observer.probe))


def random_network(seed: int, hidden: Sequence[int] = (128, 128)) -> Callable[[np.ndarray], np.ndarray]:
    """A policy network that was never trained (He-normal weights, tanh output)."""
    rng = np.random.default_rng(seed)
    sizes = (len(NAMES), *hidden, 1)
    weights = [rng.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in itertools.pairwise(sizes)]

    def policy(x: np.ndarray) -> np.ndarray:
        for w in weights[:-1]:
            x = np.maximum(x @ w, 0)
        return np.tanh(x @ weights[-1])[:, 0]

    return policy


# Rules of the LR finder, which name a level from a range test: (n, len(PROBE_NAMES)) -> (n,) decades over the anchor.
FINDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "finder_steepest": lambda probe: ActionEquation().below_blowup + probe[:, PROBE_NAMES.index("probe_steepest")],
    "finder_tenth": lambda probe: np.full(len(probe), ActionEquation().below_blowup - 1.0),  # a tenth of the blow-up
}

RULES: dict[str, Callable[[], Act]] = {
    **{name: partial(_find, rule) for name, rule in FINDERS.items()},
    "random_init": lambda: follow_policy(random_network(0)),
}


def _rows(workload: Workload, record: Recording, runs: int, seconds: float) -> list[dict[str, Any]]:
    where = np.clip((np.linspace(0, 1, CURVE_POINTS) * workload.n_steps).astype(int), 0, workload.n_steps - 1)
    assert record.curve is not None and record.lr_curve is not None
    columns = {
        "val_loss": record.val_loss[-1], "val_error": record.val_error[-1], "test_loss": record.test_loss,
        "test_error": record.test_error, "best_loss": record.best_loss, "best_error": record.best_error,
    }  # fmt: skip
    probe = 0 if record.probe is None else record.probe[0].shape[1]
    return [
        {name: float(values[i]) for name, values in columns.items()}
        | {"val_curve": record.curve[:, i].tolist(), "lr_curve": record.lr_curve[where, i].tolist()}
        | {"probe_steps": probe, "seconds": seconds}
        for i in range(runs)
    ]


def untrained(task: Task, seeds: int, device: str) -> str:
    """Stands for everything that decides what `about` says."""
    return _key({"seeds": seeds, "device": device}, task, FOLLOW)


def about(task: Task, seeds: Sequence[int], device: str) -> dict[str, Any]:
    """What is known of a task before anything is trained: its settings, and its scores without training.

    These are the mean at initialisation, or those of the best constant prediction where they are lower.
    """
    workload = task.sample()
    loss, error = Population(workload, seeds, device).score(workload.test)
    y = workload.test.y
    constant = np.nan if workload.error is None else 1 - float(y.flatten().bincount().max()) / y.numel()
    return {
        "split": task.split, "family": task.family, "task": task.name, "workload": workload.name,
        "optimizer": workload.optimizer, "n_steps": workload.n_steps, "steps_per_epoch": workload.steps_per_epoch,
        "milestones": milestones(workload.n_steps),
        "initial_loss": float(min(np.mean(loss), workload.baseline_loss)),
        "initial_error": float(min(np.mean(error), constant)),
    }  # fmt: skip
