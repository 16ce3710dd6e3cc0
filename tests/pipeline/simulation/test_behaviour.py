"""Behaviours act inside the decision process: what is recorded was applied, a schedule is tracked as far as it lets."""

from pathlib import Path

import numpy as np
import pytest

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.decisions.actions import ActionEquation, reference
from lrpilot.decisions.protocol import Protocol
from pipeline.behaviours import HOLD, POLICY
from pipeline.simulation.behaviour import Behaviour
from pipeline.simulation.recorder import Recording
from pipeline.simulation.schedules import SCHEDULES, multipliers
from pipeline.simulation.simulate import simulate
from tiny import world

N, RUNS = 96, 6
EQUATION = ActionEquation(warm_up=0.0)  # so that rates tell the levels
FACTORS = np.array([EQUATION.envelope(step, N) for step in range(N)])
FIXED = [name for name, schedule in SCHEDULES.items() if not schedule.random]


def behave(
    weights: dict[str, float],
    seed: int = 0,
    exploration: tuple[float, float] = (0.0, 1.0),
    probed: bool = False,
    policies: tuple[Path, ...] = (),
) -> tuple[Behaviour, Recording]:
    """A population of the tiny world under a behaviour, and what it left."""
    loaded = [load_policy(path) for path in policies]
    behaviour = Behaviour(weights, RUNS, N, np.random.default_rng(seed), loaded, exploration)
    return behaviour, simulate(world(n_steps=N), range(RUNS), Protocol(action=EQUATION), behaviour.act, probed=probed)


def bundle(folder: Path, action: float) -> Path:
    """A policy that always names the level `action`."""
    named = ActionEquation(moves=False)
    return write_bundle(folder / f"{action:g}.onnx", bias=float(np.arctanh(action)), action=named)


def places(recording: Recording) -> np.ndarray:
    """(D, RUNS): where between the lowest and the highest that a first action can name the levels are, -1 to 1."""
    assert recording.anchor is not None
    return (np.stack(recording.levels[:-1]) - recording.anchor) / EQUATION.span


@pytest.mark.parametrize("name", FIXED)
def test_a_schedule_is_followed_as_closely_as_a_decision_can(name: str) -> None:
    """In the middle of an interval the rate is the schedule's, or as near to it as the decision comes."""
    behaviour, recording = behave({name: 1.0})
    assert recording.lr_curve is not None
    anchor, peak = np.full(RUNS, EQUATION.anchor), EQUATION.anchor + EQUATION.span * behaviour.first
    curve, before = np.log10(multipliers(name, N)), anchor
    for d in range(len(recording.steps) - 1):
        middle = int(recording.steps[d][0] + recording.steps[d + 1][0]) // 2
        wanted = peak + curve[middle] - np.log10(FACTORS[middle])
        nearest = np.clip(wanted, anchor - EQUATION.span, anchor + EQUATION.span)
        if d > 0:
            nearest = np.clip(wanted, anchor - EQUATION.span, anchor + EQUATION.span)
            nearest = np.clip(nearest, before - EQUATION.fall, before + EQUATION.rise)
        nearest = np.clip(nearest, EQUATION.low, EQUATION.high)
        rate = np.log10(recording.lr_curve[middle]) - reference("adam") - np.log10(FACTORS[middle])
        np.testing.assert_allclose(rate, nearest, atol=1e-9, err_msg=f"decision {d}")
        before = nearest


@pytest.mark.parametrize("probed", [False, True], ids=["unprobed", "probed"])
def test_hold_stays_at_the_level_that_it_draws(probed: bool) -> None:
    behaviour, recording = behave({HOLD: 1.0}, probed=probed)
    assert recording.anchor is not None
    drawn = (recording.anchor + EQUATION.span * behaviour.first).clip(EQUATION.low, EQUATION.high)
    for levels in recording.levels[:-1]:
        np.testing.assert_allclose(levels, drawn, atol=1e-9)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "exponential"])
def test_a_smooth_decay_is_tracked(name: str) -> None:
    """Within a third of a decade at every step, wherever the wanted level is one that an action can name."""
    behaviour, recording = behave({name: 1.0})
    assert recording.lr_curve is not None
    level = EQUATION.anchor + EQUATION.span * behaviour.first + np.log10(multipliers(name, N))[:, None]
    level -= np.log10(FACTORS)[:, None]
    can = (np.abs(level - EQUATION.anchor) < EQUATION.span) & (level > EQUATION.low) & (level < EQUATION.high)
    wanted = 10.0 ** (reference("adam") + level) * FACTORS[:, None]
    can[-3:] = False  # a cosine's last steps fall off a cliff
    assert can.mean() > 0.5
    assert np.abs(np.log10(recording.lr_curve / wanted))[can].max() < 1 / 3


