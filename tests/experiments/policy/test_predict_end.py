"""What of a recorded past predicts an end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.policy import predict_end
from experiments.policy.predict_end import AT, FIRST, INPUTS, MEMORY, Past, errors, figures, read, render
from lrpilot.decisions.features import GROUPS, NAMES
from policy import mdp
from tiny import held_runs


def world(tasks: int = 60) -> list[Past]:
    """Ends that only the observation before the last one tells."""
    rng, out = np.random.default_rng(0), []
    for _ in range(tasks):
        observed = rng.normal(size=(8, MEMORY, 2)).astype(np.float32)
        out.append(Past(observed, observed, np.sign(observed[:, 1, 0]).astype(float)))
    return out


def test_a_memory_predicts_what_the_last_observation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_end, "SPLITS", 1)
    last, two = (errors(world(), memory, False) for memory in (1, 2))
    assert last.shape == (60,)
    assert 1 - two.mean() > 0.8
    assert 1 - last.mean() < 0.1


def test_errors_are_in_units_of_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_end, "SPLITS", 1)
    nothing = [replace(task, hidden=np.zeros_like(task.hidden)) for task in world()]
    assert errors(nothing, 1, False).mean() == pytest.approx(1.0, abs=0.05)
    scaled = [replace(task, regrets=100 * task.regrets) for task in nothing]
    assert errors(scaled, 1, False) == pytest.approx(errors(nothing, 1, False))


def test_figures_and_table() -> None:
    flat = figures({name: np.full(20, 0.5 if name == FIRST else 0.25) for name in INPUTS})
    assert [flat[f"{FIRST}.{key}"] for key in ("share", "low", "high")] == [0.5, 0.5, 0.5]
    assert flat["the last two.more"] == flat["the last two.more_low"] == 0.25
    lines = render(flat | {"tasks": 20, "runs": 99, "data": "f" * 64}).splitlines()
    assert len(lines) == 2 + len(INPUTS) + 2
    assert lines[2].endswith("– |") and "+0.250 (+0.250 to +0.250)" in lines[3]


def test_a_recorded_task_is_read(tmp_path: Path) -> None:
    past = read(held_runs(tmp_path, 5))
    assert past is not None
    n = len(past.regrets)
    assert n % len(AT) == 0 and past.inputs(2, True).shape == (n, 2 * len(NAMES))
    assert (past.regrets >= 0).all() and (past.regrets <= mdp.WORST).all()
    columns = [NAMES.index(name) for name in GROUPS["validation"]]
    assert not past.hidden[..., columns].any() and past.shown[..., columns].any(axis=(1, 2)).all()
    clock = past.hidden[..., NAMES.index("progress")]
    assert (np.diff(clock, axis=1) < 0).all(), "latest first"
    assert len(np.unique(clock[:, 0])) == len(AT)
    assert read(held_runs(tmp_path, 1)) is None
