"""Time of a whole training, from the construction of its scheduler to its last step, including probe and decisions.

Two trainings with the same weights and batches, under PilotLR and under CosineAnnealingLR, take turns of a few steps in
one process. So other load on the machine affects both.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.overhead.step_cases import Case, cases
from benchmarks.overhead.steps import LOOPS, Loop, build, clock
from benchmarks.timing import estimate
from lrpilot import Bundle

PAIR = LOOPS[:2]  # pilot, cosine


@dataclass(frozen=True)
class Length:
    """A training of a case, and how it is measured."""

    name: str
    case: str
    steps: int
    turn: int  # steps that one of the pair makes before the other one's turn
    rounds: int  # pairs of trainings


LENGTHS = (
    Length("mlp_2000", "mlp", 2_000, 100, 9),
    Length("mlp_10000", "mlp", 10_000, 250, 5),
    Length("resnet18_200", "resnet18", 200, 1, 1),
)


def whole_trainings(quick: bool, policy: Bundle) -> dict[str, float]:
    """<training>.whole_over_cosine: ratio of the times of whole trainings, with its interval if there are rounds."""
    known, results = {case.name: case for case in cases(quick)}, dict[str, float]()
    for length in LENGTHS:
        steps = 100 if quick else length.steps
        case = replace(known[length.case], total_steps=steps, probe=True)
        if not results:  # the first training of a process loads what later ones have at hand
            _ratio(replace(case, total_steps=100), length.turn, policy, 0)
        rounds = 1 if quick else length.rounds
        ratios = np.array([_ratio(case, length.turn, policy, r) for r in range(rounds)])
        key = "whole_over_cosine"
        figures = estimate(key, ratios) if rounds > 1 else {key: float(ratios[0])}
        results |= {f"{length.name}.{key}": value for key, value in figures.items()}
    return results


def _ratio(case: Case, turn: int, policy: Bundle, seed: int) -> float:
    """Time of the training under PilotLR divided by that under CosineAnnealingLR."""
    rng, times = np.random.default_rng(seed), dict.fromkeys(PAIR, 0)
    loops: dict[str, Loop] = {}
    gc.collect()
    for kind in PAIR:

        def make(_: int, kind: str = kind) -> None:
            loops[kind] = build(case, kind, policy)

        times[kind] += clock(make, [0])
    for block in np.array_split(np.arange(case.total_steps), max(case.total_steps // turn, 1)):
        for k in rng.permutation(len(PAIR)):
            times[PAIR[k]] += clock(loops[PAIR[k]].step, block.tolist())
    return times["pilot"] / times["cosine"]


START = """
import time, torch
from lrpilot import load_policy
from lrpilot.torch import PilotLR
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.Adam(model.parameters())
loss = model(torch.zeros(1, 64)).sum()
loss.backward()
optimizer.step()
begin = time.perf_counter()
policy = load_policy()
loaded = time.perf_counter()
scheduler = PilotLR(optimizer, 2000, policy, model=model)
optimizer.step()
scheduler.step(loss)
print(loaded - begin, time.perf_counter() - loaded)
"""


def start_up(repeats: int) -> dict[str, float]:
    """session_ms: to load the policy; start_ms: to construct a PilotLR with it, and the first step of a tiny net.

    Medians over fresh processes that had only imported the packages.
    """
    command = [sys.executable, "-c", START]
    outputs = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(repeats))
    session, start = 1e3 * np.median([[float(x) for x in output.split()] for output in outputs], axis=0)
    return {"session_ms": float(session), "start_ms": float(start)}
