"""A probe's edge: other batches confirm it, or leave an odd loss out, while the climb halts at the lowest level."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curves import STEPS, Z, bump, climb
from lrpilot.probing import probe, probe_curve
from lrpilot.probing.probe import ACQUITTING, ENOUGH, SEVERAL, TOP, VOTES
from stationary import DRAWS

# Falls by an eightieth from level to level, with a little noise.
CALM = 2 - np.arange(STEPS) / 80 + 0.02 * (np.arange(STEPS) % 2)
ODD = 50.0
LOSSES = {"A": 9.0, "B": 1.0, "N": math.nan, "+": math.inf, "-": -math.inf}  # of other batches: above, below, broken


def with_odd(*columns: int) -> np.ndarray:
    """CALM, with odd losses at these levels of the climb."""
    loss = CALM.copy()
    loss[[*columns]] = ODD
    return loss


def halted(loss: np.ndarray, checks: Iterable[str], highest: float = math.inf) -> tuple[probe.Probes, list[float]]:
    """A probe of losses (STEPS,) by level, which meets `checks` while its climb halts, and the levels of its steps."""
    probes, checks, levels = probe.Probes(1, len(loss), highest), iter(checks), []
    at = 0
    while probes.running[0] and len(levels) < len(loss):
        levels.append(float(probes.levels(len(levels))[0]))
        if probes.suspect[0] < 0:
            value, at = loss[at], at + 1
        else:
            value = LOSSES[next(checks)]
        probes.record(len(levels) - 1, value, 1.0)
    assert not probes.running[0] and not [*checks]
    return probes, levels


# an outlier


@pytest.mark.parametrize("size", [5.0, 300.0, 9e3])
@pytest.mark.parametrize("at", [8, 20, 33])
def test_an_outlier_costs_two_steps(at: int, size: float) -> None:
    loss = CALM.copy()
    loss[at] *= size
    probes, took = climb(loss, others=CALM)
    marks, covered = probes.landmarks(), STEPS - ACQUITTING
    assert (took, probes.steps[0], probes.halted[0]) == (STEPS, covered, ACQUITTING)
    assert (marks.blown[0], marks.blowup[0]) == (False, probe_curve.HIGH)
    assert np.flatnonzero(np.isnan(probes.loss[0, :covered])).tolist() == [at]
    assert math.isnan(probes.grad_norm[0, at]) and math.isinf(probes.warning_level[0])
    np.testing.assert_array_equal(np.delete(probes.loss[0, :covered], at), np.delete(CALM[:covered], at))


@pytest.mark.parametrize("odd", [(8,), (20,), (28,), (10, 11)], ids=str)
def test_outliers_do_not_move_the_edge(odd: tuple[int, ...]) -> None:
    """Where one batch ended the probe, the edge would be decades lower."""
    plain = bump(29)
    loss, others = plain.copy(), plain.copy()
    loss[[*odd]] *= 100
    (undisturbed, _), (probes, _) = climb(plain), climb(loss, others)
    blowup, wanted = (float(one.landmarks().blowup[0]) for one in (probes, undisturbed))
    assert probes.landmarks().blown[0] and wanted < 2.0
    assert abs(blowup - wanted) <= 1.001 * (Z[1] - Z[0])


@pytest.mark.parametrize("at", [27, 30])
def test_an_edge_is_where_the_loss_rose_first(at: int) -> None:
    """The steps that confirm it move it nowhere, and are on no curve."""
    probes, took = climb(bump(at))
    used = int(probes.steps[0])
    assert at < used <= at + 2 and took == used + VOTES - 1
    np.testing.assert_array_equal(probes.loss[0, :used], bump(at)[:used])
    assert np.isnan(probes.loss[0, used:]).all() and probes.landmarks().blowup[0] == Z[used - 2]


# how other batches decide


@pytest.mark.parametrize(
    ("checks", "convicted", "warned"),
    [
        ("A" * (VOTES - 1), True, False),  # the first is the suspicious loss itself
        ("B" + "A" * VOTES, True, False),
        ("AAB" + "A" * (VOTES - 2), True, False),
        ("B" * ACQUITTING, False, False),
        ("A" * (SEVERAL - 2) + "B" * ACQUITTING, False, False),
        ("A" * (SEVERAL - 1) + "B" * ACQUITTING, False, True),
        ("A" * (VOTES - 2) + "B" * ACQUITTING, False, True),
        ("BA" * (ACQUITTING - 1) + "B", False, False),
        ("N", True, False),
        ("BN", True, False),
        ("A+", True, False),
        ("-", True, False),
    ],
)
def test_other_batches_decide_by_hand(checks: str, convicted: bool, warned: bool) -> None:
    """The climb halts at the lowest level after level 20, and goes on with level 21."""
    at, n = 20, len(checks)
    probes, levels = halted(with_odd(at), checks)
    climbed = [] if convicted else Z[at + 1 : STEPS - n].tolist()
    assert levels == [*Z[: at + 1].tolist(), *[probe_curve.LOW] * n, *climbed]
    assert probes.halted[0] == n and probes.landmarks().blown[0] == convicted
    assert probes.steps[0] == (at + 1 if convicted else STEPS - n)
    assert probes.landmarks().blowup[0] == (Z[at - 1] if convicted else probe_curve.HIGH)
    assert probes.warning_level[0] == (Z[at - 1] if warned else math.inf)


@pytest.mark.parametrize(
    ("before", "at", "checks", "blown"),
    [
        # `before`: odd losses that were left out before, each of which has taken two steps.
        (0, STEPS - 1, "", True),
        (0, STEPS - 2, "A", True),
        (0, STEPS - 2, "B", False),
        (0, STEPS - TOP, "A" + "B" + "A" * (TOP - 3), True),  # one more above than below is enough at the top
        (1, STEPS - TOP, "B", False),
        (1, STEPS - TOP, "A", True),
        (1, STEPS - TOP - 1, "A" * (ENOUGH - 1), True),  # further down it takes three more
        (1, STEPS - TOP - 1, "A" * (ENOUGH - 2) + "B", False),
        (1, STEPS - TOP - 2, "A" * (ENOUGH - 1) + "B", False),
        (1, STEPS - TOP - 2, "A" * ENOUGH, True),
    ],
)
def test_a_suspicion_at_the_end_of_the_steps_by_hand(before: int, at: int, checks: str, blown: bool) -> None:
    probes, levels = halted(with_odd(*[5] * before, at), "BB" * before + checks)
    assert len(levels) == STEPS == at + 1 + ACQUITTING * before + len(checks)
    marks = probes.landmarks()
    assert (marks.blown[0], marks.blowup[0]) == ((True, Z[at - 1]) if blown else (False, probe_curve.HIGH))
    assert probes.steps[0] == (at + 1 if blown else at)


@pytest.mark.parametrize(("checks", "blown"), [("B" * ACQUITTING, False), ("A" * (VOTES - 1), True)])
def test_a_suspicion_at_the_highest_level_is_checked_beyond_it(checks: str, blown: bool) -> None:
    last = int(np.sum(Z < 0.0))  # the first that is not below
    probes, levels = halted(with_odd(last), checks, highest=0.0)
    assert levels == [*Z[: last + 1].tolist(), *[probe_curve.LOW] * len(checks)]
    assert probes.landmarks().blown[0] == blown and probes.steps[0] == last + blown


def test_a_loss_that_is_repeated_is_no_other_batch() -> None:
    """Loops may report no loss; the one before, which is the suspicious one, says nothing anew."""
    probes = probe.Probes(1, STEPS)
    for step in range(9):
        probes.record(step, with_odd(8)[step], 1.0)
    for step in range(9, 9 + 2 * VOTES):
        assert not probes.record(step, None, 1.0)[0] and probes.suspect[0] == 8
        assert (probes.above[0], probes.below[0], probes.levels(step + 1)[0]) == (1, 0, probe_curve.LOW)
    for step in range(9 + 2 * VOTES, 9 + 2 * VOTES + ACQUITTING):
        probes.record(step, 1.9, 1.0)
    assert probes.suspect[0] < 0 and probes.levels(9 + 2 * VOTES + ACQUITTING)[0] == Z[9]


def test_a_step_that_a_loop_skips_for_its_loss_convicts() -> None:
    probes = probe.Probes(1, STEPS)
    for step in range(21):
        assert not probes.record(step, with_odd(20)[step], 1.0)[0]
    assert probes.miss(21)[0] and not probes.running[0]
    assert probes.steps[0] == 21 and probes.landmarks().blowup[0] == Z[19]


# losses of any unit


@given(st.integers(0, 2**32 - 1).map(np.random.default_rng), st.sampled_from([16, 40]), st.integers(-60, 60))
@settings(max_examples=30, deadline=None)
def test_the_unit_of_the_loss_changes_no_verdict(rng: np.random.Generator, probe_steps: int, exponent: int) -> None:
    draw = DRAWS[rng.choice([*DRAWS])]
    losses = draw(rng, (8, probe_steps)) - np.arange(probe_steps) * rng.uniform(0, 0.1) + rng.choice([0.0, 9.0])
    probes = probe.Probes(8, probe_steps), probe.Probes(8, probe_steps)
    for step in range(probe_steps):
        for one, scale in zip(probes, (1.0, 2.0**exponent), strict=True):
            one.record(step, scale * losses[:, step], 1.0)
        for name in ("running", "suspect", "above", "below", "halted", "steps", "warning_level"):
            np.testing.assert_array_equal(*(getattr(one, name) for one in probes))
    np.testing.assert_array_equal(probes[0].landmarks().blowup, probes[1].landmarks().blowup)


# false edges

SAFE = 1.7  # level: where a false edge is no higher, the first rate is far too low
RUNS, FALSE = 1000, 0.005


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("probe_steps", [16, 40])
def test_losses_that_go_nowhere_have_no_edge(probe_steps: int, name: str) -> None:
    """Of a thousand probes, five at most; measured were at most one in a thousand of three thousand each."""
    losses = DRAWS[name](np.random.default_rng(1), (RUNS, probe_steps))
    probes = probe.Probes(RUNS, probe_steps)
    for step in range(probe_steps):
        probes.record(step, losses[:, step], 1.0)
    marks = probes.landmarks()
    assert not probes.running.any()
    assert np.mean(marks.blown & (marks.blowup < SAFE)) <= FALSE
