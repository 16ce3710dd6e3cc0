"""Five-parameter schedules, worked out by hand, and a search among them."""

import numpy as np
import pytest

from pipeline.evaluation.shapes import REACH, Shape, draw, rates


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (Shape(-1.0, 0.0, 0.0, 1.0, -30.0), [0.0875, 0.0625, 0.0375, 0.0125]),  # linear decay
        (Shape(0.0, 0.5, 0.0, 1.0, -30.0), [0.25, 0.75, 0.75, 0.25]),  # up and down
        (Shape(0.0, 0.0, 0.5, 2.0, -30.0), [1.0, 1.0, 0.5625, 0.0625]),  # flat, then a parabola
        (Shape(0.0, 0.0, 0.0, 1.0, 0.0), [1.0, 1.0, 1.0, 1.0]),  # ends where it began
        (Shape(0.0, 0.0, 0.0, 1.0, -1.0), [0.8875, 0.6625, 0.4375, 0.2125]),
    ],
)
def test_by_hand(shape: Shape, wanted: list[float]) -> None:
    np.testing.assert_allclose(rates(shape, 4), wanted, atol=1e-12)


def test_draws_lie_around_the_peak_and_below_it() -> None:
    shapes = draw(np.random.default_rng(0), -2.0, 200)
    peaks = np.array([shape.peak for shape in shapes])
    assert np.abs(peaks + 2).max() <= REACH and np.ptp(peaks) > REACH
    for shape in shapes:
        curve = rates(shape, 300)
        assert (curve > 0).all() and curve.max() <= 10**shape.peak * (1 + 1e-12)
    assert {shape.warm > 0 for shape in shapes} == {shape.hold > 0 for shape in shapes} == {True, False}
