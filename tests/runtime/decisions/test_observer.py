"""Observations: rows worked out by hand, and what holds whatever the telemetry."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curves import STEPS, Z, bump, ends
from lrpilot.decisions import telemetry
from lrpilot.decisions.features import CLIP, FEATURES, GROUPS, NAMES
from lrpilot.decisions.network_size import NetworkSize
from lrpilot.decisions.observer import MEMORY, STATE, Observer
from lrpilot.probing import probe_curve

LG, nan, inf = math.log10, math.nan, math.inf
ONE = np.ones(1, bool)


def interval(**changes: float) -> dict[str, np.ndarray]:
    """The telemetry of one interval of one run."""
    fields = dict(loss_mean=1.0, loss_last=1.0, loss_noise=0.0, grad_norm=1.0, grad_cos=0.0, update_norm=1.0,
                  update_cos=0.0, weight_norm=1.0, val_loss=nan)  # fmt: skip
    return {k: np.array([v]) for k, v in (fields | changes).items()}


def observe(
    observer: Observer, latest: dict[str, Any] | None, step: int = 250, z: float = 0.0, **levels: float
) -> dict[str, float]:
    """What the only run's pilot observes, by name."""
    column = {k: np.array([levels.get(k, 0.0)]) for k in ("anchor", "highest", "last_move")}
    row = observer.observation(step, np.array([z]), **column, interval=latest, interval_steps=50)
    assert row.shape == (1, len(NAMES)) and row.dtype == np.float32 and row.flags.c_contiguous
    return dict(zip(NAMES, row[0].tolist(), strict=True))


def after(*intervals: dict[str, Any], observer: Observer | None = None) -> dict[str, float]:
    """What is observed after these intervals, at step 250 of 1000."""
    observer = observer or Observer(1, 1000, is_sgd=False)
    for one in intervals:
        observer.add_interval(one)
    return observe(observer, intervals[-1])


# What every observation of `after` has beside what its intervals say.
CLOCK = dict.fromkeys(NAMES, 0.0) | {
    "progress": -0.5, "log_progress": LG(0.251) / 1.5 + 1, "interval": LG(0.05) + 2, "is_sgd": -1.0,
    "update_ratio": 1.5,
}  # fmt: skip


def test_first_observation_by_hand() -> None:
    row = observe(Observer(1, 100, is_sgd=True, steps_per_epoch=10.0, examples=50), None, 0, z=1.5, last_move=0.5)
    assert row == pytest.approx(
        dict.fromkeys(NAMES, 0.0)
        | {
            "progress": -1.0, "log_progress": -3 / 1.5 + 1, "first": 1.0, "is_sgd": 1.0, "log_steps": -1.0,
            "has_epochs": 1.0, "log_epochs": 0.0, "has_examples": 1.0, "log_examples": LG(50) - 3, "last_move": 1.0,
        },
        abs=1e-6,
    )  # fmt: skip


def test_later_observation_by_hand() -> None:
    observer = Observer(1, 1000, is_sgd=False, steps_per_epoch=2.0, examples=200_000)
    losses, vals = (10.0, 8.0, 4.0, 2.0, 1.0, 1.25), (3.0, nan, 2.4, 2.0, 1.6, 1.8)
    intervals = [interval(loss_mean=loss, val_loss=val) for loss, val in zip(losses, vals, strict=True)]
    intervals[0] |= interval(loss_mean=10.0, val_loss=3.0, grad_norm=4.0, weight_norm=10.0)
    intervals[-1] |= interval(
        loss_mean=1.25, loss_last=1.5, loss_noise=0.25, grad_norm=0.4, grad_cos=0.5, update_norm=0.2, update_cos=-0.25,
        weight_norm=20.0, val_loss=1.8,
    )  # fmt: skip
    for one in intervals:
        observer.add_interval(one)
    row = observe(observer, intervals[-1], z=-1.0, anchor=-2.0, highest=-0.5, last_move=0.25)
    assert row == pytest.approx(
        CLOCK
        | {
            "level": -0.5, "level_to_anchor": 1.0, "level_to_highest": -0.5, "last_move": 0.5,
            "has_epochs": 1.0, "log_epochs": LG(500) - 1, "has_examples": 1.0, "log_examples": LG(200),
            "loss_total": 2 * LG(0.125), "loss_last": 10 * LG(1.2), "loss_slope": 10 * LG(1.25),
            "loss_slope_4": 5 * LG(1.25 / 8), "loss_to_best": 5 * LG(1.25), "since_best": 0.1, "loss_noise": 0.4,
            "grad_norm": -1.0, "grad_cos": 1.5, "update_ratio": LG(0.01) / 2 + 1.5, "update_cos": -0.5,
            "weight_norm": 3 * LG(2.0), "has_val": 1.0, "val_total": 2 * LG(0.6), "val_slope": 20 * LG(1.8 / 1.6),
            "val_slope_4": 8 * LG(0.6), "val_to_best": 5 * LG(1.8 / 1.6), "val_gap": 2 * LG(1.8 / 1.25),
        },
        abs=1e-6,
    )  # fmt: skip


