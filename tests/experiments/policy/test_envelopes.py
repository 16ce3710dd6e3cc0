"""Envelopes by hand, and one task from end to end."""

from typing import Any

import numpy as np
import pytest

from experiments.policy.envelope_trainings import ENVELOPES, OFF, envelope
from experiments.policy.envelopes import render
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.warm_up import WarmUp
from quick import quick


@pytest.mark.parametrize(
    ("warm", "decay", "wanted"),
    [
        (0.0, 1.0, [0.875, 0.625, 0.375, 0.125]),
        (0.0, 0.5, [1.0, 1.0, 0.75, 0.25]),
        (0.5, 0.5, [0.25, 0.75, 0.75, 0.25]),
        (0.25, 0.25, [0.5, 1.0, 1.0, 0.5]),
    ],
)
def test_factors_of_four_steps(warm: float, decay: float, wanted: list[float]) -> None:
    assert envelope(4, warm, decay).tolist() == pytest.approx(wanted)


def test_the_pilots_own_is_among_them() -> None:
    equation = ActionEquation()
    warm_up = WarmUp(1, equation.warm_up, 50)
    wanted = [equation.envelope(step, 50) * warm_up.factor(step) for step in range(50)]
    assert any(np.array_equal(envelope(50, *shares), wanted) for shares in ENVELOPES.values())


@pytest.mark.parametrize("shares", ENVELOPES.values())
def test_factors_reach_the_level_and_end_near_zero(shares: tuple[float, float]) -> None:
    factors = envelope(1000, *shares)
    assert factors.max() <= 1.0 and factors.max() > 0.93 and 0 < factors[-1] < 0.01 and factors[0] > 0


def test_a_task_from_end_to_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    _, out = quick("experiments.policy.envelopes", tmp_path_factory.mktemp("envelopes"))
    figures: dict[str, Any] = out
    assert figures["quick"] and figures["tasks"] == 1
    for name in ENVELOPES:
        assert figures[f"all.{name}.best"] == min(figures[f"all.{name}.{off:g}"] for off in OFF)
    lines = render(figures).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(ENVELOPES)
