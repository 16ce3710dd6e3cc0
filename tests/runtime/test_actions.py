"""From actions to levels and rates, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.actions import ActionEquation, envelope, reference

level = st.floats(-6, 6)
equations = st.sampled_from([ActionEquation(moves=True), ActionEquation(moves=False)])
within = st.floats(-2.5, 2.5)  # of a level from its anchor


def _one(*values: float) -> list[np.ndarray]:
    return [np.array([v]) for v in values]


@given(equations, within, st.floats(-1.5, 0.5), st.floats(-1, 1), st.booleans())
def test_inverted_actions_come_back(
    equation: ActionEquation, at: float, anchor: float, action: float, first: bool
) -> None:
    z, a, u = _one(anchor + at, anchor, action)
    new = equation.apply(z, a, u, first)
    assert equation.low <= new[0] <= equation.high and abs(new[0] - anchor) <= equation.span + 1e-9
    np.testing.assert_allclose(equation.apply(z, a, equation.invert(z, a, new, first), first), new, atol=1e-9)
    free = equation.apply(z, a, u + 1e-3, first) > new > equation.apply(z, a, u - 1e-3, first)  # no limit is met
    if free and abs(action) < 0.99:
        np.testing.assert_allclose(equation.invert(z, a, new, first), u, atol=1e-9)


@given(equations, within, st.floats(-1.5, 0.5), level, st.booleans())
def test_inverse_comes_as_close_as_an_action_can(
    equation: ActionEquation, at: float, anchor: float, wanted: float, first: bool
) -> None:
    z, a, w = _one(anchor + at, anchor, wanted)
    best = equation.apply(z, a, equation.invert(z, a, w, first), first)[0]
    others = [equation.apply(z, a, np.array([u]), first)[0] for u in np.linspace(-1, 1, 21)]
    assert abs(best - wanted) <= min(abs(o - wanted) for o in others) + 1e-9


@given(within)
def test_an_action_of_zero_holds_the_level_where_actions_move_it(at: float) -> None:
    z, zero = _one(at, 0.0)
    assert ActionEquation().apply(z, zero, zero, first=False) == z


def test_levels_rise_slowly_and_fall_fast_after_the_first_action() -> None:
    equation, zero = ActionEquation(), np.zeros(2)
    ends = np.array([1.0, -1.0])
    assert equation.apply(zero, zero, ends, first=True).tolist() == [equation.span, -equation.span]
    assert equation.apply(zero, zero, ends, first=False).tolist() == [equation.rise, -equation.fall]


def test_envelope_falls_linearly_to_half_a_step_and_stays() -> None:
    np.testing.assert_allclose(
        [envelope(s, 4) for s in (0, 1, 2, 3, 4, 99)], [7 / 8, 5 / 8, 3 / 8, 1 / 8, 1 / 8, 1 / 8]
    )


def test_unknown_optimizer_kind() -> None:
    with pytest.raises(ValueError, match="optimizer: 'lion', want one of"):
        reference("lion")
