"""Telemetry of an interval, worked out by hand; numpy arrays and torch tensors alike."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lrpilot.decisions import telemetry
from lrpilot.decisions.telemetry import INTERVAL, SKETCH, WHOLE, Sketch, sketch_coordinates, summarise_losses

nan, inf = math.nan, math.inf
RAMP = np.arange(1.0, 11.0)[:, None]  # ten losses of one run
KINDS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda x: np.array(x, np.float64),
    "torch": lambda x: torch.tensor(x, dtype=torch.float64),
}


@pytest.fixture(params=KINDS)
def array(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return KINDS[request.param]


@pytest.mark.parametrize("n", [1, 7, 65_536])
def test_of_a_small_net_every_coordinate_is_taken(n: int) -> None:
    np.testing.assert_array_equal(sketch_coordinates(n), np.arange(n))


@pytest.mark.parametrize("n", [65_537, 10**9])
def test_of_a_large_net_a_fixed_sample_is_taken(n: int) -> None:
    sample = sketch_coordinates(n)
    assert 0.85 * 16_384 < len(sample) <= 16_384
    assert (np.diff(sample) > 0).all() and sample[0] >= 0 and sample[-1] < n
    np.testing.assert_array_equal(sample, np.unique(np.random.default_rng(0).integers(n, size=16_384)))
    assert not np.array_equal(sample, sketch_coordinates(n, seed=1))


def test_the_sizes_of_a_sketch_are_those_of_the_recorded_data() -> None:
    assert (SKETCH, WHOLE) == (16_384, 65_536)


@pytest.mark.parametrize(
    ("losses", "mean", "last", "noise"),
    [
        (RAMP, [5.5], [6.5], [math.sqrt(0.5)]),  # the last eight: 3 to 10
        (RAMP[:8], [4.5], [4.5], [math.sqrt(0.5)]),
        ([[5.0]], [5.0], [5.0], [0.0]),
        ([[5.0, 6.0]], [5.0, 6.0], [5.0, 6.0], [0.0, 0.0]),
        ([[1.0, 4.0], [3.0, 4.0], [2.0, 4.0]], [2.0, 4.0], [2.0, 4.0], [math.sqrt((4 + 1) / 2 / 2), 0.0]),
        ([[1.0, 1.0], [nan, inf]], [1.0, inf], [1.0, inf], [nan, inf]),  # nan is left out
        ([[1.0, nan], [nan, nan], [3.0, nan], [4.0, nan]], [8 / 3, nan], [8 / 3, nan], [math.sqrt(0.5), nan]),
        (np.empty((0, 2)), [nan, nan], [nan, nan], [nan, nan]),
    ],
    ids=["ten", "eight", "one", "one of two runs", "two runs", "not finite", "left out", "none"],
)
def test_losses_by_hand(losses: Any, mean: list[float], last: list[float], noise: list[float]) -> None:
    fields = summarise_losses(np.asarray(losses, np.float64))
    np.testing.assert_allclose([fields[n] for n in ("loss_mean", "loss_last", "loss_noise")], [mean, last, noise])
    assert set(fields) < set(INTERVAL)


@pytest.mark.parametrize(
    ("losses", "sound", "want"),
    [
        ([1.0, 2.0, 3.0, 4.0], False, [1.0, 2.0, 3.0, 4.0]),
        ([nan, 2.0, inf, 4.0], True, [nan, 2.0, nan, 4.0]),
        ([nan, 2.0, -inf, 4.0], False, [inf, 2.0, inf, 4.0]),
        ([1.0, 2.0, nan, inf], True, [1.0, 2.0, nan, nan]),  # two are a slip
        ([nan, nan, inf, nan], True, [inf, inf, inf, inf]),  # three to the end are not
        ([nan, 2.0, nan, nan, nan], True, [inf, 2.0, inf, inf, inf]),
        ([nan, nan, nan, 4.0], True, [nan, nan, nan, 4.0]),
        ([nan], True, [inf]),
        ([], True, []),
    ],
)
def test_losses_that_say_nothing_are_left_out(losses: list[float], sound: bool, want: list[float]) -> None:
    """Those of sound weights; each run for itself."""
    calm, shape = [1.0] * len(losses), (2, len(losses))
    left = telemetry.left_out(np.reshape([losses, calm], shape).T, np.array([sound, True]))
    np.testing.assert_array_equal(left, np.reshape([want, calm], shape).T)


def plain(fields: dict[str, Any]) -> dict[str, list[float]]:
    return {name: np.asarray(value).tolist() for name, value in fields.items()}


def test_windows_by_hand(array: Callable[[Any], Any]) -> None:
    """Of a net four times the sketch's size, so that norms are twice those of the sketch. Two runs."""
    sketch = Sketch(scale=2.0)
    sketch.open(array([[0.0, 0.0], [1.0, 1.0]]))
    for gradient in ([[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0], [0.0, 2.0]], [[4.0, 3.0], [1.0, 0.0]]):
        sketch.gradient(array(gradient))
    first = plain(sketch.close(array([[3.0, 4.0], [1.0, 1.0]])))
    assert first["grad_norm"] == pytest.approx([10.0, 2.0])
    assert first["grad_cos"] == pytest.approx([(24 / 25 + 1) / 2, 0.0])
    assert first["update_norm"] == pytest.approx([10 / 3, 0.0])
    assert first["update_cos"] == [0.0, 0.0]
    assert first["weight_norm"] == pytest.approx([10.0, 2 * math.sqrt(2)])

    sketch.open(array([[3.0, 4.0], [1.0, 1.0]]))
    sketch.gradient(array([[3.0, 4.0], [1.0, 0.0]]), measured=array([6.0, 7.0]))
    second = plain(sketch.close(array([[7.0, 1.0], [1.0, 3.0]])))
    assert second == {
        "grad_norm": [6.0, 7.0],
        "grad_cos": [0.0, 0.0],  # of one gradient there is none
        "update_norm": [10.0, 4.0],
        "update_cos": pytest.approx([0.0, 0.0]),  # at a right angle; and after no displacement
        "weight_norm": pytest.approx([2 * math.sqrt(50), 2 * math.sqrt(10)]),
    }

    sketch.open(array([[7.0, 1.0], [1.0, 3.0]]))
    sketch.gradient(array([[1.0, 0.0], [1.0, 0.0]]))
    third = plain(sketch.close(array([[3.0, 4.0], [1.0, 5.0]])))
    assert third["grad_cos"] == [0.0, 0.0]  # the window before is forgotten
    assert third["update_cos"] == pytest.approx([-1.0, 1.0])


