"""What an interval reports: losses and the sketch's windows, by hand."""

import math

import numpy as np
import pytest

from lrpilot import telemetry


def test_sketch_covers_small_nets_and_samples_large_ones() -> None:
    assert np.array_equal(telemetry.sketch_coordinates(telemetry.WHOLE), np.arange(telemetry.WHOLE))
    assert len(telemetry.sketch_coordinates(telemetry.WHOLE + 1)) <= telemetry.SKETCH
    large = telemetry.sketch_coordinates(10**9)
    assert 0.99 * telemetry.SKETCH < len(large) <= telemetry.SKETCH and np.all(np.diff(large) > 0)
    assert np.array_equal(large, telemetry.sketch_coordinates(10**9))


def test_losses_by_hand() -> None:
    fields = telemetry.summarise_losses(np.array([[1.0], [3.0], [2.0]]))
    assert {k: v.item() for k, v in fields.items()} == pytest.approx(
        {"loss_mean": 2.0, "loss_last": 2.0, "loss_noise": math.sqrt((4 + 1) / 2 / 2)}
    )
    assert telemetry.summarise_losses(np.array([[5.0]]))["loss_noise"] == 0.0


def test_window_by_hand() -> None:
    sketch = telemetry.Sketch(scale=2.0)
    sketch.open(np.array([0.0, 0.0]))
    sketch.gradient(np.array([3.0, 4.0]))
    sketch.gradient(np.array([4.0, 3.0]))
    first = sketch.close(np.array([3.0, 4.0]))
    assert first == pytest.approx(
        {"grad_norm": 10.0, "grad_cos": 24 / 25, "update_norm": 5.0, "update_cos": 0.0, "weight_norm": 10.0}
    )
    sketch.open(np.array([3.0, 4.0]))
    sketch.gradient(np.array([3.0, 4.0]), measured=6.0)
    second = sketch.close(np.array([0.0, 0.0]))
    assert second == pytest.approx(
        {"grad_norm": 6.0, "grad_cos": 0.0, "update_norm": 10.0, "update_cos": -1.0, "weight_norm": 0.0}
    )
