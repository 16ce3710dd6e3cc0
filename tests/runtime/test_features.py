"""Features: rows worked out by hand, and what holds whatever the telemetry."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curves import STEPS, Z, bump, ends
from lrpilot import features, probe, telemetry
from lrpilot.features import CLIP, NAMES, Observer

LG = math.log10


def told(**changes: float) -> dict[str, np.ndarray]:
    fields = dict(loss_mean=1.0, loss_last=1.0, loss_noise=0.0, grad_norm=1.0, grad_cos=0.0, update_norm=1.0,
                  update_cos=0.0, weight_norm=1.0, val_loss=math.nan)  # fmt: skip
    return {k: np.array([v]) for k, v in (fields | changes).items()}


def seen(
    observer: Observer, interval: dict[str, Any] | None, step: int, z: float = 0.0, **kw: float
) -> dict[str, float]:
    column = {k: np.array([kw.get(k, 0.0)]) for k in ("anchor", "highest", "last_move")}
    row = observer.observation(step, np.array([z]), **column, interval=interval, interval_steps=50)
    assert row.shape == (1, len(NAMES)) and row.dtype == np.float32
    return dict(zip(NAMES, row[0].tolist(), strict=True))


def test_first_observation_by_hand() -> None:
    row = seen(Observer(1, 1000, is_sgd=True, steps_per_epoch=10.0, examples=50), None, 0, z=1.5)
    want = dict.fromkeys(NAMES, 0.0) | {
        "progress": -1.0, "log_progress": -3 / 1.5 + 1, "first": 1.0, "is_sgd": 1.0, "has_epochs": 1.0,
        "log_epochs": 1.0, "has_examples": 1.0, "log_examples": LG(50) - 3,
    }  # fmt: skip
    assert row == pytest.approx(want, abs=1e-6)


def test_later_observation_by_hand() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    intervals = [
        told(loss_mean=2.0, grad_norm=4.0, weight_norm=10.0, val_loss=3.0),
        told(loss_mean=1.0),
        told(loss_mean=1.25, loss_last=1.5, loss_noise=0.25, grad_norm=0.4, grad_cos=0.5, update_norm=0.2,
             update_cos=-0.25, weight_norm=20.0, val_loss=1.5),
    ]  # fmt: skip
    for interval in intervals:
        observer.see_interval(interval)
    row = seen(observer, intervals[-1], 250, z=-1.0, anchor=-2.0, highest=-0.5, last_move=0.25)
    want = dict.fromkeys(NAMES, 0.0) | {
        "progress": -0.5, "log_progress": LG(0.251) / 1.5 + 1, "level": -0.5, "level_to_anchor": 1.0,
        "level_to_highest": -0.5, "last_move": 0.5, "interval": LG(0.05) + 2, "log_steps": 0.0, "is_sgd": -1.0,
        "loss_total": 2 * LG(1.25 / 2), "loss_last": 10 * LG(1.5 / 1.25), "loss_slope": 10 * LG(1.25),
        "loss_slope_4": 0.0, "loss_to_best": 5 * LG(1.25), "since_best": 0.1, "loss_noise": 0.4,
        "grad_norm": -1.0, "grad_cos": 1.5, "update_ratio": LG(0.01) / 2 + 1.5, "update_cos": -0.5,
        "weight_norm": 3 * LG(2.0), "has_val": 1.0, "val_total": 2 * LG(0.5), "val_slope": CLIP * -1,
        "val_slope_4": 0.0, "val_to_best": 0.0, "val_gap": 2 * LG(1.5 / 1.25),
    }  # fmt: skip
    assert row == pytest.approx(want, abs=1e-6)


def test_probe_columns_by_hand() -> None:
    loss = bump(30)[None]
    used = np.array([ends(loss[0])[0]])
    marks = probe.landmarks(loss, used)
    observer = Observer(1, 1000, is_sgd=False)
    grad = np.where(np.arange(STEPS) < used, 10.0 ** (Z - Z[0]) / 10, np.nan)[None]
    observer.see_probe(marks, grad, np.array([True]))
    row = seen(observer, None, 40)
    edge = marks.blowup[0]
    assert row["probed"] == 1.0 and row["probe_blown"] == 1.0
    assert row["probe_blowup"] == pytest.approx(edge / 2)
    assert row["probe_lowest"] == pytest.approx(marks.lowest[0] - edge)
    assert row["probe_steepest"] == pytest.approx(marks.steepest[0] - edge)
    # Three decades below the edge the curve is flat; the gradient norm grows like the rate, up to the clip.
    assert row["probe_loss_-3"] == pytest.approx(0.0, abs=1e-6)
    assert row["probe_loss_-0.5"] < -0.2
    assert row["probe_grad_-2"] == pytest.approx(edge - 2 - Z[0], abs=1e-5)
    assert observer.loss0[0] == pytest.approx(2.0)


wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
ROWS = 5  # decisions


@given(
    arrays(np.float64, (ROWS, 3, len(telemetry.INTERVAL)), elements=wild),
    arrays(np.float64, (2, 3, 16), elements=wild),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_observations_are_finite_clipped_and_independent(told_: np.ndarray, probes: np.ndarray, probed: bool) -> None:
    """Whatever is told, every feature is within the clip; and a batch of runs equals single runs bit for bit."""

    def run(which: slice) -> np.ndarray:
        intervals = told_[:, which]
        k = intervals.shape[1]
        epochs = np.array([5.0, np.nan, 7.0])[which]
        observer = Observer(k, 100, is_sgd=False, steps_per_epoch=epochs)
        if probed:
            loss, used = probes[0, which], np.array([16, 9, 1])[which]
            observer.see_probe(probe.landmarks(loss, used), probes[1, which], np.array([True, False, True])[which])
        rows, z = [], np.array([-1.0, 0.5, 2.0])[which]
        for d in range(ROWS):
            interval = {name: intervals[d, :, i] for i, name in enumerate(telemetry.INTERVAL)}
            observer.see_interval(interval)
            rows.append(observer.observation(20 * d, z, z - 0.3, z + 0.1, z / 9, interval, 20))
        return np.stack(rows)

    together = run(slice(0, 3))
    assert np.isfinite(together).all() and np.abs(together).max() <= CLIP
    for i in range(3):
        np.testing.assert_array_equal(run(slice(i, i + 1))[:, 0], together[:, i])


def test_validation_that_is_masked_leaves_the_rest_alone() -> None:
    a, b = Observer(1, 1000, is_sgd=False), Observer(1, 1000, is_sgd=False)
    for observer, val in ((a, math.nan), (b, 3.0)):
        observer.see_interval(told(loss_mean=2.0, val_loss=val))
    one, two = (seen(o, told(loss_mean=2.0), 100) for o in (a, b))
    assert {k for k in NAMES if one[k] != two[k]} <= {k for k in NAMES if "val" in k.split("_")}
    assert all(one[k] == 0.0 for k in NAMES if k.startswith(("has_val", "val_")))


def test_feature_names_are_unique_and_versioned() -> None:
    assert len(set(NAMES)) == len(NAMES) and features.VERSION >= 1
