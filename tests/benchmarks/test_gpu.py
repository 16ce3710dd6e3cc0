"""The benchmark on a GPU, at a toy size on the CPU. Nothing here is about how fast anything is."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import large_tasks, measure, pairs
from benchmarks.gpu.trainings import FULL, SCHEDULE, TOY, TRAININGS
from pipeline.reporting import markdown
from pipeline.workloads.datasets import text
from repository import TOP

Figures = tuple[dict[str, Any], dict[str, Any]]
PER_TRAINING = {
    "pilot_losses", "textbook_losses", "pilot_rates", "textbook_rate", "events", "alarms", "step_ms", "added_us",
    "over_textbook", "over_textbook_low", "over_textbook_high", "whole_over_textbook", "parameters", "n_steps",
    "batch_size", "optimizer",
}  # fmt: skip
COMMON = {"quick", "seeds", "device", "torch", "numpy", "onnxruntime", "python", "processor", "threads"}
PLAIN = {
    "pilot_losses": [0.5, 1.0], "textbook_losses": [0.25, 0.25], "pilot_rates": [1e-3, 1e-1], "textbook_rate": 1e-3,
    "events": "unearned 3", "alarms": 0, "step_ms": 12.34, "added_us": -6.0, "over_textbook": 0.999,
    "over_textbook_low": 0.99, "over_textbook_high": 1.01, "whole_over_textbook": 1.02, "parameters": 85_190_000,
    "n_steps": 600, "batch_size": 32, "optimizer": "AdamW",
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """The figures of the whole command: of the trainings, and of the large tasks."""
    out = tmp_path_factory.mktemp("gpu") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        before = measure.PAGE.read_bytes()
        assert measure.main(["--quick", "--out", str(out)]) == 0
        assert measure.PAGE.read_bytes() == before
    first, second = (json.loads((out / name).read_text()) for name in (measure.TRAINED, measure.LARGE))
    return first, second


def test_it_writes_the_documented_figures(ran: Figures) -> None:
    results, of_large = ran
    assert set(results) == COMMON | {f"{name}.{key}" for name in TRAININGS for key in PER_TRAINING}
    numbers = [x for v in results.values() for x in (v if isinstance(v, list) else [v]) if not isinstance(x, str)]
    assert all(map(math.isfinite, numbers))
    assert all(key in (measure.__doc__ or "") for key in PER_TRAINING if not key.endswith(("_low", "_high")))
    assert {"device", "policy", "benchmark", "selection.policy.mean", "selection.control.hold.mean"} <= set(of_large)


def test_the_tables_have_a_row_for_each(ran: Figures) -> None:
    results, of_large = ran
    rows = [line.split(" | ")[0].strip("| ") for line in measure.render(results).splitlines() if line.startswith("|")]
    assert [row for row in rows if row in TRAININGS] == [*TRAININGS, *TRAININGS]
    table = large_tasks.render(of_large)
    page = (TOP / measure.PAGE).read_text(encoding="utf-8")
    assert table in markdown.fill(markdown.fill(page, "gpu", measure.render(results)), "gpu_large", table)
    assert "| **learned policy** |" in table and of_large["device"] in table


def test_a_table_by_hand() -> None:
    results = {f"{name}.{key}": value for name in TRAININGS for key, value in PLAIN.items()}
    results |= {"seeds": 2, "device": "a card", "torch": "2", "processor": "a processor"}
    lines = [line for line in measure.render(results).splitlines() if line.startswith("| GPT-2")]
    assert lines == [
        "| GPT-2 small | 85.2 | AdamW | 0.750 (0.500 to 1.000) | 0.250 (0.250 to 0.250) | 0.01 | 0.001 "
        "| 0 (unearned 3) |",
        "| GPT-2 small | 600 × 32 | 12.3 ms | \N{MINUS SIGN}0.1 % | \N{MINUS SIGN}1.0 % to +1.0 % "
        "| \N{MINUS SIGN}6 µs | +2.0 % |",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--out", str(tmp_path)]) == 0
    assert "No CUDA device" in capsys.readouterr().out and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_is_of_its_size(name: str) -> None:
    """Ten to a hundred million weights, a few hundred steps, the textbook's schedule."""
    workload = TRAININGS[name](replace(FULL, images=TOY.images, texts=TOY.texts))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in workload.build().parameters())
    assert 10e6 < parameters < 100e6 and workload.default[0] == SCHEDULE
    for amount in (FULL.images, FULL.texts):
        assert amount.epochs * (amount.examples // amount.batch) == 600


@pytest.mark.parametrize("name", TRAININGS)
def test_both_trainings_start_alike(name: str) -> None:
    workload = TRAININGS[name](TOY)
    pilot, textbook = (pairs.Training(workload, method, 3, "cpu") for method in pairs.METHODS)
    both = zip(pilot.model.state_dict().values(), textbook.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)
    for (x, y), (other, target) in zip(pilot.take(2), textbook.take(2), strict=True):
        assert torch.equal(x, other) and torch.equal(y, target) and len(x) == workload.batch_size
    assert pilot.validation_loss() == textbook.validation_loss()
    assert pilot.pilot is not None and textbook.pilot is None
    assert pilot.pilot.planned_steps == workload.n_steps == 64  # the shortest training with a probe
    assert pilot.pilot.examples == len(workload.train)


def test_masked_characters_are_the_targets() -> None:
    """The targets, put back where the mask stands, make a window of the text. The network has a logit for each."""
    workload = TRAININGS["BERT-base"](TOY)
    x, y = workload.train.x.clone(), workload.train.y
    masks = x == text.N_CHARACTERS
    assert (masks.sum(1) == y.shape[1]).all()
    x[masks] = y.flatten()
    windows = {row.tobytes() for name in text.available() for row in text.windows(text.characters(name), TOY.length)}
    assert all(row.tobytes() in windows for row in np.ascontiguousarray(x.numpy()))
    outputs = workload.initialise(0).eval()(workload.train.x[:3])
    assert outputs.shape == (3, y.shape[1], text.N_CHARACTERS + 1)
