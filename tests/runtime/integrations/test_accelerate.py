"""PilotLR in Accelerate's loops: prepared or not, accumulation, bf16, skipped steps, save_state, two processes."""

import itertools
import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

import accelerated
from accelerated import BATCH, Loop, N
from bundles import write_bundle
from lrpilot.decisions.features import NAMES
from lrpilot.integrations.accelerate import end_probe_on_save
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from repository import TOP


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that reacts to whatever it sees."""
    weights = {name: 0.1 * (-1) ** at for at, name in enumerate(NAMES)}
    return Bundle(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx", weights=weights))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Accelerate keeps its settings in singletons."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def plain(policy: Bundle, micro: int) -> tuple[list[float], PilotLR]:
    """The same training without Accelerate; `micro` batches per optimizer step."""
    loop = Loop(Accelerator(cpu=True, gradient_accumulation_steps=micro), policy)  # for its initial state
    data = loop.loader.dataset.tensors
    rates = []
    for begin in range(0, N * BATCH, BATCH):
        x, y = (part[begin : begin + BATCH] for part in data)
        loss = torch.nn.functional.mse_loss(loop.model(x), y)
        (loss / micro).backward()
        if begin // BATCH % micro == micro - 1:
            rates.append(loop.optimizer.optimizer.param_groups[0]["lr"])
            loop.optimizer.optimizer.step()
            loop.optimizer.optimizer.zero_grad()
        loop.pilot.step(loss)
    return rates, loop.pilot


@pytest.mark.parametrize(("micro", "prepared"), [(1, True), (1, False), (2, False)])
def test_it_is_the_same_training(policy: Bundle, micro: int, prepared: bool) -> None:
    """Bit for bit that of a plain loop, prepared or not."""
    want, reference = plain(policy, micro)
    loop = Loop(Accelerator(cpu=True, gradient_accumulation_steps=micro), policy, prepared).train()
    assert loop.rates == want and len(set(want)) == N // micro
    assert loop.pilot.history == reference.history


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_prepared_one_counts_optimizer_steps(policy: Bundle, precision: str, micro: int) -> None:
    """Of accumulated micro-batches Accelerate passes on the last one's loss."""
    loop = Loop(Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=micro), policy).train()
    assert loop.pilot.last_epoch == len(loop.rates) == loop.steps == N // micro
    losses = loop.losses[micro - 1 :: micro]
    ends = [decision.step for decision in loop.pilot.history][1:]
    for begin, end in itertools.pairwise(ends):
        mean = next(d for d in loop.pilot.history if d.step == end).telemetry["loss_mean"]
        assert mean == pytest.approx(sum(losses[begin:end]) / (end - begin))


@pytest.mark.parametrize("prepared", [True, False])
def test_resumed_is_as_if_never_stopped(tmp_path: Path, policy: Bundle, prepared: bool) -> None:
    """From the middle of the probe, of an interval, and near the end."""
    folders = {step: str(tmp_path / str(step)) for step in (7, 70, 143)}
    whole = Loop(Accelerator(cpu=True), policy, prepared).train(save=folders)
    for step, folder in folders.items():
        resumed = Loop(Accelerator(cpu=True), policy, prepared)
        resumed.accelerator.load_state(folder)
        assert resumed.train(step).rates == whole.rates[step:]
        assert resumed.pilot.history == whole.pilot.history


@pytest.mark.parametrize("prepared", [True, False])
def test_a_state_that_is_saved_in_the_probe_can_be_a_sound_one(tmp_path: Path, policy: Bundle, prepared: bool) -> None:
    whole = Loop(Accelerator(cpu=True), policy, prepared)
    begun = [p.detach().clone() for p in whole.model.parameters()]
    with pytest.raises(TypeError, match="scheduler: AcceleratedScheduler, want the PilotLR"):
        end_probe_on_save(whole.accelerator, Accelerator(cpu=True).prepare(whole.pilot))
    end_probe_on_save(whole.accelerator, whole.pilot)
    whole.train(save={7: str(tmp_path)})
    assert whole.pilot.history[0].step == 7
    resumed = Loop(Accelerator(cpu=True), policy, prepared)
    resumed.accelerator.load_state(str(tmp_path))
    assert not resumed.pilot.probing
    assert all(torch.equal(p, q) for p, q in zip(resumed.model.parameters(), begun, strict=True))
    assert resumed.train(7).rates == whole.rates[7:]
    assert resumed.pilot.history == whole.pilot.history


def test_skipped_steps_of_a_nan_loss_end_the_probe(policy: Bundle) -> None:
    """Not prepared, because Accelerate tells a prepared scheduler nothing of a step that its GradScaler skips."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")  # what fp16 brings on an accelerator
    loop = Loop(accelerator, policy, prepared=False)
    start = [p.detach().clone() for p in loop.model.parameters()]
    end = False
    for x, y in loop.loader:
        moved = max((p - q).abs().max().item() for p, q in zip(loop.model.parameters(), start, strict=True))
        loss = torch.nn.functional.mse_loss(loop.model(x), y) * (math.nan if moved > 0.01 else 1.0)
        accelerator.backward(loss)
        loop.optimizer.step()
        loop.scheduler.step(loss)
        loop.optimizer.zero_grad()
        end = bool(loop.pilot.history)
        if end:
            break
    assert end
    assert math.isnan(loop.pilot.pilot.probes.loss[0, loop.pilot.pilot.probes.steps[0] - 1])
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), start, strict=True))


def test_two_processes(tmp_path: Path, policy: Bundle) -> None:
    """Equal rates and weights on both, one count per optimizer step, and rank 0's losses; resumed as well."""
    script = [sys.executable, accelerated.__file__, str(tmp_path), str(policy.path)]
    known = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run(script, env=os.environ | known, check=True, timeout=120, capture_output=True)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    steps = N // 2
    assert first["scheduler"] == "AcceleratedScheduler"  # which steps twice here
    assert first["rates"] == second["rates"] and len(set(first["rates"])) == steps == first["steps"]
    assert first["resumed"] == second["resumed"] == first["rates"][9:]
    assert first["numbers"] == second["numbers"] == first["rates"]
    assert first["weights"] == second["weights"]
    assert not set(first["losses"]) & set(second["losses"])
    ends = [16, *map(int, first["means"])]
    for begin, end in itertools.pairwise(ends):
        assert first["means"][str(end)] == pytest.approx(sum(first["losses"][begin:end]) / (end - begin))


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    runpy.run_path(str(TOP / "examples" / "accelerate_loop.py"), run_name="__main__")
    said: Any = capsys.readouterr().out.split()
    assert said[said.index("resumed") + 1] == said[said.index("rate") + 1].rstrip(",")
    assert float(said[-1]) > 0.9
