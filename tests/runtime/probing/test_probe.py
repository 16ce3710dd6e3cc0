"""The probe's landmarks: the blow-up through noise and without, and what a curve says else."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curves import STEPS, Z, bump, climb, ends
from lrpilot.probing import evidence, probe, probe_curve
from lrpilot.probing.broken_losses import WILD


def test_levels_and_memory_of_the_average_by_hand() -> None:
    np.testing.assert_allclose(probe_curve.levels(7), [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    # exp of minus a step in units of 0.3 decades: a tenth, a whole decade, the six of two steps and of one
    for steps, keep in ((61, 0.7165313), (7, 0.0356740), (2, 2.0611536e-9), (1, 2.0611536e-9)):
        assert probe_curve.smoothing(steps) == pytest.approx(keep, rel=1e-6)


@pytest.mark.parametrize(
    ("probe_steps", "losses", "before", "weight", "line"),
    [
        # `before`: the average of the losses before the latest, which weighs `weight`. Of six losses it weighs .9643 at
        # a memory of k = .0357, and .2835 / (1 - k^6) = .3278 at k = .7165. A loss that never moves may not rise.
        (7, [1.0] * 5, 1.0, 0.964326, 1 + probe_curve.ROUNDING),
        (7, [1.0] * 4, 1.0, 0.964326, 1 + probe_curve.ROUNDING),
        (7, [-2.0] * 5, -2.0, 0.964326, -2 + 2 * probe_curve.ROUNDING),
        (61, [1.0] * 5, 1.0, 0.327832, 1 + probe_curve.ROUNDING),
        # Three of the four moves are none: no scatter. The average falls by .9643, to the best, 9.0357, ...
        (7, [10.0] * 4 + [9.0], 9.035674, 0.964326, 9.035674 * (1 + probe_curve.RISE)),
        # ... of a loss with an offset, to 999.0357, of which a half is far more than what it falls.
        (7, [1000.0] * 4 + [999.0], 999.035674, 0.964326, 999.035674 + probe_curve.FAR * 0.964326),
        # One of seven moves is left out as large: no scatter. The loss falls by 8, to near nothing (k = .1889).
        (13, [8.0] * 3 + [0.0] * 5, 0.001910, 0.811124, 0.001910 + probe_curve.GIVEN_BACK * (8 - 0.001910)),
        # Moves of 2: a deviation of the average of .9649 * 2 / .728, twice for luck at the best, and then the width.
        (7, [1.0, -1.0, 1.0, -1.0, 1.0, -1.0], -0.931109, 0.964326,
         -0.931109 + (probe_curve.LUCK + evidence.WIDTH) * 0.964939 * 2 / evidence.NORMAL),
        # The latest loss counts in no scatter: the moves before it are 1.
        (7, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 0.034445, 0.964326,
         0.034445 + (probe_curve.LUCK + evidence.WIDTH) * 0.964939 / evidence.NORMAL),
    ],
)  # fmt: skip
def test_the_line_of_a_suspicious_rise_by_hand(
    probe_steps: int, losses: list[float], before: float, weight: float, line: float
) -> None:
    done, edge = len(losses) + 1, before + (line - before) / weight
    slack = 1e-3 * (edge - before)
    loss = np.full((2, probe_steps), math.nan)
    loss[:, :done] = [[*losses, edge - slack], [*losses, edge + slack]]
    assert probe_curve.blew_up(loss, done).tolist() == [False, True]


def test_after_four_losses_the_fifth_can_have_risen() -> None:
    for calm in (3, 4):
        loss = np.full((1, 7), math.nan)
        loss[0, : calm + 1] = [1.0] * calm + [9.0]
        assert probe_curve.blew_up(loss, calm + 1)[0] == (calm >= probe_curve.SETTLE)


@pytest.mark.parametrize(
    ("highest", "steps"),
    # Seven levels, a decade apart, from -2.5; the last is the first that is not below `highest`.
    [(math.inf, 7), (9.0, 7), (3.5, 7), (2.6, 7), (2.5, 6), (0.4, 4), (0.6, 5), (-2.5, 1), (-9.0, 1)],
)
def test_a_probe_ends_with_its_last_level(highest: float, steps: int) -> None:
    probes, took = climb(np.ones(7), highest=highest)
    assert took == probes.steps[0] == np.isfinite(probes.loss).sum() == steps
    marks = probes.landmarks()
    assert (marks.blown.tolist(), marks.blowup.tolist()) == ([False], [probe_curve.HIGH])


def test_landmarks_by_hand() -> None:
    """Seven levels, a decade apart; an average there is nearly the loss itself. Four runs.

    The first ends with its last level, the second with the fifth loss, after the level 0.5 (what stands behind does not
    count), the third not at all. The fourth is steepest after its lowest loss, which does not count either.
    """
    loss = np.array([
        [4.2, 3.8, 3.0, 1.0, 2.0, 2.5, 9.0],
        [-4, -4, -6, -7, 9, -50, -50],
        [2, 1, 3, 3, 3, 3, 3],
        [4, 4, 3, 1, 5, 1.5, 1.5],
    ])  # fmt: skip
    marks, nan = probe_curve.landmarks(loss, np.array([7, 5, 7, 7])), math.nan
    assert marks.blown.tolist() == [True, True, False, False]
    assert marks.blowup.tolist() == [2.5, 0.5, 3.5, 3.5]
    assert marks.lowest.tolist() == [-0.5, -0.5, -2.5, -0.5]
    assert marks.steepest.tolist() == [-0.5, -1.5, -2.5, -0.5]
    np.testing.assert_allclose(marks.loss0, [4.0, -4.0, 1.5, 4.0])
    np.testing.assert_allclose(marks.noise, [0.4 / math.sqrt(2) / 4, 0.0, math.sqrt(0.5) / 1.5, 0.0])
    np.testing.assert_allclose(marks.smooth[0, :2], [3.8138, 3.0290], atol=1e-3)
    np.testing.assert_allclose(marks.smooth[1, 2:], [-6.9618, 8.4306, nan, nan, nan], atol=1e-3)


@pytest.mark.parametrize(
    ("probe_steps", "loss0", "noise"),
    [
        (13, 7 / 3, math.sqrt((1 + 4) / 2 / 2) * 3 / 7),  # the levels -2.5, -2 and -1.5: losses of 1, 2 and 4
        (5, 1.5, math.sqrt(1 / 2) / 1.5),  # -1 lies beyond, but of one loss there is no noise
        (25, 31 / 5, math.sqrt((1 + 4 + 16 + 64) / 4 / 2) * 5 / 31),
    ],
)
def test_the_loss_before_training_is_that_of_the_first_decade(probe_steps: int, loss0: float, noise: float) -> None:
    marks = probe_curve.landmarks(2.0 ** np.arange(probe_steps)[None], np.array([probe_steps]))
    assert (marks.loss0, marks.noise) == (pytest.approx(loss0), pytest.approx(noise))


def test_probes_by_hand() -> None:
    """The first run's loss is nan at the third step, which is left out; both blow up at the last."""
    probes, nan = probe.Probes(2, 6), math.nan
    assert [probe.Probes(1, n).running.item() for n in (0, 1)] == [False, True]
    assert probes.running.tolist() == [True, True]
    losses = [[1.0, 2.0], [0.9, 1.9], [nan, 1.8], None, [0.8, 1.7], [7.0, 70.0]]
    ended = [probes.record(step, loss, [step, 10.0 * step]).tolist() for step, loss in enumerate(losses)]
    assert ended == [[False, False]] * 5 + [[True, True]]
    assert probes.steps.tolist() == [6, 6] and not probes.running.any()
    np.testing.assert_allclose(probes.loss, [[1, 0.9, nan, 0.9, 0.8, 7], [2, 1.9, 1.8, 1.8, 1.7, 70]])
    np.testing.assert_array_equal(probes.grad_norm, [[0, 1, nan, 3, 4, 5], [0, 10, 20, 30, 40, 50]])
    assert probes.landmarks().blown.tolist() == [True, True]


