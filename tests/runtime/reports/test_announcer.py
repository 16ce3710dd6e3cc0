"""What PilotLR says to its user: each warning once, and every decision to `log`, whatever `log` does."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lrpilot.policy_file.bundle import Bundle
from user_training import N, Training


@contextmanager
def messages() -> Iterator[list[str]]:
    """Every warning in the block."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in caught]


def silent_step(training: Training) -> None:
    training.update()
    training.scheduler.step()


def test_a_resumed_training_does_not_repeat_its_warnings(policy: Bundle) -> None:
    first, second = Training(policy, probe=False), Training(policy, probe=False)
    with messages() as said:
        silent_step(first)
    assert len(said) == 1 and "got no loss" in said[0]
    second.resume(first.saved(), 1)
    with messages() as said:
        silent_step(second)
    assert said == []


def test_the_end_is_warned_of_again_once_it_was_moved(policy: Bundle) -> None:
    training = Training(policy, total_steps=5)
    for total in (5, 12):
        training.scheduler.extend(total)
        with messages() as said:
            training.train(total)
        assert said == []
        with messages() as said:
            training.train(total + 2)
        assert len(said) == 1 and f"more than total_steps={total}" in said[0]


def test_a_log_that_fails_is_warned_of_and_the_training_goes_on(policy: Bundle) -> None:
    def full(metrics: dict[str, float], step: int) -> Any:
        raise OSError("disk full")

    training = Training(policy, log=full)
    with messages() as said:
        rates = training.train(N)
    assert said == ["PilotLR: log: OSError: disk full; the training goes on without"]
    assert rates == Training(policy).train(N)
    with pytest.raises(ValueError, match="PilotLR: log: OSError: disk full"):
        Training(policy, log=full, strict=True).train(N)
