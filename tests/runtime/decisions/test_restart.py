"""A training that has learned nothing begins again, and one that a rise has ruined goes back to before it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bundles import write_bundle
from lrpilot.decisions.features import BY_NAME, NAMES
from lrpilot.decisions.guard import GuardError
from lrpilot.decisions.restart import FURTHER, WATCHED, Restart
from lrpilot.policy_file.bundle import Bundle
from lrpilot.reports.history import Decision
from user_training import Training

STEPS = 300
DUE = 16 + 0.25 * (STEPS - 16)  # the probe takes 16 steps, and there is no warm-up


def sent_back(
    restart: Restart, step: int = 100, due: float = 100.0, learned: bool = False, damaged: bool = True,
    level: float = 1.0, high: float = 1.0, lost: bool = False,
) -> tuple[str, float] | None:  # fmt: skip
    """The event and the level of a training that is sent back; None for one that is not."""
    sent = restart.judge(step, *(np.array([x]) for x in (due, learned, damaged, level, high, lost)))
    return (str(sent.event[0]), float(sent.level[0])) if sent is not None and sent.which[0] else None


@pytest.mark.parametrize(
    ("changed", "back", "unlearned"),
    [
        ({}, "no_progress", False),
        ({"step": 99}, None, True),  # not due yet
        ({"due": 100.5}, None, True),
        ({"step": 101}, "no_progress", False),
        ({"damaged": False}, None, False),  # a plateau is no reason, and from now on the start may go
        ({"damaged": False, "step": 99}, None, True),
        ({"learned": True}, None, False),
        ({"learned": True, "step": 1}, None, False),
        ({"lost": True, "step": 1, "damaged": False}, "collapsed", False),  # at once
        ({"lost": True}, "collapsed", False),
        ({"lost": True, "level": 0.5}, "collapsed", False),  # wherever the level is
        ({"lost": True, "step": 1, "learned": True}, None, False),  # it has learned: the start is gone
        ({"level": 0.5}, None, False),  # the policy has lowered it by half a decade
        ({"level": 0.51}, "no_progress", False),
        ({"high": 1.5}, None, False),  # or it was that low to begin with
        ({"high": 1.49}, "no_progress", False),
    ],
)
def test_who_is_sent_back(changed: dict[str, Any], back: str | None, unlearned: bool) -> None:
    restart = Restart(1, possible=True)
    sent = sent_back(restart, **changed)
    assert (sent and sent[0], bool(restart.keeps_copy[0])) == (back, unlearned)


@pytest.mark.parametrize(("high", "wanted"), [(1.0, 0.0), (-1.0, -2.0), (-1.6, -2.5), (-2.5, -2.5), (-4.0, -2.5)])
def test_where_a_training_begins_again(high: float, wanted: float) -> None:
    """A decade lower, but no lower than a probe begins; from below that, there."""
    assert sent_back(Restart(1, possible=True), level=high, high=high) == ("no_progress", wanted)


def test_damage_is_remembered_until_something_is_learned() -> None:
    restart = Restart(1, possible=True)
    assert sent_back(restart, step=40) is None and restart.damaged[0]
    assert sent_back(restart, step=70, damaged=False) is None and restart.damaged[0]
    again = Restart(1, possible=True)
    again.load_state_dict(restart.state_dict())
    assert sent_back(again, damaged=False) == ("no_progress", 0.0)
    assert sent_back(restart, step=70, damaged=False, learned=True) is None and not restart.damaged[0]
    assert sent_back(restart, damaged=True) is None


def test_nobody_begins_again_twice() -> None:
    restart, one, no = Restart(2, possible=True), np.ones(2), np.zeros(2, bool)
    due, learned = np.full(2, 100.0), np.array([False, True])
    sent = restart.judge(100, due, learned, ~no, one, one, no)
    assert sent is not None and sent.which.tolist() == [True, False] and not restart.keeps_copy.any()
    assert restart.judge(150, due, no, ~no, one, one, ~no) is None
    again = Restart(2, possible=True)
    again.load_state_dict(restart.state_dict())
    np.testing.assert_equal(again.state_dict(), restart.state_dict())  # takes nan for equal
    assert not again.keeps_copy.any()
    assert Restart(2, possible=False).judge(100, due, no, ~no, one, one, ~no) is None


@pytest.mark.parametrize(
    ("looks", "vain"),
    [
        ([(199, False), (200, False), (300, False)], [False, True, False]),  # once, after as many steps again
        ([(230, False)], [True]),
        ([(150, True), (200, False)], [False, False]),  # it has learned meanwhile
        ([(200, True), (300, False)], [False, False]),
    ],
)
def test_when_a_second_beginning_was_in_vain(looks: list[tuple[int, bool]], vain: list[bool]) -> None:
    restart = Restart(1, possible=True)
    assert not restart.in_vain(400, np.zeros(1, bool))[0]  # there was none
    assert sent_back(restart, level=0.75) == ("no_progress", 0.0)
    assert restart.level_before_restart.tolist() == [0.75]
    assert [bool(restart.in_vain(step, np.array([learned]))[0]) for step, learned in looks] == vain


def test_a_training_that_lost_its_weights_early_has_as_long_as_any_to_learn() -> None:
    restart = Restart(1, possible=True)
    assert sent_back(restart, step=5, lost=True) == ("collapsed", 0.0)
    assert [bool(restart.in_vain(step, np.zeros(1, bool))[0]) for step in (10, 104, 105)] == [False, False, True]


def risen(before: float = 1.0, after: float = 1.5) -> tuple[Restart, bool]:
    """A training that has learned, and whose level was raised; and whether it is to be copied."""
    restart = Restart(1, possible=True)
    assert sent_back(restart, step=10, learned=True) is None
    return restart, bool(restart.note(np.array([before]), np.array([after]), np.zeros(1, bool))[0])


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_which_rises_are_undone(lost: bool, learned: bool) -> None:
    """Those of trainings whose weights are lost; to all that is merely high the guards see."""
    restart, copied = risen()
    assert copied and restart.keeps_copy[0]
    sent = sent_back(restart, learned=learned, level=1.5, high=1.5, lost=lost)
    assert sent == (("rise_undone", 1.0) if lost else None)


def test_a_rise_is_watched_for_some_decisions() -> None:
    restart, _ = risen()
    for left in range(WATCHED, 0, -1):
        assert restart.keeps_copy[0] and restart.watch[0] == left
        assert sent_back(restart) is None
    assert not restart.keeps_copy[0] and sent_back(restart, lost=True) is None


def test_ruined_again_it_goes_further_down() -> None:
    restart, _ = risen()
    for again in range(3):
        assert sent_back(restart, lost=True) == ("rise_undone", 1.0 - again * FURTHER)
        assert restart.watch[0] == WATCHED
    same = Restart(1, possible=True)
    same.load_state_dict(restart.state_dict())
    np.testing.assert_equal(same.state_dict(), restart.state_dict())
    assert same.return_level.tolist() == [-0.5]


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


class Damaged(Hopeless):
    """The same, and after the probe its gradient has vanished."""

    def loss(self) -> Tensor:
        loss = super().loss()
        return loss if self.scheduler.probing else loss.detach() + 1e-4 * (loss - loss.detach())


def through_first_event(training: Training) -> Decision:
    """Train to the first decision that has an event; that decision."""
    while not any(decision.event for decision in training.scheduler.history):
        assert len(training.rates) < STEPS, "no decision had an event"
        training.train(len(training.rates) + 1)
    return training.scheduler.history[-1]


@pytest.fixture(scope="module")
def holds(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that holds the anchor."""
    return Bundle(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx"))


def test_the_start_comes_back_at_a_tenth_of_the_rate(holds: Bundle) -> None:
    training = Damaged(holds, total_steps=STEPS)
    start = training.everything()["model"]
    last = through_first_event(training)
    assert last.event == "no_progress" and DUE <= last.step < DUE + 0.05 * STEPS
    assert last.level == pytest.approx(training.scheduler.history[0].level - 1.0)
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)
    assert not training.optimizer.state_dict()["state"]  # as before the first step
    assert training.saved()["scheduler"]["snapshot"] is None