@pytest.mark.parametrize("at", [27, 30, 36])
def test_blowup_is_found_where_it_is(at: int) -> None:
    used, marks = ends(bump(at))
    assert at < used <= at + 2
    assert marks.blown[0] and abs(marks.blowup[0] - Z[at - 1]) <= 2 * (Z[1] - Z[0])
    assert marks.loss0[0] == pytest.approx(2.0)
    assert marks.noise[0] == pytest.approx(0.0, abs=1e-9)
    assert Z[15] <= marks.steepest[0] <= Z[26]
    assert Z[22] <= marks.lowest[0] <= marks.blowup[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.1 * WILD])
@pytest.mark.parametrize("at", [1, 3, 20])
def test_a_curve_that_ends_with_a_broken_loss_has_blown_up(at: int, bad: float) -> None:
    """However few losses there were before."""
    curve = np.ones((1, STEPS))
    curve[0, at] = bad
    marks = probe_curve.landmarks(curve, np.array([at + 1]))
    assert marks.blown[0] and marks.blowup[0] == Z[at - 1]


@pytest.mark.parametrize(
    "curve", [np.ones(STEPS), np.zeros(STEPS), np.linspace(2, 1, STEPS), 1 + 0.3 * (np.arange(STEPS) % 2)]
)
def test_a_calm_curve_is_probed_to_its_end(curve: np.ndarray) -> None:
    used, marks = ends(curve)
    assert used == STEPS and not marks.blown[0] and marks.blowup[0] == probe_curve.HIGH