def test_one_training_has_no_axis_of_runs(array: Callable[[Any], Any]) -> None:
    sketch = Sketch(scale=1.0)
    sketch.open(array([0.0, 0.0]))
    sketch.gradient(array([3.0, 4.0]))
    assert plain(sketch.close(array([0.0, -2.0]))) == {
        "grad_norm": 5.0, "grad_cos": 0.0, "update_norm": 2.0, "update_cos": 0.0, "weight_norm": 2.0,
    }  # fmt: skip
    assert set(INTERVAL) == {
        "loss_mean", "loss_last", "loss_noise", "grad_norm", "grad_cos", "update_norm", "update_cos", "weight_norm",
        "val_loss",
    }  # fmt: skip


@pytest.mark.parametrize(("length", "cosine"), [(1e-9, 1.0), (1e-15, 0.5), (1e-30, 0.0), (0.0, 0.0)])
def test_a_tiny_gradient_has_a_direction_and_none_has_no_cosine(
    length: float, cosine: float, array: Callable[[Any], Any]
) -> None:
    """What vanishes is below a length of 1e-15."""
    sketch = Sketch(scale=1.0)
    sketch.open(array([0.0]))
    for gradient in (length, length):
        sketch.gradient(array([gradient]))
    assert float(sketch.close(array([0.0]))["grad_cos"]) == pytest.approx(cosine)


def test_an_older_numpy_gives_the_same_dot_products(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(3, 5))

    def close() -> dict[str, list[float]]:
        sketch = Sketch(scale=1.0)
        sketch.open(0 * x)
        sketch.gradient(x)
        sketch.gradient(x[::-1])
        return plain(sketch.close(x))

    new = close()
    monkeypatch.setattr(telemetry, "_VECDOT", None)
    assert close() == {name: pytest.approx(values) for name, values in new.items()}
