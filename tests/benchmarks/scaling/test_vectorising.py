"""The benchmark of the collection runs and writes what it documents. Nothing here is about how fast anything is."""

import math
import subprocess
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.scaling import training_loops, vectorising
from pipeline.workloads.training.population import Population
from quick import quick
from tiny import world

RATIOS = ("over_plain", "over_plain_16", "over_gym", "recorded_over_plain", "telemetry_share", "validation_share")
LOOPS = ("bare", "telemetered", "telemetered_16", "recorded", "plain", "gym")
PER_KIND = {
    *RATIOS, *(f"{ratio}_{end}" for ratio in RATIOS for end in ("low", "high")), *(f"{loop}_per_s" for loop in LOOPS),
    "workload", "family", "optimizer", "parameters", "batch_size", "n_steps", "rounds",
}  # fmt: skip
COMMON = {"quick", "load_average", "torch", "numpy", "onnxruntime", "python", "processor", "threads"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    return quick("benchmarks.scaling.vectorising", tmp_path_factory.mktemp("collection"))


def test_it_writes_the_documented_figures(ran: tuple[Any, dict[str, Any]]) -> None:
    _, results = ran
    gpu = ("gpu_per_s", "gpu_over_core") if torch.cuda.is_available() else ()
    assert set(results) == COMMON | {
        *(f"{kind}.{key}" for kind in vectorising.KINDS for key in PER_KIND),
        *(f"{kind}.{key}" for kind in vectorising.GPU_AT_LEAST for key in gpu),
    }
    assert all(isinstance(v, str) or math.isfinite(v) for v in results.values())
    documented = vectorising.__doc__ or ""
    assert all(key in documented for key in COMMON | PER_KIND if not key.endswith(("_low", "_high")))


def test_the_check_fails_where_a_bar_is_missed(ran: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, results = ran
    misses = vectorising.missed(results)
    assert done.returncode == bool(misses)
    assert all(line in done.stderr for line in misses)


@pytest.mark.parametrize("key", vectorising.BARS | vectorising.OF_WORKERS)
def test_a_bar_is_the_last_value_that_holds(key: str) -> None:
    reached = vectorising.BARS | vectorising.OF_WORKERS | {"workers_meaningful": 1}
    assert vectorising.missed(reached) == []
    worse = reached[key] * (1.01 if key.endswith("_share") else 0.99)
    (line,) = vectorising.missed(reached | {key: worse})
    assert line.startswith(f"{key}: ")


@pytest.mark.parametrize("kind", vectorising.GPU_AT_LEAST)
def test_a_gpu_has_its_bar_where_there_is_one(kind: str) -> None:
    key = f"{kind}.gpu_over_core"
    assert vectorising.missed(vectorising.BARS | {key: 50.0}) == []
    (line,) = vectorising.missed(vectorising.BARS | {key: 49.0})
    assert line == f"{key}: 49, want at least 50"


def test_members_on_a_device_are_counted() -> None:
    assert 0 < vectorising.on_device(world("adam", 8), 2, "cpu") < 1e6  # of 16 member-steps; a second has no more


def test_workers_that_were_not_measured_miss_no_bar() -> None:
    assert vectorising.missed(vectorising.BARS | {"workers_meaningful": 0}) == []


def test_the_table_has_a_row_for_every_kind(ran: tuple[Any, dict[str, Any]]) -> None:
    _, results = ran
    fixed = results | {"gru.over_plain": 6.731, "gru.telemetry_share": -0.02}
    head, _, *rows = [line for line in vectorising.render(fixed).splitlines() if line.startswith("|")]
    assert [row.split("`")[1] for row in rows] == [results[f"{kind}.workload"] for kind in vectorising.KINDS]
    gru = rows[list(vectorising.KINDS).index("gru")]
    assert " 6.73 |" in gru and " \N{MINUS SIGN}2 % |" in gru
    assert {row.count("|") for row in rows} == {head.count("|")}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_loops_train_the_same(optimizer: str) -> None:
    """Population, plain loop and environment see the same losses at the same rates."""
    workload = world(optimizer, 30, 0.05 if optimizer == "adamw" else 0.0)
    rates = np.geomspace(1e-3, 1e-2, 30)
    population = Population(workload, [3])
    losses = torch.cat([population.train_step(i, rates[i : i + 1]) for i in range(30)]).numpy()
    np.testing.assert_allclose(training_loops.plain(workload, 3, rates), losses, rtol=1e-4)

    env = training_loops.StepEnv(workload, 3)
    assert env.reset().shape == (6,)
    steps = [env.step(lr) for lr in rates.tolist()]
    np.testing.assert_allclose([observation[2] for observation, *_ in steps], losses, rtol=1e-4)
    assert [terminated for *_, terminated, _, _ in steps] == [False] * 29 + [True]
    assert all(reward == pytest.approx(-observation[-1]) for observation, reward, *_ in steps)