LOST = dict.fromkeys(GROUPS["loss"], CLIP) | {"since_best": 0.1}  # of a loss that is not finite

# What the last of some intervals adds to CLOCK.
HISTORIES: dict[str, tuple[list[dict[str, Any]], dict[str, float]]] = {
    "one interval alone": ([interval(loss_mean=3.0, loss_last=3.0)], {}),
    "the loss rises twice": (
        [interval(loss_mean=1.0), interval(loss_mean=1.2), interval(loss_mean=1.1)],
        {"loss_total": 2 * LG(1.1), "loss_slope": 10 * LG(1.1 / 1.2), "loss_to_best": 5 * LG(1.1), "since_best": 0.2,
         "loss_last": 10 * LG(1 / 1.1)},
    ),
    "an equal loss is no better": ([interval(), interval()], {"since_best": 0.1}),
    "five intervals": (
        [interval(loss_mean=loss) for loss in (1.6, 1.4, 1.2, 1.0, 0.8)],
        {"loss_total": 2 * LG(0.5), "loss_slope": 10 * LG(0.8), "loss_slope_4": 5 * LG(0.5),
         "loss_last": 10 * LG(1.25)},
    ),
    "the loss before is unknown": (
        [interval(loss_mean=2.0), interval(loss_mean=nan), interval(loss_mean=1.0)],
        {"loss_total": 2 * LG(0.5)},
    ),
    "the loss is unknown": (
        [interval(loss_mean=2.0), interval(loss_mean=nan, loss_last=nan, loss_noise=nan)],
        LOST,
    ),
    "the loss is infinite": (
        [interval(loss_mean=2.0), interval(loss_mean=inf, loss_last=inf, loss_noise=inf)],
        LOST,
    ),
    "the loss vanishes": (
        [interval(loss_mean=1.0), interval(loss_mean=0.0)],
        {"loss_total": -CLIP, "loss_slope": -CLIP, "loss_last": CLIP, "loss_to_best": CLIP, "loss_slope_4": CLIP,
         "loss_noise": CLIP},
    ),
    "the loss is negative": (
        [interval(loss_mean=-2.0, loss_last=-2.0, loss_noise=0.5)],
        {"loss_noise": 0.5},
    ),
    "no parameter telemetry": (
        [interval(), interval(grad_norm=nan, grad_cos=nan, update_norm=nan, update_cos=nan, weight_norm=nan)],
        {"since_best": 0.1} | dict.fromkeys(GROUPS["sketch"], CLIP),
    ),
    "the first gradient norm that is known counts": (
        [interval(grad_norm=nan, weight_norm=nan), interval(grad_norm=4.0, weight_norm=2.0),
         interval(grad_norm=2.0, weight_norm=6.0, update_norm=6.0)],
        {"since_best": 0.2, "grad_norm": LG(0.5), "weight_norm": 3 * LG(3)},
    ),
    "one validation loss": ([interval(loss_mean=2.0, loss_last=2.0, val_loss=3.0)],
                            {"has_val": 1.0, "val_gap": 2 * LG(1.5)}),
    "validation at every other interval": (
        [interval(val_loss=val) for val in (3.0, nan, 2.0, nan)],
        {"since_best": 0.3, "has_val": 1.0, "val_total": 2 * LG(2 / 3), "val_slope": 20 * LG(2 / 3),
         "val_gap": 2 * LG(2)},
    ),
    "five validation losses": (
        [interval(val_loss=val) for val in (2.0, 1.5, 1.2, 1.4, 1.6)],
        {"since_best": 0.4, "has_val": 1.0, "val_total": 2 * LG(0.8), "val_slope": 20 * LG(1.6 / 1.4),
         "val_slope_4": 8 * LG(0.8), "val_to_best": 5 * LG(1.6 / 1.2), "val_gap": 2 * LG(1.6)},
    ),
    "an infinite validation loss": (
        [interval(val_loss=1.0), interval(val_loss=inf)],
        {"since_best": 0.1, "has_val": 1.0} | dict.fromkeys(GROUPS["validation"][1:], CLIP),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_histories_by_hand(name: str) -> None:
    intervals, changes = HISTORIES[name]
    assert after(*intervals) == pytest.approx(CLOCK | changes, abs=1e-6)


@pytest.mark.parametrize(
    ("z", "levels", "want"),
    [
        (20.0, {}, {"level": CLIP, "level_to_anchor": CLIP, "level_to_highest": CLIP}),
        (-20.0, {"last_move": -9.0}, {"level": -CLIP, "level_to_anchor": -CLIP, "level_to_highest": -CLIP,
                                      "last_move": -CLIP}),
        (2.0, {"anchor": -2.0, "highest": 1.0, "last_move": -0.5},
         {"level": 1.0, "level_to_anchor": 4.0, "level_to_highest": 1.0, "last_move": -1.0}),
        (nan, {}, {"level": CLIP, "level_to_anchor": CLIP, "level_to_highest": CLIP}),
        (-1.0, {"highest": -inf}, {"level": -0.5, "level_to_anchor": -1.0, "level_to_highest": CLIP}),
    ],
    ids=["far up", "far down", "near", "unknown", "no level before"],
)  # fmt: skip
def test_levels_by_hand(z: float, levels: dict[str, float], want: dict[str, float]) -> None:
    observer = Observer(1, 1000, is_sgd=False)
    observer.add_interval(interval())
    assert observe(observer, interval(), z=z, **levels) == pytest.approx(CLOCK | want, abs=1e-6)


def test_what_some_runs_tell_stays_theirs() -> None:
    """Three runs: one tells its validation loss and the size of its data, one half of it, one nothing."""
    observer = Observer(3, 1000, True, np.array([10.0, 10.0, nan]), np.array([100.0, nan, nan]))
    latest = {name: np.ones(3) for name in telemetry.INTERVAL}
    observer.add_interval(latest | {"val_loss": np.array([4.0, 3.0, nan])})
    observer.add_interval(latest | {"val_loss": np.array([2.0, nan, nan])})
    row = observer.observation(0, *np.zeros((4, 3)), interval=latest, interval_steps=10)
    columns = dict(zip(NAMES, row.T.tolist(), strict=True))
    assert {name: columns[name] for name in (*GROUPS["epochs"], *GROUPS["validation"])} == {
        name: pytest.approx(want, abs=1e-6)
        for name, want in {
            "has_epochs": [1, 1, 0], "log_epochs": [1, 1, 0], "has_examples": [1, 0, 0], "log_examples": [-1, 0, 0],
            "has_val": [1, 1, 0], "val_total": [2 * LG(0.5), 0, 0], "val_slope": [-CLIP, 0, 0],
            "val_slope_4": [0, 0, 0], "val_to_best": [0, 0, 0], "val_gap": [2 * LG(2), 2 * LG(3), 0],
        }.items()
    }  # fmt: skip


def test_validation_before_the_first_decision() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    observer.add_validation(3.0)
    row = observe(observer, None, 0)
    assert row["has_val"] == 1.0
    assert [row[name] for name in GROUPS["validation"][1:]] == [0.0] * 5  # of losses there is none to compare with
    observer.loss0 = np.array([1.5])  # as a probe leaves it
    assert observe(observer, None, 0)["val_gap"] == pytest.approx(2 * LG(2))
    observer.add_validation(np.array([nan]))
    observer.add_validation(np.array([1.5]))
    row = observe(observer, None, 0)
    assert (row["val_slope"], row["val_total"]) == pytest.approx((-CLIP, 2 * LG(0.5)))


def test_an_interval_is_one_step_where_none_is_said() -> None:
    observer = Observer(1, 100, is_sgd=False)
    observer.add_interval(interval())
    row = observer.observation(1, *np.zeros((4, 1)), interval=interval())
    assert row[0, NAMES.index("interval")] == 0.0  # a hundredth of the steps


def test_the_state_remembers_four_intervals_beside_the_present_one() -> None:
    state = Observer(3, 100, is_sgd=False).state_dict()
    shapes = {name: np.shape(value) for name, value in state.items()}
    assert shapes == dict.fromkeys(STATE, (3,)) | {"losses": (5, 3), "vals": (5, 3), "probe": (3, 17), "size": (4, 3)}


def test_a_training_that_is_extended_is_observed_as_the_longer_one() -> None:
    observer = Observer(1, 500, is_sgd=False, steps_per_epoch=10.0)
    observer.total_steps = 1000
    row = after(interval(), observer=observer)
    assert row == pytest.approx(CLOCK | {"has_epochs": 1.0, "log_epochs": 1.0}, abs=1e-6)


def test_an_interval_has_one_step_unless_its_length_is_given() -> None:
    row = Observer(1, 1000, False).observation(9, *np.zeros((4, 1)), interval=interval())
    assert row[0, NAMES.index("interval")] == pytest.approx(-1)


# the probe


def marks(runs: int, **changes: Any) -> probe_curve.Landmarks:
    """Landmarks of equal probes of seven steps, at the levels -2.5, -1.5, ... 3.5."""
    one = {"loss0": 2.0, "blowup": 0.5, "blown": True, "lowest": -0.5, "steepest": -1.5, "noise": 0.25,
           "smooth": [2.0, 2.0, 1.0, 0.5, 4.0, nan, nan]}  # fmt: skip
    return probe_curve.Landmarks(**{name: np.array([value] * runs) for name, value in (one | changes).items()})


GRADIENTS = np.array([[2.0, 2.0, 20.0, 200.0, nan, nan, nan]])
HALF, QUARTER = 3 * LG(0.5), 3 * LG(0.25)
PROBED = {
    "probed": 1.0, "probe_blowup": 0.25, "probe_blown": 1.0, "probe_lowest": -1.0, "probe_steepest": -2.0,
    "probe_noise": 0.5,
    "probe_loss_-3": 0.0, "probe_loss_-2.5": 0.0, "probe_loss_-2": 0.0, "probe_loss_-1.5": HALF / 2,
    "probe_loss_-1": HALF, "probe_loss_-0.5": (HALF + QUARTER) / 2, "probe_loss_0": QUARTER,
    "probe_grad_-2": 0.0, "probe_grad_-1": 1.0, "probe_grad_-0.5": 1.5, "probe_grad_0": 2.0,
}  # fmt: skip


def test_probe_by_hand() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    observer.add_probe(marks(1), GRADIENTS, marks(1).blowup, ONE)
    row = observe(observer, None, 0)
    assert {name: row[name] for name in GROUPS["probe"]} == pytest.approx(PROBED, abs=1e-6)
    assert after(interval(loss_mean=1.0), observer=observer) == pytest.approx(
        CLOCK | PROBED | {"loss_total": HALF * 2 / 3}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "gradients", "want"),
    [
        ({"smooth": [nan] * 7}, GRADIENTS, {n: 0.0 for n in PROBED if n.startswith("probe_loss")}),
        ({}, np.full((1, 7), nan), {n: 0.0 for n in PROBED if n.startswith("probe_grad")}),
        ({"blown": False, "blowup": 3.5}, GRADIENTS,
         {"probe_blown": 0.0, "probe_blowup": 1.75, "probe_lowest": -4.0, "probe_steepest": -5.0,
          "probe_loss_-3": QUARTER, "probe_loss_-2.5": (QUARTER - HALF) / 2, "probe_loss_-2": -HALF,
          "probe_loss_0": -HALF}),
        ({"noise": inf, "loss0": nan}, GRADIENTS,
         {"probe_noise": CLIP} | {n: 0.0 for n in PROBED if n.startswith("probe_loss")}),
    ],
    ids=["no loss", "no gradient", "not blown up", "nothing finite"],
)  # fmt: skip
def test_odd_probes_by_hand(changes: dict[str, Any], gradients: np.ndarray, want: dict[str, float]) -> None:
    observer = Observer(1, 1000, is_sgd=False)
    observer.add_probe(marks(1, **changes), gradients, marks(1, **changes).blowup, ONE)
    row = observe(observer, None, 0)
    assert {name: row[name] for name in want} == pytest.approx(want, abs=1e-6)


def test_a_probe_that_ends_later_leaves_the_others_alone() -> None:
    observer = Observer(2, 1000, is_sgd=False)
    gradients = np.repeat(GRADIENTS, 2, axis=0)
    observer.add_probe(marks(2), gradients, marks(2).blowup, np.array([True, False]))
    np.testing.assert_array_equal(observer.loss0, [2.0, nan])
    assert not observer.probe[1].any()
    first = observer.probe[0].copy()
    observer.add_probe(marks(2, loss0=4.0), gradients, marks(2).blowup, np.array([False, True]))
    np.testing.assert_array_equal(observer.probe[0], first)
    np.testing.assert_array_equal(observer.loss0, [2.0, 4.0])


def test_a_recorded_curve_is_read_from_its_blow_up() -> None:
    loss = bump(30)[None]
    used = np.array([ends(loss[0])[0]])
    landmarks = probe_curve.landmarks(loss, used)
    observer = Observer(1, 1000, is_sgd=False)
    grad = np.where(np.arange(STEPS) < used, 10.0 ** (Z - Z[0]) / 10, nan)[None]
    observer.add_probe(landmarks, grad, landmarks.blowup, ONE)
    row = observe(observer, None, 40)
    edge = landmarks.blowup[0]
    assert row["probe_blowup"] == pytest.approx(edge / 2)
    # Three decades below the edge the curve is flat; the gradient norm grows like the rate, up to the clip.
    assert row["probe_loss_-3"] == pytest.approx(0.0, abs=1e-6)
    assert row["probe_loss_-0.5"] < -0.2
    assert row["probe_grad_-2"] == pytest.approx(edge - 2 - Z[0], abs=1e-5)


# whatever the telemetry

wild = st.floats(allow_nan=True, allow_infinity=True, width=64)
ROWS = 5  # decisions


@given(
    arrays(np.float64, (ROWS, 3, len(telemetry.INTERVAL)), elements=wild),
    arrays(np.float64, (2, 3, 16), elements=wild),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_observations_are_finite_clipped_and_independent(
    reported: np.ndarray, probes: np.ndarray, probed: bool
) -> None:
    """Whatever is reported, every feature is within the clip; and a batch of runs equals single runs bit for bit."""

    def run(which: slice) -> np.ndarray:
        intervals = reported[:, which]
        k = intervals.shape[1]
        epochs = np.array([5.0, nan, 7.0])[which]
        observer = Observer(k, 100, is_sgd=False, steps_per_epoch=epochs)
        if probed:
            loss, used = probes[0, which], np.array([16, 9, 1])[which]
            landmarks = probe_curve.landmarks(loss, used)
            observer.add_probe(landmarks, probes[1, which], landmarks.blowup, np.array([True, False, True])[which])
        rows, z = [], np.array([-1.0, 0.5, 2.0])[which]
        for d in range(ROWS):
            latest = {name: intervals[d, :, i] for i, name in enumerate(telemetry.INTERVAL)}
            observer.add_interval(latest)
            rows.append(observer.observation(20 * d, z, z - 0.3, z + 0.1, z / 9, latest, 20))
        return np.stack(rows)

    together = run(slice(0, 3))
    assert np.isfinite(together).all() and np.abs(together).max() <= CLIP
    for i in range(3):
        np.testing.assert_array_equal(run(slice(i, i + 1))[:, 0], together[:, i])


def test_validation_that_is_masked_leaves_the_rest_alone() -> None:
    masked, shown = (after(interval(loss_mean=2.0, val_loss=val)) for val in (nan, 3.0))
    assert {name for name in NAMES if masked[name] != shown[name]} <= set(GROUPS["validation"])
    assert all(masked[name] == 0.0 for name in GROUPS["validation"])


def test_what_the_table_calls_constant_is() -> None:
    """Over decisions in which everything else changes."""
    observer = Observer(1, 1000, True, 10.0, 500)
    observer.add_probe(marks(1), GRADIENTS, marks(1).blowup, ONE)
    observer.add_validation(1.0)
    rows, rng = [observe(observer, None, 0)], np.random.default_rng(0)
    for d in range(1, 9):
        latest = interval(**{name: rng.uniform(0.5, 1.5) for name in telemetry.INTERVAL})
        observer.add_interval(latest)
        levels = dict(zip(("z", "anchor", "highest", "last_move"), rng.uniform(-1, 1, 4), strict=True))
        rows.append(observe(observer, latest, 100 * d, **levels))
    changing = {name for name in NAMES if len({row[name] for row in rows}) > 1}
    assert changing == {feature.name for feature in FEATURES if not feature.per_run} - {"has_val"}


def test_the_state_goes_through_json_and_does_not_grow() -> None:
    whole, before, resumed = (Observer(2, 1000, False, 10.0) for _ in range(3))
    rng, sizes = np.random.default_rng(0), set()
    for observer in (whole, before):
        observer.add_probe(marks(2), np.repeat(GRADIENTS, 2, axis=0), marks(2).blowup, np.array([True, False]))
    for _ in range(2 * MEMORY):
        latest = {name: rng.uniform(0.5, 1.5, 2) for name in telemetry.INTERVAL}
        whole.add_interval(latest)
        before.add_interval(latest)
        sizes.add(sum(np.size(value) for value in before.state_dict().values()))
    assert tuple(before.state_dict()) == STATE and len(sizes) == 1
    assert before.losses.shape == before.vals.shape == (5, 2)  # the latest, and four to look back
    resumed.load_state_dict(json.loads(json.dumps(before.state_dict())))
    for _ in range(MEMORY):
        latest = {name: rng.uniform(0.5, 1.5, 2) for name in telemetry.INTERVAL}
        rows = []
        for observer in (whole, resumed):
            observer.add_interval(latest)
            rows.append(observer.observation(9, *np.zeros((4, 2)), interval=latest, interval_steps=5))
        np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("is_sgd", [False, True])
def test_the_size_of_a_network_by_hand(is_sgd: bool) -> None:
    """At the edge, level 1, a step of Adam is .01; one of SGD 1 x 4 / sqrt(400) = .2; a weight has .05."""
    observer = Observer(1, 1000, is_sgd)
    observer.set_size(NetworkSize(100.0, 10, 400, np.array([0.05])))
    loss, grad = np.full((1, STEPS), 2.0), np.full((1, STEPS), 4.0)
    observer.add_probe(probe_curve.landmarks(loss, np.array([STEPS])), grad, np.ones(1), ONE)
    row = observe(observer, None, 0)
    size = {name: row[name] for name in GROUPS["size"]}
    step = 0.2 if is_sgd else 0.01
    assert size == pytest.approx({
        "has_size": 1.0, "log_fan_in": 0.0, "log_matrices": 0.0, "log_weights": LG(400) - 5, "log_scale": LG(0.05) + 1,
        "edge_update": LG(step / 0.05) + 1.5,
    }, abs=1e-6)  # fmt: skip


def test_without_a_probe_there_is_no_edge() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    observer.set_size(NetworkSize(100.0, 10, 400, 0.05))
    row = observe(observer, None, 0)
    assert row["has_size"] == 1.0 and row["edge_update"] == 0.0


def test_a_state_of_another_version_is_refused_by_name() -> None:
    state = Observer(1, 1000, is_sgd=False).state_dict()
    with pytest.raises(ValueError, match=r"observer.probe: the saved state has 1 numbers, this version of lrpilot wan"):
        Observer(1, 1000, is_sgd=False).load_state_dict(state | {"probe": [[0.0]]})