@pytest.mark.parametrize("seed", range(10))
def test_a_blowup_is_found_through_noise(seed: int) -> None:
    noise = np.random.default_rng(seed).gamma(25, 1 / 25, STEPS)  # a deviation of 0.2
    used, marks = ends(bump(30) * noise)
    assert 30 <= used <= 33 and marks.blown[0]


def test_loss_of_a_step_judges_the_rate_before_it() -> None:
    curve = np.linspace(2.0, 1.0, STEPS)
    _, marks = ends(curve)
    keep = probe_curve.smoothing(STEPS)
    np.testing.assert_allclose(marks.smooth[0, :-1], probe_curve.smooth_curve(curve[None], keep)[0, 1:])
    assert np.isnan(marks.smooth[0, -1])


def test_smoothing_by_hand() -> None:
    np.testing.assert_allclose(
        probe_curve.smooth_curve(np.array([[1.0, 3.0, np.nan, 1.0]]), 0.5), [[1.0, 7 / 3, np.nan, np.nan]]
    )


def test_probes_side_by_side_end_one_by_one() -> None:
    curves = np.stack([bump(27), np.linspace(2, 1, STEPS)])
    probes, (alone, took) = probe.Probes(2, STEPS), climb(bump(27))
    used = int(alone.steps[0])
    assert used < took < STEPS
    for step in range(STEPS):
        ended = probes.record(step, curves[:, step], grad_norm=3.0)
        assert ended.tolist() == [step + 1 == took, step + 1 == STEPS]
    assert probes.steps.tolist() == [used, STEPS] and not probes.running.any()
    for curve in (probes.loss, probes.grad_norm):
        assert np.isnan(curve[0, used:]).all() and np.isfinite(curve[0, :used]).all() and np.isfinite(curve[1]).all()
    assert probes.landmarks().blown.tolist() == [True, False]


def test_a_step_without_a_loss_repeats_the_one_before() -> None:
    probes = probe.Probes(1, STEPS)
    for step, loss in enumerate((3.0, None, 2.0)):
        probes.record(step, loss, math.nan)
    assert probes.loss[0, :3].tolist() == [3.0, 3.0, 2.0]


worlds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def walks(rng: np.random.Generator, runs: int, probe_steps: int, broken: float) -> np.ndarray:
    """Losses (runs, probe_steps) that fall, some of which rise in the end; odd and broken ones among them."""
    z = np.arange(probe_steps) / probe_steps
    losses = np.exp(-z * rng.uniform(0, 2, (runs, 1)) + rng.normal(0, rng.uniform(0, 0.3), (runs, probe_steps)))
    losses *= 1 + 10.0 ** (30 * (z - rng.uniform(0.3, 1.5, (runs, 1))))
    losses *= np.where(rng.random((runs, probe_steps)) < 0.05, 10.0 ** rng.uniform(0, 3, (runs, probe_steps)), 1.0)
    bad = rng.choice([math.nan, math.inf, -math.inf, 1e9], (runs, probe_steps))
    return np.where(rng.random((runs, probe_steps)) < broken, bad, losses)


