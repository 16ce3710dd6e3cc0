"""From actions to levels and back: by hand, and whatever the numbers."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.decisions.actions import ActionEquation, reference
from lrpilot.probing.probe_curve import HIGH, Landmarks


def _one(*values: float) -> list[np.ndarray]:
    return [np.array([v]) for v in values]


def test_the_equation_that_policies_are_made_in() -> None:
    assert asdict(ActionEquation()) == {
        "span": 2.5, "rise": 1.0, "fall": 1.5, "low": -4.0, "high": 3.0, "anchor": -1.0, "below_blowup": 2.0,
        "above_lowest": 1.2, "calm": 1.0, "moves": True, "decay": 0.5, "warm_up": 0.05,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("moves", "first", "level", "anchor", "action", "want"),
    [
        (True, True, 0.0, 0.0, 1.0, 2.5),
        (True, True, 0.0, -1.0, -1.0, -3.5),
        (True, True, 7.0, -0.5, 0.5, 0.75),  # whatever the level was
        (True, True, 0.0, 2.0, 1.0, 3.0),  # the upper bound
        (True, True, 0.0, -3.0, -1.0, -4.0),  # the lower one
        (True, True, 0.0, 0.0, 1.2, 2.5),
        (True, False, 0.0, 0.0, 1.0, 0.5),
        (True, False, 0.0, 0.0, 0.4, 0.2),
        (True, False, 0.0, 0.0, -1.0, -1.5),
        (True, False, 0.0, 0.0, -0.4, -0.6),
        (True, False, 0.0, 0.0, -3.0, -1.5),
        (True, False, 2.3, 0.0, 1.0, 2.5),  # no further from the anchor than the first action reaches
        (True, False, -2.0, 0.0, -1.0, -2.5),
        (True, False, 2.8, 1.0, 1.0, 3.0),
        (True, False, -3.5, -3.0, -1.0, -4.0),
        (True, False, 5.0, 0.0, 0.0, 3.0),  # from beyond the reach it takes as many decisions as it takes
        (True, False, -4.5, 0.0, 0.0, -4.0),
        (False, True, 0.0, 0.0, 1.0, 2.5),
        (False, False, 0.0, 0.0, 0.1, 0.25),
        (False, False, 0.0, 0.0, 1.0, 0.5),
        (False, False, 0.0, 0.0, -0.4, -1.0),
        (False, False, 0.0, 0.0, -1.0, -1.5),
        (False, False, 2.4, 0.0, 1.5, 2.5),
    ],
)
def test_levels_by_hand(moves: bool, first: bool, level: float, anchor: float, action: float, want: float) -> None:
    assert ActionEquation(moves=moves, rise=0.5).apply(*_one(level, anchor, action), first) == pytest.approx([want])


@pytest.mark.parametrize(
    ("moves", "first", "level", "anchor", "wanted", "want"),
    [
        (True, True, 9.0, 0.0, 1.0, 0.4),
        (True, True, 9.0, -1.0, 3.0, 1.0),
        (True, True, 9.0, 0.0, -4.0, -1.0),
        (True, True, 9.0, 2.0, 9.0, 0.4),  # as far as the upper bound
        (True, True, 9.0, -3.5, -9.0, -0.2),
        (True, False, 0.0, 9.0, 0.25, 0.5),
        (True, False, 0.0, 9.0, 0.9, 1.0),
        (True, False, 0.0, 9.0, -0.75, -0.5),
        (True, False, 0.0, 9.0, -2.5, -1.0),
        (True, False, 1.0, 9.0, 1.0, 0.0),
        (True, False, 2.75, 9.0, 9.0, 0.5),
        (False, False, 0.0, 0.0, 1.0, 0.4),
        (False, False, 0.0, -1.0, 3.0, 1.0),
    ],
)
def test_inverses_by_hand(moves: bool, first: bool, level: float, anchor: float, wanted: float, want: float) -> None:
    assert ActionEquation(moves=moves, rise=0.5).invert(*_one(level, anchor, wanted), first) == pytest.approx([want])


def test_edges_by_hand() -> None:
    """Blown up at -0.5; not, with the lowest loss at 1.0, at -2.0 and at 3.0."""
    marks = landmarks(
        blowup=[-0.5, HIGH, HIGH, HIGH], blown=[True, False, False, False], lowest=[-1.0, 1.0, -2.0, 3.0]
    )  # fmt: skip
    np.testing.assert_allclose(ActionEquation().edge(marks), [-0.5, 2.2, 1.0, HIGH])


def landmarks(**given: list[Any]) -> Landmarks:
    """Of so many probes."""
    known = {name: np.array(values) for name, values in given.items()}
    nothing = np.zeros(len(known["blown"]))
    return Landmarks(loss0=nothing, steepest=nothing, noise=nothing, smooth=nothing[:, None], **known)


def test_without_a_blow_up_the_lowest_rates_stay_within_reach() -> None:
    equation = ActionEquation()
    marks = landmarks(blowup=[HIGH], blown=[False], lowest=[-1.0])  # as of a fine-tuning: Adam at 1e-4
    anchor = equation.edge(marks) - equation.below_blowup
    assert anchor == equation.anchor
    lowest = equation.apply(anchor, anchor, np.array([-1.0]), True)[0]
    assert reference("adamw") + lowest <= -6 and reference("sgd") + lowest <= -4


@pytest.mark.parametrize(
    ("decay", "factors"),
    [
        (1.0, [7 / 8, 5 / 8, 3 / 8, 1 / 8, 1 / 8, 1 / 8]),
        (0.5, [1, 1, 3 / 4, 1 / 4, 1 / 4, 1 / 4]),
        (0.2, [1, 1, 1, 5 / 8, 5 / 8, 5 / 8]),
    ],
)
def test_envelope_falls_linearly_to_half_a_step_and_stays(decay: float, factors: list[float]) -> None:
    equation = ActionEquation(decay=decay)
    np.testing.assert_allclose([equation.envelope(s, 4) for s in (0, 1, 2, 3, 4, 99)], factors)


def test_reference_rates_are_those_of_the_textbooks() -> None:
    assert {kind: reference(kind) for kind in ("adam", "adamw", "sgd")} == {"adam": -3.0, "adamw": -3.0, "sgd": -1.0}


def test_unknown_optimizer_kind() -> None:
    with pytest.raises(ValueError, match="optimizer: 'lion', want one of"):
        reference("lion")


level = st.floats(-6, 6)
equations = st.sampled_from([ActionEquation(), ActionEquation(rise=0.5), ActionEquation(moves=False)])
within = st.floats(-2.5, 2.5)  # of a level from its anchor


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