def test_a_plateau_is_no_reason_to_begin_again(holds: Bundle) -> None:
    training = Hopeless(holds, total_steps=STEPS)
    training.train(STEPS)
    assert {decision.event for decision in training.scheduler.history} == {None}
    assert training.saved()["scheduler"]["snapshot"] is None


def given_back(training: Training) -> tuple[list[Decision], list[Decision]]:
    """The decisions after a restart, until it was found to be in vain, and those afterwards."""
    training.train(STEPS)
    history = list(training.scheduler.history)
    at = [decision.event for decision in history].index("no_progress")
    later = history[at + 1 :]
    found = next(i for i, decision in enumerate(later) if decision.step >= history[at].step + DUE)
    return later[: found + 1], later[found + 1 :]


def test_a_restart_in_vain_gives_the_level_back(holds: Bundle) -> None:
    training = Damaged(holds, total_steps=STEPS)
    low, rest = given_back(training)
    level = training.scheduler.history[0].level
    assert {d.event for d in low} == {None} and [d.level for d in low] == pytest.approx([level - 1.0] * len(low))
    assert [d.event for d in rest] == ["recovery"] + [None] * (len(rest) - 1) and len(rest) > 5
    assert [d.level for d in rest] == pytest.approx([level] * len(rest))


def test_meanwhile_the_level_stays_below(tmp_path: Path) -> None:
    """Whatever the policy asks for."""
    climbs = Bundle(write_bundle(tmp_path / "policy.onnx", weights={"first": -0.5}, bias=0.2))
    training = Damaged(climbs, total_steps=STEPS)
    low, rest = given_back(training)
    level = max(decision.level for decision in training.scheduler.history)
    assert {d.event for d in low} == {"recovery"} and [d.level for d in low] == pytest.approx([level - 1.0] * len(low))
    assert rest[-1].event == "unearned" and rest[-1].level == pytest.approx(level)  # no higher: nothing was learned


