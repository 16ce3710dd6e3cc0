"""The benchmark of the overhead runs and writes what it documents. Nothing here is about how fast anything is."""

import math
import subprocess
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import timing
from benchmarks.overhead import footprint, measure, steps
from benchmarks.overhead.step_cases import Case, cases
from lrpilot import load_policy
from quick import quick

RATIOS = ("over_cosine", "over_none", "cosine_over_none")
PER_TRAINING = {
    *RATIOS, *(f"{ratio}_{end}" for ratio in RATIOS for end in ("low", "high")),
    "step_us", "added_us", "overhead_us", "plain_step_us", "cosine_us", "closing_us", "closing_in_place_us",
    "probe_step_us", "probe_copy_ms", "probe_end_ms", "overhead_share", "rounds", "round_steps", "total_steps",
    "parameters",
}  # fmt: skip
COMMON = {
    "quick", "torch", "numpy", "onnxruntime", "python", "processor", "threads", "import_ms", "decision_us", "policy_us",
    "session_ms", "start_ms", *(f"{name}.whole_over_cosine" for name in ("mlp_2000", "mlp_10000", "resnet18_200")),
    "memory_bytes", "memory_steps", "memory_pilot_bytes", "memory_sketch_bytes",
    *(f"memory_at_{share}_percent_bytes" for share in (1, 10, 100)),
}  # fmt: skip
TRAININGS = ("mlp", "transformer", "resnet18")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    return quick("benchmarks.overhead.measure", tmp_path_factory.mktemp("overhead"))


def test_it_writes_the_documented_figures(ran: tuple[Any, dict[str, Any]]) -> None:
    _, results = ran
    assert set(results) == COMMON | {f"{name}.{key}" for name in TRAININGS for key in PER_TRAINING}
    assert all(isinstance(v, str) or math.isfinite(v) for v in results.values())
    documented = measure.__doc__ or ""
    assert all(key in documented for key in PER_TRAINING if not key.endswith(("_low", "_high")))


def test_the_check_fails_where_a_bar_is_missed(ran: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, results = ran
    misses = measure.missed(results)
    assert done.returncode == bool(misses)
    assert all(line in done.stderr for line in misses)


@pytest.mark.parametrize("key", measure.BARS)
def test_a_bar_is_the_most_that_is_allowed(key: str) -> None:
    assert measure.missed(measure.BARS) == []
    (line,) = measure.missed(measure.BARS | {key: measure.BARS[key] * 1.01})
    assert line.startswith(f"{key}: ")


def test_the_state_stays_as_small_in_a_longer_training(ran: tuple[Any, dict[str, Any]]) -> None:
    _, results = ran
    longer = footprint.memory(load_policy(), 50 * results["memory_steps"])
    assert longer["memory_pilot_bytes"] <= 1.1 * results["memory_pilot_bytes"]
    assert longer["memory_bytes"] <= measure.BARS["memory_bytes"]


def test_the_table_has_a_row_for_every_training(ran: tuple[Any, dict[str, Any]]) -> None:
    _, results = ran
    fixed = results | {f"{name}.over_cosine": 0.991 for name in TRAININGS} | {"mlp.step_us": 231.4}
    head, _, *rows = [line for line in measure.render(fixed).splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0].strip("| ")[:3] for row in rows] == ["MLP", "tra", "Res"]
    assert rows[0].split(" | ")[1:3] == ["231 µs", "\N{MINUS SIGN}0.9 %"]
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_an_estimate_is_the_median_in_its_interval() -> None:
    got = timing.estimate("x", np.array([1.0, 1.01, 1.02, 1.03, 9.0]))
    assert got["x"] == 1.02
    assert 1.0 <= got["x_low"] <= 1.02 <= got["x_high"] <= 9.0


def test_sizes_count_what_is_shared_once() -> None:
    array, tensor = np.zeros(1000), torch.zeros(1000)
    assert 12_000 <= footprint.held({"a": array, "b": [array[2:], array], "c": [tensor, tensor[1:]]}) <= 13_000


@pytest.mark.parametrize("case", cases(quick=True)[:2], ids=lambda case: case.name)
def test_the_loops_of_a_case_start_alike(case: Case) -> None:
    """Same weights and batches: the gradients of the first step are equal."""
    torch.set_num_threads(1)
    loops = [steps.build(case, kind, load_policy()) for kind in steps.LOOPS]
    for loop in loops:
        loop.step(0)
    gradients = [[p.grad for p in loop.model.parameters()] for loop in loops]
    assert all(torch.equal(a, b) for other in gradients[1:] for a, b in zip(gradients[0], other, strict=True))
    assert [type(loop.scheduler).__name__ for loop in loops] == ["PilotLR", "CosineAnnealingLR", "NoneType"]
