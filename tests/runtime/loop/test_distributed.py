"""PilotLR on two ranks: DDP and FSDP2 over gloo, real processes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repository import MODULES, TOP

LIMIT = 150  # seconds for all scenarios of one worker script
N, PROBE = 80, 16
Ranks = dict[str, list[dict[str, Any]]]  # scenario -> what each rank saw


def launch(script: str, folder: Path) -> Ranks:
    """Run both ranks to the end; fails with their output where one errs or hangs."""
    here = TOP / "tests/trainings"
    paths = [MODULES, os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    logs = [folder / f"{rank}.log" for rank in (0, 1)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            command = [sys.executable, str(here / script), str(rank), str(folder)]
            with log.open("wb") as out:
                workers.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env))
        codes = [worker.wait(timeout=LIMIT) for worker in workers]
    except subprocess.TimeoutExpired:
        codes = ["hung"]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if any(codes):
        said = "\n".join(f"--- rank {rank}\n{log.read_text()[-4000:]}" for rank, log in enumerate(logs))
        pytest.fail(f"{script}: {codes}\n{said}", pytrace=False)
    zero, one = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    return {name: [zero[name], one[name]] for name in zero}


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return launch("ddp_worker.py", tmp_path_factory.mktemp("ddp"))


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    if not hasattr(importlib.import_module("torch.distributed.fsdp"), "fully_shard"):
        pytest.skip(f"torch {torch.__version__} has no fully_shard")
    return launch("fsdp_worker.py", tmp_path_factory.mktemp("fsdp"))


def of(decisions: list[dict[str, Any]], name: str, part: str = "telemetry") -> list[float]:
    return [d[part].get(name, np.nan) for d in decisions]


ALIKE = [
    "plain", "observed", "other policy", "other policy, unprobed", "fails on 0", "fails on 1", "losses on 0",
    "losses on 1", "no losses", "extended", "skips", "skips silently", "blows up", "killed 7 False", "killed 9 True",
    "killed 37 False", "killed 37 True", "killed 50 True", "left", "left by an exception",
    "left by an exception on one rank",
]  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_ranks_hold_the_same_rates_decisions_and_parameters(ddp: Ranks, name: str) -> None:
    zero, one = ddp[name]
    assert len(zero["rates"]) >= 40 and zero["rates"] == one["rates"]
    np.testing.assert_equal(zero["history"], one["history"])
    assert zero["parameters"] == one["parameters"] and zero["step"] == one["step"]


def test_every_scenario_is_looked_at(ddp: Ranks) -> None:
    assert sorted(ddp) == sorted(ALIKE)


def test_the_probe_is_rolled_back_on_every_rank(ddp: Ranks) -> None:
    for record in ddp["plain"]:
        assert record["unlike"] == ""
    assert 4 < ddp["plain"][0]["history"][0]["step"] <= PROBE


@pytest.mark.parametrize("name", [name for name in ALIKE if name.startswith("left")])
def test_a_probe_that_is_left_is_rolled_back_on_every_rank(ddp: Ranks, name: str) -> None:
    """No rank waits for the other meanwhile; rank 0 decides with the next step."""
    for record in ddp[name]:
        first = record["history"][0]
        assert record["unlike"] == "" and (first["step"], record["step"]) == (9, N)
        assert first["level"] <= 0 and first["observation"]["probed"] == 0


def test_rank_0_alone_logs(ddp: Ranks) -> None:
    zero, one = ddp["plain"]
    assert zero["logged"] == of([{"x": d} for d in zero["history"]], "step", "x") and one["logged"] == []


def test_rank_0s_observations_count(ddp: Ranks) -> None:
    record = ddp["observed"][1]
    vals, norms = of(record["history"], "val_loss"), of(record["history"], "grad_norm")
    assert {v for v in vals if not np.isnan(v)} == {1.0}
    assert record["probed"][5] == 7.0 and all(n != 7.0 for i, n in enumerate(record["probed"]) if i != 5)
    late = [(d["step"], n) for d, n in zip(record["history"], norms, strict=True) if d["step"] > 36]
    assert {n for step, n in late if step <= 60} == {7.0}
    assert not {n for step, n in late if step > 64} & {7.0, 8.0}  # rank 1's norms do not count


@pytest.mark.parametrize("name", ["other policy", "fails on 1"])
def test_another_ranks_policy_does_not_matter(ddp: Ranks, name: str) -> None:
    assert ddp[name][1]["rates"] == ddp["plain"][1]["rates"]


def test_rank_0s_policy_fails_for_all(ddp: Ranks) -> None:
    events = [d["event"] for d in ddp["fails on 0"][1]["history"]]
    assert events[0] == "policy_failed" and events.count("policy_failed") > 5


def test_rank_0s_losses_are_enough(ddp: Ranks) -> None:
    zero, one = ddp["losses on 0"]
    assert one["rates"] == ddp["plain"][1]["rates"]
    assert zero["warned"] == one["warned"] == []


@pytest.mark.parametrize("name", ["losses on 1", "no losses"])
def test_without_rank_0s_losses_all_leave_out_the_probe(ddp: Ranks, name: str) -> None:
    zero, one = ddp[name]
    assert any("the probe is left out" in message for message in zero["warned"]) and one["warned"] == []
    for record in ddp[name]:
        assert record["history"][0]["step"] == 0
        assert {d["event"] for d in record["history"][1:]} == {"loss_missing"}


@pytest.mark.parametrize("name", [name for name in ALIKE if name.startswith("killed")])
def test_rank_0s_checkpoint_resumes_bit_for_bit_on_all(ddp: Ranks, name: str) -> None:
    for record, whole in zip(ddp[name], ddp["plain"], strict=True):
        assert record["rates"] == whole["rates"] and record["parameters"] == whole["parameters"]
        np.testing.assert_equal(record["history"], whole["history"])


@pytest.mark.parametrize("name", ["skips", "skips silently"])
def test_what_overflows_on_one_rank_counts_on_none(ddp: Ranks, name: str) -> None:
    assert [record["step"] for record in ddp[name]] == [37, 37]
    assert ddp[name][0]["history"][0]["step"] == PROBE


def test_a_probe_that_one_rank_blows_up_ends_on_all(ddp: Ranks) -> None:
    for record in ddp["blows up"]:
        # The seventh loss, and those of seven other batches.
        assert record["history"][0]["step"] == 14 and record["step"] == 40


def test_longer_intervals_after_extend(ddp: Ranks) -> None:
    for record in ddp["extended"]:
        assert record["step"] == 300 and record["history"][-1]["step"] > N


def test_sharded_probe_is_rolled_back_on_every_rank(fsdp: Ranks) -> None:
    for name in ("sharded", "warm"):
        for record in fsdp[name]:
            assert record["unlike"] == "" and 4 < record["history"][0]["step"] <= PROBE


def test_shards_are_uneven_and_one_parameter_is_whole(fsdp: Ranks) -> None:
    sizes = np.array([record["sizes"] for record in fsdp["sharded"]])
    assert (sizes[0] != sizes[1]).any() and (sizes[1] == 0).any()  # more rows on one rank, none on the other
    assert (sizes[0][-1], sizes[1][-1]) == (1, 1)  # the offset, on both


def test_sharded_ranks_hold_the_same_rates_and_decisions(fsdp: Ranks) -> None:
    for name, (zero, one) in fsdp.items():
        assert zero["rates"] == one["rates"], name
        np.testing.assert_equal(zero["history"], one["history"])


def test_gradient_norms_are_those_of_the_whole(fsdp: Ranks) -> None:
    for record in fsdp["sharded"]:
        used, probed = record["norms"], record["history"][0]["step"]
        on_curve = np.isfinite(record["probed"][:probed])
        assert on_curve.sum() >= 12  # the last batches may have been a check
        np.testing.assert_allclose(
            np.array(record["probed"][:probed])[on_curve], np.array(used[:probed])[on_curve], rtol=1e-6
        )
        steps = [d["step"] for d in record["history"]]
        for d, begin, end in zip(record["history"][1:], steps, steps[1:], strict=False):
            want = np.mean(used[max(begin, PROBE, end - 4) : end])
            assert d["telemetry"]["grad_norm"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", ["sharded", "swapped"])
def test_telemetry_equals_that_of_the_unsharded_training(fsdp: Ranks, name: str) -> None:
    sharded, whole = fsdp[name][0], fsdp["whole"][0]
    np.testing.assert_allclose(sharded["rates"], whole["rates"], rtol=1e-4)
    for mine, theirs in zip(sharded["history"], whole["history"], strict=True):
        for key, value in theirs["telemetry"].items():
            assert mine["telemetry"][key] == pytest.approx(value, rel=2e-4, abs=2e-4, nan_ok=True), key


def test_the_sketch_of_a_large_net_has_the_coordinates_of_the_unsharded(fsdp: Ranks) -> None:
    for record in fsdp["large"]:
        assert record["same"] and record["count"] > record["coordinates"]


@pytest.mark.parametrize("name", ["killed in the probe", "killed in a window"])
def test_a_sharded_training_resumes_bit_for_bit(fsdp: Ranks, name: str) -> None:
    for record, whole in zip(fsdp[name], fsdp["sharded"], strict=True):
        assert record["in window"] == ("window" in name) and record["rates"] == whole["rates"]
        np.testing.assert_equal(record["history"], whole["history"])


def test_while_the_probe_runs_another_ranks_state_is_refused(fsdp: Ranks) -> None:
    refusals = [record["refused"] for record in fsdp["killed in the probe"]]
    assert refusals[0] == "" and "[0, 2], this is [1, 2]" in refusals[1] and "one file per rank" in refusals[1]
