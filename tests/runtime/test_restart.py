"""A training that has learned nothing begins again: when, how often, and that its start comes back."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bundles import write_bundle
from lrpilot.bundle import Bundle
from lrpilot.guard import GuardError
from lrpilot.history import Decision
from lrpilot.restart import Restart, begin_again
from user_training import Training

STEPS = 300


def judged(progress: float = 0.25, loss: float = 1.0, loss0: float = 1.0, level: float = 1.0, highest: float = 1.0,
           anchor: float = 1.0, collapsed: bool = False) -> tuple[bool, bool]:  # fmt: skip
    """Whether a training is sent back, and whether its start is wanted any longer."""
    restart = Restart(1, possible=True)
    values = (np.array([x]) for x in (loss0, level, highest, anchor, collapsed))
    (back,) = restart.judge(progress, np.full((5, 1), loss), *values)
    return bool(back), bool(restart.waiting[0])


@pytest.mark.parametrize(
    ("changed", "back", "waiting"),
    [
        ({}, True, False),
        ({"progress": 0.249}, False, True),  # of its steps a quarter is due
        ({"progress": 0.251}, True, False),
        ({"progress": 0.1, "loss": 0.969}, False, False),  # it has learned: the start may go
        ({"progress": 0.1, "loss": 0.971}, False, True),
        ({"progress": 0.1, "loss0": 100.0, "loss": 97.0}, False, False),  # by three hundredths exactly
        ({"loss": 0.969}, False, False),
        ({"loss": 0.971}, True, False),
        ({"loss": 2.0}, True, False),
        ({"loss": math.nan}, False, False),  # the guards see to that
        ({"progress": 0.1, "loss": math.nan, "collapsed": True}, True, False),  # at once
        ({"loss": math.nan, "collapsed": True}, True, False),
        ({"level": 0.5, "collapsed": True}, True, False),  # wherever the level is
        ({"progress": 0.1, "loss": 0.969, "collapsed": True}, False, False),  # it has learned: the start is gone
        ({"level": 0.5}, False, False),  # the policy has lowered it by half a decade
        ({"level": 0.51}, True, False),
        ({"anchor": 1.5}, False, False),  # low to begin with
        ({"anchor": 1.49}, True, False),
        ({"loss0": -10.0, "loss": -10.0}, True, False),
        ({"loss0": -10.0, "loss": -10.29}, True, False),
        ({"loss0": -10.0, "loss": -10.31}, False, False),
    ],
)
def test_who_is_sent_back(changed: dict[str, float], back: bool, waiting: bool) -> None:
    assert judged(**changed) == (back, waiting)


def test_where_a_training_begins_again() -> None:
    """A decade lower, but no lower than a probe begins; from below that, there."""
    assert begin_again(np.array([1.0, -1.0, -1.6, -2.5, -4.0])).tolist() == [0.0, -2.0, -2.5, -2.5, -2.5]


def test_nobody_is_sent_back_twice_or_before_enough_was_seen() -> None:
    restart, one, calm = Restart(2, possible=True), np.ones(2), np.zeros(2, bool)
    early = np.full((5, 2), np.nan)
    early[:4] = 0.5
    assert not restart.judge(0.1, early, one, one, one, one, calm).any() and restart.waiting.all()
    losses = np.array([[1.0, 1.0], [1.0, 0.9], [1.0, 1.0], [1.0, 1.0], [1.0, 0.94]])  # means of 1 and of .968
    assert restart.judge(0.25, losses, one, one, one, one, calm).tolist() == [True, False]
    assert not restart.judge(0.25, losses, one, one, one, one, calm).any()
    again = Restart(2, possible=True)
    again.load_state_dict(restart.state_dict())
    assert restart.state_dict() == again.state_dict() == {"waiting": [False, False]}
    assert not Restart(2, possible=False).judge(0.25, losses, one, one, one, one, calm).any()


class Hopeless(Training):
    """A net whose weights move, and whose loss stays where it is."""

    def loss(self) -> Tensor:
        return 1.0 + 1e-3 * torch.tanh(self.model(self.x)).mean() * (-1) ** len(self.rates)


def through_first_event(training: Training) -> Decision:
    """Train to the first decision that has an event; that decision."""
    while not any(decision.event for decision in training.scheduler.history):
        training.train(len(training.rates) + 1)
    return training.scheduler.history[-1]


@pytest.fixture(scope="module")
def holds(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that holds the anchor."""
    return Bundle(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx"))


def test_the_start_comes_back_at_a_tenth_of_the_rate(holds: Bundle) -> None:
    training = Hopeless(holds, total_steps=STEPS)
    start = training.everything()["model"]
    last = through_first_event(training)
    assert last.event == "no_progress" and 0.25 * STEPS <= last.step < 0.3 * STEPS
    assert last.level == pytest.approx(training.scheduler.pilot.anchor[0] - 1.0)
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)
    assert not training.optimizer.state_dict()["state"]  # as before the first step
    assert training.saved()["scheduler"]["snapshot"] is None
    training.train(STEPS)
    rest = list(training.scheduler.history)[len([d for d in training.scheduler.history if d.step <= last.step]) :]
    assert {decision.event for decision in rest} == {None}
    assert max(decision.level for decision in rest) <= last.level + 1e-9


