"""The pilot: many runs in lock-step, resumed runs, and what it does when a policy fails."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.decisions import telemetry
from lrpilot.decisions.cadence import CadenceSpec
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot


def quadratic(pilot: Pilot, answer: Any, n: int, at: int = 0, stop: int | None = None, state: Any = None) -> list:
    """Gradient descent of `pilot.runs` one-weight problems under a pilot: rates (steps, runs) from step `at` on."""
    curvature = np.array([0.5, 30.0, 2.0])[: pilot.runs]
    w, start, sketch, losses = state or (np.ones(pilot.runs), np.ones(pilot.runs), telemetry.Sketch(1.0), [])
    rates = []
    if at == 0 and not pilot.cadence.probe_steps:
        pilot.decide(answer)
    for _ in range(at, n if stop is None else stop):
        if pilot.window_opens:
            sketch.open(w[:, None].copy())
        wanted, gradient = pilot.wants_gradient, curvature * w
        rates.append(pilot.learning_rates())
        loss = curvature * w**2 / 2
        w = w - rates[-1] * gradient
        if pilot.in_probe:
            ended = pilot.advance_probe(loss, np.abs(gradient))
            if ended.any():
                w = np.where(ended, start, w)
                pilot.decide(answer, ended)
        else:
            losses += [loss] if pilot.wants_loss else []
            pilot.advance()
        assert wanted or not pilot.in_window
        if pilot.in_window:
            sketch.gradient(gradient[:, None].copy())
        if pilot.due:
            pilot.close_interval(np.array(losses), sketch.close(w[:, None].copy()))
            losses.clear()
            if pilot.step < n:
                pilot.decide(answer)
    return [rates, (w, start, sketch, losses)]


def wavy(observation: np.ndarray) -> np.ndarray:
    return np.sin(observation.astype(np.float64).sum(1))


@pytest.mark.parametrize("probed", [True, False])
def test_runs_in_lock_step_equal_single_runs(probed: bool) -> None:
    """Their probes end at different steps, and neither sees the other."""
    n = 200
    together = Pilot(Protocol(), n, "sgd", runs=2, probed=probed)
    rates, _ = quadratic(together, wavy, n)
    if probed:
        assert together.probes.steps[0] != together.probes.steps[1]
    solo = Pilot(Protocol(), n, "sgd", probed=probed)
    alone, _ = quadratic(solo, wavy, n)
    np.testing.assert_array_equal(np.stack(rates)[:, 0], np.stack(alone)[:, 0])
    assert solo.history[0].step == solo.probes.steps[0] + solo.probes.halted[0]
    assert [d.step for d in solo.history[1:]] == solo.cadence.bounds[1:-1].tolist()


@given(kill=st.integers(0, 120), probed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_pilot_resumes_bit_for_bit(kill: int, probed: bool) -> None:
    def make() -> Pilot:
        return Pilot(Protocol(), 120, "sgd", runs=3, probed=probed)

    whole, first, second = make(), make(), make()
    expected, _ = quadratic(whole, wavy, 120)
    before, state = quadratic(first, wavy, 120, stop=kill)
    second.load_state_dict(first.state_dict())
    if kill == 0 and not probed:
        second = make()
    after, _ = quadratic(second, wavy, 120, at=kill, state=state)
    np.testing.assert_array_equal(np.stack(before + after), np.stack(expected))
    np.testing.assert_equal(
        [dataclasses.asdict(d) for d in second.history], [dataclasses.asdict(d) for d in whole.history]
    )


def test_state_of_another_protocol_is_refused() -> None:
    state = Pilot(Protocol(), 100, "adam").state_dict()
    other = Pilot(Protocol(CadenceSpec(late=8)), 100, "adam")
    with pytest.raises(ValueError, match="protocol: the saved state has"):
        other.load_state_dict(state)


def test_nothing_moves_beyond_the_end() -> None:
    pilot = Pilot(Protocol(), 30, "sgd")
    quadratic(pilot, wavy, 30)
    last, decisions = pilot.learning_rates(), len(pilot.history)
    for _ in range(20):
        pilot.advance()
        assert not (pilot.due or pilot.in_window or pilot.window_opens or pilot.wants_gradient)
    assert pilot.learning_rates() == last and len(pilot.history) == decisions


def test_a_policy_that_fails_holds_the_level(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("disk gone")

    pilot = Pilot(Protocol(), 40, "sgd")
    with caplog.at_level("WARNING", "lrpilot"):
        quadratic(pilot, broken, 40)
    assert "the policy failed: disk gone" in caplog.text
    assert {d.event for d in pilot.history} == {"policy_failed"}
    assert {d.level for d in pilot.history} == {Protocol().action.anchor}
    with pytest.raises(RuntimeError, match="disk gone"):
        quadratic(Pilot(Protocol(), 40, "sgd", strict=True), broken, 40)