def ends_broken(loss: np.ndarray) -> bool:
    """Whether the last of the losses (n,) that a curve covers is not finite, or wild."""
    if not len(loss) or not math.isfinite(loss[-1]):
        return len(loss) > 0
    largest = np.abs(loss[:-1][np.isfinite(loss[:-1])]).max(initial=0.0)
    return abs(loss[-1]) > WILD * largest > 0


@given(
    worlds, st.integers(1, 5), st.sampled_from([16, 40, 240]), st.sampled_from([0.0, 0.02, 0.2]), st.integers(0, 60),
    st.sampled_from([math.inf, 1.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_streamed_probes_equal_recomputed_ones(
    rng: np.random.Generator, runs: int, probe_steps: int, broken: float, stop: int, highest: float
) -> None:
    """Bit for bit, of each run whatever runs beside it, and saved and resumed in between.

    A finished curve has blown up, to who recomputes its landmarks, exactly where other batches have confirmed an edge,
    or where it ends with a broken loss.
    """
    losses = walks(rng, runs, probe_steps, broken)
    together = probe.Probes(runs, probe_steps, highest)
    alone = [probe.Probes(1, probe_steps, highest) for _ in range(runs)]
    for step in range(probe_steps):
        before = together.loss.copy()
        np.testing.assert_array_equal(together.levels(step), [one.levels(step)[0] for one in alone])
        ended = together.record(step, losses[:, step], losses[:, step])
        if step == stop:
            state, together = together.state_dict(), probe.Probes(runs, probe_steps, highest)
            together.load_state_dict(json.loads(json.dumps(state)))
        for i in range(runs):
            assert alone[i].record(step, losses[i, step], losses[i, step])[0] == ended[i]
            assert alone[i].back[0] == together.back[i]
        still = ~together.running & ~ended
        np.testing.assert_array_equal(together.loss[still], before[still])
    assert not together.running.any()
    whole = vars(together.landmarks())
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(together.loss[i], one.loss[0])
        for name, value in vars(one.landmarks()).items():
            np.testing.assert_array_equal(whole[name][i], value[0])
        covered = together.loss[i, : together.steps[i]]
        assert np.isnan(together.loss[i, together.steps[i] :]).all()
        assert whole["blown"][i] == (together.suspect[i] >= 0 or ends_broken(covered))
        if together.steps[i] and not together.broken_losses.undecided[i]:  # else its end was taken back
            on_curve = together.loss[i][np.isfinite(together.loss[i])]
            curve = probe_curve.smooth_curve(on_curve[None], probe_curve.smoothing(probe_steps))
            np.testing.assert_array_equal(together.curve[i, : len(on_curve)], curve[0])


def test_gaps_are_no_part_of_a_curve() -> None:
    """A curve with gaps has the landmarks of one without, at the levels of the losses that are left."""
    loss, gaps = bump(30), np.array([0, 7, 8, 28])
    gapped = loss.copy()
    gapped[gaps] = math.nan
    rest = np.delete(loss, gaps)
    marks = probe_curve.landmarks(np.stack([gapped, loss]), np.array([33, 33]))
    keep, columns = probe_curve.smoothing(STEPS), np.delete(np.arange(33), gaps)
    curve = probe_curve.smooth_curve(rest[None, : len(columns)], keep)[0]
    np.testing.assert_array_equal(marks.smooth[0, columns[:-1]], curve[1:])
    assert np.isnan(np.delete(marks.smooth[0], columns[:-1])).all()
    assert marks.blown.tolist() == [True, True] and marks.blowup.tolist() == [Z[31], Z[31]]
    assert marks.lowest[0] == Z[columns[np.argmin(curve[1:])]] and marks.loss0.tolist() == [2.0, 2.0]
    empty = probe_curve.landmarks(np.full((1, STEPS), math.nan), np.array([0]))
    assert (empty.blown[0], empty.blowup[0]) == (False, probe_curve.HIGH) and math.isnan(empty.loss0[0])


@pytest.mark.parametrize(
    ("losses", "steps", "left_out", "back"),
    [
        # Seven levels a decade apart, from -2.5. `back`: after which steps the weights are put back.
        ([1, math.nan, 1, 1, 1, 1, 1], 7, [1], [1]),
        ([1, 2e4, 1, 1, 1, 1, 1], 7, [1], [1]),
        ([1, 1e4, 1, 1, 1, 1, 1], 7, [], []),
        ([math.nan, math.nan, math.nan, 1, 1, 1, 1], 7, [0, 1, 2], [0, 1, 2]),
        ([31, 1, 1, 1, 1, 1, 1], 7, [0, 1, 2], [2]),  # the first was wild: its successors are those of ruined weights
        ([29, 1, 1, 1, 1, 1, 1], 7, [], []),
        ([31, 1, 2, 1, 1, 1, 1], 7, [], []),
        ([math.nan, 1, math.nan, 1, 1, 1, 1], 7, [0, 2], [0, 2]),  # below zero it takes three
        ([1, math.nan, 1, 1, math.nan, 1, 1], 2, [], [1]),  # at 1.5 two are enough
        ([1, math.nan, 1, 1, 1, math.nan, 1], 6, [1], [1, 5]),  # three good ones clear the rate; the last is open
        ([1, 1, 1, 1, 1, math.nan, math.nan], 6, [], [5]),
        ([1, 1, 1, 1, 1, 1, math.nan], 7, [], []),
    ],
)  # fmt: skip
def test_which_steps_are_left_out_by_hand(
    losses: list[float], steps: int, left_out: list[int], back: list[int]
) -> None:
    probes, sent = probe.Probes(1, 7), []
    for step, loss in enumerate(losses):
        probes.record(step, loss, 1.0)
        sent += [step] if probes.back[0] else []
        if not probes.running[0]:
            break
    used = probes.loss[0, : probes.steps[0]]
    assert (probes.steps[0], sent) == (steps, back)
    assert np.flatnonzero(~np.isfinite(used[:-1])).tolist() == left_out


def test_a_training_that_was_put_back_catches_up_unseen() -> None:
    """Its loss fell from 8 to 2 before; 8 again is no rise, and what it reaches anew is the measure of later ones."""
    probes = probe.Probes(1, 60)
    for step, loss in enumerate([8.0] * 12 + [2.0] * 18 + [math.nan] + [8.0] * 3 + [4.0] * 12):
        assert not probes.record(step, loss, 1.0)[0]
    held = probes.curve[0, 29]
    assert held == pytest.approx(2.0, abs=0.05)
    np.testing.assert_array_equal(probes.loss[0, 31:46], held)
    assert not probes.record(46, 4.5, 1.0)[0]
    assert held < probes.loss[0, 46] == pytest.approx(held + 0.5, abs=0.1)
    assert not probes.record(47, 1.5, 1.0)[0] and probes.loss[0, 47] == 1.5
    ended = [bool(probes.record(step, 9.0, 1.0)[0]) for step in range(48, 60)]
    assert ended.index(True) == probe.VOTES - 1 and probes.steps.tolist() == [49]


def test_a_training_that_lags_behind_is_not_taken_for_one_beyond_the_edge() -> None:
    """Its weights were put back, so other batches have 8 again; what is odd is the 60."""
    probes = probe.Probes(1, 60)
    for step, loss in enumerate([8.0, 8.1] * 6 + [2.0, 2.1] * 9 + [math.nan] + [8.0] * 4 + [60.0]):
        assert not probes.record(step, loss, 1.0)[0]
    assert probes.suspect[0] == 35 and probes.line[0] < 8
    assert [int(probes.suspect[0]) for step in (36, 37) if not probes.record(step, 8.0, 1.0)[0]] == [35, -1]