def test_afterwards_the_level_stays_below(tmp_path: Path) -> None:
    """Whatever the policy asks for."""
    climbs = Bundle(write_bundle(tmp_path / "policy.onnx", weights={"first": -0.5}, bias=0.2))
    training = Hopeless(climbs, total_steps=STEPS)
    training.train(STEPS)
    events = [decision.event for decision in training.scheduler.history]
    at = events.index("no_progress")
    levels = [decision.level for decision in training.scheduler.history]
    assert set(events[at + 1 :]) == {"recovery"}
    assert levels[at + 1 :] == pytest.approx([max(levels[:at]) - 1.0] * len(levels[at + 1 :]))


def test_a_training_that_learns_keeps_no_copy_for_long(holds: Bundle) -> None:
    training = Training(holds, total_steps=STEPS)
    training.through_probe()
    assert training.saved()["scheduler"]["snapshot"] is not None
    training.train(int(0.15 * STEPS))
    assert training.saved()["scheduler"]["snapshot"] is None
    training.train(STEPS)
    assert "no_progress" not in {decision.event for decision in training.scheduler.history}


@pytest.mark.parametrize("options", [{"guards": False}, {"probe": False}], ids=["no guards", "no probe"])
def test_without_guards_or_probe_there_is_no_second_chance(holds: Bundle, options: dict[str, bool]) -> None:
    training = Hopeless(holds, total_steps=STEPS, **options)
    training.through_probe()
    assert training.saved()["scheduler"]["snapshot"] is None
    training.train(STEPS)
    assert {decision.event for decision in training.scheduler.history} == {None}


def test_resumed_before_it_is_as_if_never_stopped(holds: Bundle) -> None:
    whole = Hopeless(holds, total_steps=STEPS)
    whole.train(40)
    state = whole.saved()
    whole.train(STEPS)
    resumed = Hopeless(holds, total_steps=STEPS)
    resumed.resume(state, 40)
    resumed.train(STEPS)
    assert resumed.rates[40:] == whole.rates[40:] and "no_progress" in {d.event for d in resumed.scheduler.history}
    torch.testing.assert_close(resumed.everything(), whole.everything(), rtol=0, atol=0)


def test_strict_pilots_raise(holds: Bundle) -> None:
    training = Hopeless(holds, total_steps=STEPS, strict=True)
    with pytest.raises(GuardError, match="no_progress"):
        training.train(STEPS)


class Lost(Hopeless):
    """The same, until its weights become nan soon after the probe."""

    def loss(self) -> Tensor:
        return super().loss() * (math.nan if len(self.scheduler.history) == 3 else 1.0)


def test_lost_weights_come_back_at_once(holds: Bundle) -> None:
    training = Lost(holds, total_steps=STEPS)
    start = training.everything()["model"]
    last = through_first_event(training)
    assert last.event == "collapsed" and last.step < 0.1 * STEPS
    assert last.level == pytest.approx(training.scheduler.pilot.anchor[0] - 1.0)
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)
    assert training.saved()["scheduler"]["snapshot"] is None
    before = len(training.scheduler.history)
    training.train(STEPS)
    rest = training.scheduler.history[before:]
    assert {decision.event for decision in rest} == {None}
    assert np.isfinite([list(decision.observation.values()) for decision in rest]).all()
    assert {decision.level for decision in rest} == {last.level}
    assert all(torch.isfinite(p).all() for p in training.model.parameters())