@pytest.mark.parametrize("probed", [False, True], ids=["unprobed", "probed"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_a_behaviour(name: str, probed: bool) -> None:
    behaviour, recording = behave({name: 1.0}, exploration=(0.5, 0.9), probed=probed)
    assert behaviour.names == [name] * RUNS
    assert len(behaviour.actions) == len(recording.steps) - 1
    assert_recorded_actions_were_applied(behaviour, recording)


def assert_recorded_actions_were_applied(behaviour: Behaviour, recording: Recording) -> None:
    """The levels follow from the actions alone, and the learning rates from the levels."""
    assert recording.anchor is not None
    level = recording.anchor
    for d, action in enumerate(behaviour.actions):
        assert (np.abs(action) <= 1).all()
        applied = EQUATION.apply(level, recording.anchor, action, d == 0)
        np.testing.assert_allclose(recording.levels[d], applied, atol=1e-9)
        np.testing.assert_allclose(
            EQUATION.invert(level, recording.anchor, recording.levels[d], d == 0), action, atol=1e-9
        )
        level = recording.levels[d]
        expected = 10.0 ** (reference("adam") + level) * FACTORS[recording.steps[d].astype(int)]
        np.testing.assert_allclose(recording.rates[d], expected, rtol=1e-12)
    np.testing.assert_allclose(behaviour.lr0, 10.0 ** (reference("adam") + recording.levels[0]))


def test_first_levels_cover_the_whole_range() -> None:
    """Stratified: one run in every RUNS-th part of it, in random order."""
    behaviour, _ = behave({"constant": 1.0})
    parts = np.floor((behaviour.first + 1) / 2 * RUNS)
    assert sorted(parts) == list(range(RUNS))


def test_a_policy_behaviour_needs_a_policy() -> None:
    with pytest.raises(ValueError, match=r"'policy' needs collect\.behaviour_policies, a list of bundles"):
        Behaviour({POLICY: 1.0, "constant": 1.0}, 2, N, np.random.default_rng(0))


def test_a_policy_is_followed_with_shifts_and_noise(tmp_path: Path) -> None:
    behaviour, recording = behave({POLICY: 1.0}, policies=(bundle(tmp_path, 0.3),))
    assert_recorded_actions_were_applied(behaviour, recording)
    off = np.abs(places(recording) - 0.3)
    assert np.median(off) < 0.5
    assert off.max() > 0.01


def test_each_run_follows_one_of_the_policies(tmp_path: Path) -> None:
    _, recording = behave({POLICY: 1.0}, policies=(bundle(tmp_path, 0.6), bundle(tmp_path, -0.6)))
    means = np.median(places(recording), axis=0)
    assert (means > 0.2).any()
    assert (means < -0.2).any()


def test_policies_and_schedules_share_a_population(tmp_path: Path) -> None:
    behaviour, recording = behave(
        {POLICY: 1.0, "constant": 1.0}, seed=1, policies=(bundle(tmp_path, 0.3),), probed=True
    )
    assert set(behaviour.names) == {POLICY, "constant"}
    assert_recorded_actions_were_applied(behaviour, recording)


@pytest.mark.parametrize("exploration", [(0.0, 1.0), (0.5, 0.9), (1.0, 1.0)])
def test_a_seed_decides_all(exploration: tuple[float, float]) -> None:
    one, again, other = (behave({"kicks": 1.0, "linear": 1.0}, seed, exploration)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(np.stack(one.actions), np.stack(again.actions))
    assert one.names == again.names
    assert not np.array_equal(np.stack(one.actions), np.stack(other.actions))


def test_exploration_replaces_later_actions_and_fades() -> None:
    plain, never, always = (
        np.stack(behave({"constant": 1.0}, 0, e)[0].actions) for e in ((0.0, 0.5), (0.0, 1.0), (1.0, 0.5))
    )
    np.testing.assert_array_equal(plain, never)
    np.testing.assert_array_equal(always[0], plain[0])  # decision 0 is stratified, not explored
    changed = always[1:] != plain[1:]
    assert changed[0].mean() > changed[10:].mean()
    # far apart, a random action is undone by the schedule at once or in a few moves
    assert np.abs(always[-5:] - plain[-5:]).max() < 1e-6