class Healed(Damaged):
    """The same, but it learns once it has begun again."""

    def loss(self) -> Tensor:
        again = any(decision.event == "no_progress" for decision in self.scheduler.history)
        return Training.loss(self) * 0.1 if again else super().loss()


def test_a_restart_that_helped_keeps_the_level(holds: Bundle) -> None:
    training = Healed(holds, total_steps=STEPS)
    low, rest = given_back(training)
    assert len({d.level for d in (*low, *rest)}) == 1


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
    training = Damaged(holds, total_steps=STEPS, **options)
    training.through_probe()
    assert training.saved()["scheduler"]["snapshot"] is None
    training.train(STEPS)
    assert {decision.event for decision in training.scheduler.history} == {None}


@pytest.mark.parametrize("stop", [40, 130], ids=["before", "after"])
def test_resumed_around_it_is_as_if_never_stopped(holds: Bundle, stop: int) -> None:
    """The restart comes at about step 90, and is found to be in vain at 180."""
    whole = Damaged(holds, total_steps=STEPS)
    whole.train(stop)
    state = whole.saved()
    whole.train(STEPS)
    resumed = Damaged(holds, total_steps=STEPS)
    resumed.resume(state, stop)
    resumed.train(STEPS)
    assert resumed.rates[stop:] == whole.rates[stop:]
    assert {"no_progress", "recovery"} < {d.event for d in resumed.scheduler.history}
    torch.testing.assert_close(resumed.everything(), whole.everything(), rtol=0, atol=0)


def test_strict_pilots_raise(holds: Bundle) -> None:
    training = Damaged(holds, total_steps=STEPS, strict=True)
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
    assert last.level == pytest.approx(training.scheduler.history[0].level - 1.0)
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)
    assert training.saved()["scheduler"]["snapshot"] is None
    before = len(training.scheduler.history)
    training.train(int(last.step + DUE))
    rest = training.scheduler.history[before:]
    assert {decision.event for decision in rest} == {None}
    assert np.isfinite([list(decision.observation.values()) for decision in rest]).all()
    assert {decision.level for decision in rest} == {last.level}
    assert all(torch.isfinite(p).all() for p in training.model.parameters())


class Climbs(Hopeless):
    """A loss that climbs further and further, whatever the level is, until the guard knows, and the weights are nan."""

    def loss(self) -> Tensor:
        noise, climbed = 1 + 0.05 * (-1) ** len(self.rates), 1.5 ** max(len(self.scheduler.history) - 2, 0)
        return super().loss() * (math.nan if exempt(self) else noise * climbed)


def exempt(training: Training) -> bool:
    return bool(training.scheduler.pilot.safety.guard.exempt[0])


def test_lost_weights_come_back_where_the_rate_is_not_why_the_loss_climbs(holds: Bundle) -> None:
    training = Climbs(holds, total_steps=STEPS)
    start, history = training.everything()["model"], training.scheduler.history
    while not exempt(training):
        assert "collapsed" not in {decision.event for decision in history}
        training.train(len(training.rates) + 1)
    while exempt(training):
        training.train(len(training.rates) + 1)
    assert history[-1].event == "collapsed" and history[-1].step < DUE
    torch.testing.assert_close(training.everything()["model"], start, rtol=0, atol=0)


class Ruined(Training):
    """A training whose weights become nan right after its level has risen."""

    def loss(self) -> Tensor:
        history = self.scheduler.history
        return super().loss() * (math.nan if len(history) and history[-1].applied > 0.1 else 1.0)


@pytest.fixture(scope="module")
def late_rise(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that holds a low level, until it raises it in the second half of the training."""

    class Late(Bundle):
        def __call__(self, observation: np.ndarray) -> np.ndarray:
            place = observation[:, NAMES.index("progress")] - BY_NAME["progress"].scaled(0.5)
            return np.where(observation[:, NAMES.index("first")] > 0, -0.4, np.where(place > 0, 0.5, 0.0))

    return Late(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx"))


def through_rise(training: Training) -> None:
    """Train to the first decision that raises the level."""
    while not training.scheduler.pilot.rises[0]:
        assert len(training.rates) < STEPS, "no decision raised the level"
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
    # The policy asks for more, and does not get it.
    assert {decision.event for decision in rest} == {"unearned", "recovery"}
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
