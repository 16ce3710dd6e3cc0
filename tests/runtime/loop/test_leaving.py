"""Leaving a training within the probe: by a call, an exception, a break, a checkpoint; what is left is sound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundles import write_bundle
from lrpilot.decisions.guard import GuardError
from lrpilot.policy_file.bundle import Bundle
from user_training import MAKES, N, Training

AT = 9  # steps of the probe, of 16 at most; it has moved the weights, and not ended


def stopped(training: Training, at: int = AT) -> None:
    training.train(at)
    raise KeyboardInterrupt


def stopped_between(training: Training) -> None:
    training.train(AT - 1)
    training.update()  # the scheduler does not know of this step
    raise KeyboardInterrupt


def broken(training: Training) -> None:
    for _ in range(2):
        with training.scheduler:
            training.train(AT)
            break


def returned(training: Training) -> None:
    with training.scheduler:
        return training.train(AT) and None


def called(training: Training) -> None:
    training.train(AT)
    assert training.scheduler.end_probe()


def called_between(training: Training) -> None:
    training.train(AT - 1)
    training.update()
    assert training.scheduler.end_probe()


def raising(way: Callable[[Training], None]) -> Callable[[Training], None]:
    def leave(training: Training) -> None:
        with pytest.raises(KeyboardInterrupt), training.scheduler as scheduler:
            assert scheduler is training.scheduler
            way(training)

    return leave


LEAVE: dict[str, Callable[[Training], None]] = {
    "exception": raising(stopped),
    "exception before step()": raising(stopped_between),
    "break": broken,
    "return": returned,
    "call": called,
    "call before step()": called_between,
}


def same(training: Training, state: dict[str, Any]) -> None:
    torch.testing.assert_close(training.everything(), state, rtol=0, atol=0)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("way", LEAVE)
def test_what_is_left_is_sound(policy: Bundle, way: str, make: str) -> None:
    """Weights, buffers and optimizer to the bit, at a low rate; then the training goes on to its end."""
    training = Training(policy, MAKES[make])
    begun, textbook = training.everything(), {"adam": 1e-3, "sgd": 0.1}[make]
    LEAVE[way](training)
    scheduler = training.scheduler
    same(training, begun)
    assert not scheduler.probing and not scheduler.pilot.probes.steps[0]
    assert 0 < training.optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0] <= textbook
    training.train(N)
    assert scheduler.last_epoch == N and len(scheduler.history) > 10
    first = scheduler.history[0]
    assert first.step == AT and first.lr <= textbook and first.observation["probed"] == 0


@pytest.mark.parametrize("at", [AT - 1, 15], ids=["early", "in the last step"])
def test_a_loss_that_is_told_too_late_does_not_count(policy: Bundle, at: int) -> None:
    """It is that of the probe's weights; the step counts all the same."""
    training = Training(policy, max_lr=1e-2)
    training.train(at)
    training.update()
    training.scheduler.end_probe()
    training.scheduler.step(1e6)
    assert training.scheduler.last_epoch == at + 1
    training.train(N)
    assert training.scheduler.last_epoch == N
    assert max(d.telemetry["loss_mean"] for d in training.scheduler.history if d.telemetry) < 100


@pytest.mark.parametrize(
    ("answer", "options", "level"),
    [
        (0.9, {}, 0.0),  # -1 + 2.5 * 0.9 would be above the textbook's rate
        (0.2, {}, -0.5),
        (-0.8, {}, -3.0),
        (0.2, {"guess": 1.0}, -0.5),  # a guess three decades above
        (math.nan, {}, -1.0),
        (7.0, {}, -1.0),  # no action; the guard takes the anchor
    ],
)
def test_it_goes_on_cautiously(tmp_path: Path, answer: float, options: dict[str, Any], level: float) -> None:
    policy = Bundle(write_bundle(tmp_path / "policy.onnx", bias=answer, squash=False))
    training = Training(policy, **options)
    called(training)
    training.train(AT + 1)
    assert training.scheduler.history[0].level == pytest.approx(level)


def test_a_guess_below_the_policy_counts(tmp_path: Path) -> None:
    policy = Bundle(write_bundle(tmp_path / "policy.onnx", bias=0.2, squash=False))
    training = Training(policy, guess=1e-4)
    called(training)
    training.train(AT + 1)
    assert -1.0 < training.scheduler.history[0].level < -0.5


def test_where_no_probe_runs_nothing_happens(policy: Bundle) -> None:
    """Before the first step, where weights may have been loaded meanwhile; twice; and after the probe."""
    whole, training = Training(policy), Training(policy)
    loaded = training.model.state_dict()["0.bias"].fill_(0.1).clone()
    with training.scheduler:
        pass
    assert torch.equal(training.model.state_dict()["0.bias"], loaded)
    assert not training.scheduler.end_probe() and training.scheduler.probing
    whole.model.load_state_dict(training.model.state_dict())
    training.through_probe()
    training.train(30)
    assert not training.scheduler.end_probe()
    assert training.train(N) == whole.train(N)

    left = Training(policy)
    called(left)
    with torch.no_grad():
        left.model.state_dict()["0.bias"].fill_(0.1)  # by now the user's
    assert not left.scheduler.end_probe()
    assert torch.equal(left.model.state_dict()["0.bias"], loaded)


def test_a_checkpoint_says_whether_the_probe_runs(policy: Bundle) -> None:
    training = Training(policy)
    training.train(AT)
    assert training.saved()["scheduler"]["probing"]
    training.scheduler.end_probe()
    assert not training.saved()["scheduler"]["probing"]


@pytest.mark.parametrize("before", [True, False], ids=["saved, then left", "left, then saved"])
def test_a_training_that_was_left_resumes_bit_for_bit(policy: Bundle, before: bool) -> None:
    whole, resumed = Training(policy), Training(policy)
    whole.train(AT)
    begun = Training(policy).everything()
    if before:
        resumed.resume(whole.saved(), AT)
    whole.scheduler.end_probe()
    if before:
        resumed.scheduler.end_probe()
    else:
        resumed.resume(whole.saved(), AT)
    same(resumed, begun)
    assert resumed.train(N)[AT:] == whole.train(N)[AT:]
    np.testing.assert_equal(list(resumed.scheduler.history), list(whole.scheduler.history))
    same(resumed, whole.everything())


def test_what_strict_raises_leaves_sound_weights(policy: Bundle) -> None:
    """The probe has no evidence, for its losses are not finite."""
    training = Training(policy, strict=True)
    begun = training.everything()
    with pytest.raises(GuardError, match="ended without evidence"), training.scheduler:
        while True:
            training.update()
            training.scheduler.step(math.nan)
    same(training, begun)


class Unreadable(Bundle):
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        raise OSError("the policy is gone")


def test_no_error_of_the_policy_hides_the_exception(policy: Bundle) -> None:
    """The policy is asked at the next step, where its error belongs."""
    training = Training(Unreadable(policy.path), strict=True)
    with contextlib.suppress(KeyboardInterrupt), training.scheduler:
        stopped(training)
    with pytest.raises(OSError, match="the policy is gone"):
        training.update()
