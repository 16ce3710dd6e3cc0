"""A training that has learned nothing begins again, and one that a rise has ruined goes back to before it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bundles import write_bundle
from lrpilot.bundle import Bundle
from lrpilot.features import BY_NAME, NAMES
from lrpilot.guard import GuardError
from lrpilot.history import Decision
from lrpilot.restart import FURTHER, WATCHED, Restart
from user_training import Training

STEPS = 300


def sent_back(
    restart: Restart, progress: float = 0.25, loss: float = 1.0, loss0: float = 1.0, level: float = 1.0,
    highest: float = 1.0, anchor: float = 1.0, lost: bool = False,
) -> tuple[str, float] | None:  # fmt: skip
    """The event and the level of a training that is sent back; None for one that is not."""
    values = (np.array([x]) for x in (loss0, level, highest, anchor, lost))
    sent = restart.judge(progress, np.full((5, 1), loss), *values)
    return (str(sent.event[0]), float(sent.level[0])) if sent is not None and sent.which[0] else None


def judged(**values: float) -> tuple[bool, bool]:
    """Whether a new training is sent back, and whether its start is wanted any longer."""
    restart = Restart(1, possible=True)
    return sent_back(restart, **values) is not None, bool(restart.keeps_copy[0])  # pyright: ignore[reportArgumentType]


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
        ({"progress": 0.1, "loss": math.nan, "lost": True}, True, False),  # at once
        ({"loss": math.nan, "lost": True}, True, False),
        ({"level": 0.5, "lost": True}, True, False),  # wherever the level is
        ({"progress": 0.1, "loss": 0.969, "lost": True}, False, False),  # it has learned: the start is gone
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


@pytest.mark.parametrize(("highest", "wanted"), [(1.0, 0.0), (-1.0, -2.0), (-1.6, -2.5), (-2.5, -2.5), (-4.0, -2.5)])
def test_where_a_training_begins_again(highest: float, wanted: float) -> None:
    """A decade lower, but no lower than a probe begins; from below that, there."""
    sent = sent_back(Restart(1, possible=True), level=highest, highest=highest, anchor=highest)
    assert sent == ("no_progress", wanted)


def test_nobody_begins_again_twice_or_before_enough_was_seen() -> None:
    restart, one, calm = Restart(2, possible=True), np.ones(2), np.zeros(2, bool)
    early = np.full((5, 2), np.nan)
    early[:4] = 0.5
    sent = restart.judge(0.1, early, one, one, one, one, calm)
    assert sent is not None and not sent.which.any() and restart.keeps_copy.all()
    losses = np.array([[1.0, 1.0], [1.0, 0.9], [1.0, 1.0], [1.0, 1.0], [1.0, 0.94]])  # means of 1 and of .968
    sent = restart.judge(0.25, losses, one, one, one, one, calm)
    assert sent is not None and sent.which.tolist() == [True, False]
    assert restart.judge(0.25, losses, one, one, one, one, calm) is None
    again = Restart(2, possible=True)
    again.load_state_dict(restart.state_dict())
    assert not again.keeps_copy.any()
    assert Restart(2, possible=False).judge(0.25, losses, one, one, one, one, calm) is None


def risen(before: float = 1.0, after: float = 1.5) -> tuple[Restart, bool]:
    """A training that has learned, and whose level was raised; and whether it is to be copied."""
    restart = Restart(1, possible=True)
    assert sent_back(restart, progress=0.1, loss=0.5) is None
    return restart, bool(restart.note(np.array([before]), np.array([after]), np.zeros(1, bool))[0])


@pytest.mark.parametrize(
    ("changed", "back"),
    [
        ({"loss": 2.0}, False),  # the guards see to that
        ({"loss": math.nan}, False),
        ({"loss": math.nan, "lost": True}, True),
        ({"loss": 2e4, "lost": True}, True),
    ],
)
def test_which_rises_are_undone(changed: dict[str, float], back: bool) -> None:
    restart, copied = risen()
    assert copied and restart.keeps_copy[0]
    sent = sent_back(restart, progress=0.6, level=1.5, highest=1.5, **changed)  # pyright: ignore[reportArgumentType]
    assert sent == (("rise_undone", 1.0) if back else None)


def test_a_rise_is_watched_for_some_decisions() -> None:
    restart, _ = risen()
    for left in range(WATCHED, 0, -1):
        assert restart.keeps_copy[0] and restart.watch[0] == left
        assert sent_back(restart, progress=0.6, loss=0.5) is None
    assert not restart.keeps_copy[0] and sent_back(restart, progress=0.6, lost=True) is None


def test_ruined_again_it_goes_further_down() -> None:
    restart, _ = risen()
    for again in range(3):
        assert sent_back(restart, progress=0.6, lost=True) == ("rise_undone", 1.0 - again * FURTHER)
        assert restart.watch[0] == WATCHED
    same = Restart(1, possible=True)
    same.load_state_dict(restart.state_dict())
    assert same.state_dict() == restart.state_dict() == {"waiting": [False], "watch": [4.0], "way_back": [-0.5]}


def test_only_rises_of_what_has_learned_are_copied() -> None:
    up, calm = (np.array([1.0]), np.array([1.5])), np.zeros(1, bool)
    assert not risen(after=1.0)[1] and not risen(after=0.5)[1] and not risen(after=1.0 + 1e-12)[1]
    assert not Restart(1, possible=True).note(*up, calm).any()  # its start is there
    assert not Restart(1, possible=False).note(*up, calm).any()
    assert not risen()[0].note(*up, ~calm).any()  # sent back to a copy, which is still there


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


class Climbs(Hopeless):
    """A loss that climbs further and further, whatever the level is, until the weights become nan."""

    def loss(self) -> Tensor:
        decisions = len(self.scheduler.history)
        return super().loss() * (math.nan if decisions == 11 else 2.0 ** max(decisions - 2, 0))


def test_lost_weights_come_back_where_the_rate_is_not_why_the_loss_climbs(holds: Bundle) -> None:
    training = Climbs(holds, total_steps=STEPS)
    start, history = training.everything()["model"], training.scheduler.history
    exempt = []
    while len(history) < 12:
        training.train(len(training.rates) + 1)
        exempt.append(bool(training.scheduler.pilot._guard.exempt[0]))  # pyright: ignore[reportPrivateUsage]
    assert exempt[-2:] == [True, False]
    assert history[-1].event == "collapsed" and history[-1].step < 0.25 * STEPS
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)


class Ruined(Training):
    """A training whose weights become nan right after its level has risen."""

    def loss(self) -> Tensor:
        history = self.scheduler.history
        return super().loss() * (math.nan if len(history) and history[-1].applied > 0.1 else 1.0)


@pytest.fixture(scope="module")
def late_rise(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that holds its level, until it raises it in the second half of the training."""

    class Late(Bundle):
        def __call__(self, observation: np.ndarray) -> np.ndarray:
            place = observation[:, NAMES.index("progress")] - BY_NAME["progress"].scaled(0.5)
            return np.where((place > 0) & (observation[:, NAMES.index("first")] <= 0), 0.5, 0.0)

    return Late(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx"))


def through_rise(training: Training) -> None:
    """Train to the first decision that raises the level."""
    while not training.scheduler.pilot.rises[0]:
        training.train(len(training.rates) + 1)


def test_a_rise_that_ruins_a_training_is_undone(late_rise: Bundle) -> None:
    training = Ruined(late_rise, total_steps=STEPS)
    through_rise(training)
    before, history = training.everything()["model"], training.scheduler.history
    last = through_first_event(training)
    assert last.event == "rise_undone" and last.level == pytest.approx(history[-3].level)
    torch.testing.assert_close(training.everything()["model"], before, rtol=0, atol=0)
    training.train(STEPS)
    rest = [decision for decision in history if decision.step > last.step]
    assert {decision.event for decision in rest} == {"recovery"}  # the policy asks for more, and does not get it
    assert max(decision.level for decision in rest) <= last.level + 1e-9
    assert all(torch.isfinite(p).all() for p in training.model.parameters())


def test_resumed_within_the_watch_it_is_as_if_never_stopped(late_rise: Bundle) -> None:
    whole = Ruined(late_rise, total_steps=STEPS)
    through_rise(whole)
    steps, state = len(whole.rates), whole.saved()
    whole.train(STEPS)
    resumed = Ruined(late_rise, total_steps=STEPS)
    resumed.resume(state, steps)
    resumed.train(STEPS)
    assert resumed.rates[steps:] == whole.rates[steps:]
    assert "rise_undone" in {decision.event for decision in resumed.scheduler.history}
    torch.testing.assert_close(resumed.everything(), whole.everything(), rtol=0, atol=0)
