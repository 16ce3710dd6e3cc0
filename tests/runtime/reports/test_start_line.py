"""What a scheduler says before the training: one line in the log, and its `repr`."""

from __future__ import annotations

import html
import logging
from typing import Any

import pytest
import torch
from torch import nn

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import Training

CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "nothing known": (
        {},
        ["80 optimizer steps", "are not known", "pass data=loader", "the first 16 steps at most are a probe", "bumps",
         "weights and optimizer state are put back, batch norm's statistics among them",
         "own learning rate, 0.5, is not used"],
        ["passes", "model= is not given"],
    ),
    "data": (
        {"total_steps": None, "epochs": 5, "data": [0] * 32, "accumulate": 2},
        ["80 optimizer steps", "5 passes over an unknown number of examples, 16 steps each, 2 batches per step"],
        ["not known"],
    ),
    "examples": (
        {"steps_per_epoch": 20, "examples": 1200}, ["4 passes over 1,200 examples, 20 steps each"], ["not known"],
    ),
    "examples alone": (
        {"examples": 1200},
        ["1,200 examples; epoch length is not known: pass data=loader or steps_per_epoch="],
        ["passes"],
    ),
    "data that tell nothing": (
        {"data": iter(())}, ["are not known", "pass steps_per_epoch= and examples=, which data= does not tell"],
        ["data=loader"],
    ),
    "data without a length": (
        {"data": iter(()), "examples": 1200},
        ["1,200 examples; epoch length is not known: pass steps_per_epoch=, which data= does not tell"],
        ["data=loader"],
    ),
    "data without examples": (
        {"data": [0] * 20}, ["4 passes over an unknown number of examples, 20 steps each"], ["data=loader"],
    ),
    "one of each": (
        {"total_steps": 1, "steps_per_epoch": 1, "examples": 1},
        ["1 optimizer step; 1 pass over 1 example, 1 step each", "no probe"],
        ["1 steps", "1 passes", "1 examples"],
    ),
    "a guess": (
        {"guess": 3e-4},
        ["0.0003 is a first guess beside what the policy names", "own learning rate, 0.5, is not used"],
        [],
    ),
    "the optimizer's": (
        {"guess": "optimizer"},
        ["own learning rate, 0.5, is a first guess beside what the policy names"],
        ["not used"],
    ),
    "no probe": ({"probe": False}, ["no probe"], ["put back", "batch norm"]),
}  # fmt: skip


def start_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "optimizer step" in r.getMessage() and r.levelname == "INFO"]


@pytest.mark.parametrize("case", CASES)
def test_a_training_begins_with_one_line(case: str, policy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    options, present, absent = CASES[case]
    caplog.set_level(logging.INFO, "lrpilot")
    training = Training(policy, **options)
    shown = repr(training.scheduler)
    steps = training.scheduler.planned_steps
    training.train(steps)
    (line,) = start_lines(caplog)
    for text in present:
        assert text in line and text in shown
    assert not [text for text in absent if text in line or text in shown]
    assert shown.startswith("PilotLR: after 0 steps\n") and repr(training.scheduler).startswith(
        f"PilotLR: after {steps} step"
    )


def test_a_training_without_its_model_is_told_of_batch_norm(policy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrpilot")
    parts = [{"params": [nn.Parameter(torch.ones(9))], "lr": 1e-5}, {"params": [nn.Parameter(torch.ones(1))]}]
    optimizer = torch.optim.Adam(parts)
    scheduler = PilotLR(optimizer, 80, policy)
    optimizer.step()
    (line,) = start_lines(caplog)
    assert "model= is not given, so that batch norm's statistics keep what the probe did to them" in line
    assert "of the groups' own learning rates, 1e-05, 0.001, only the ratios are used" in line
    assert line == "; ".join(text.strip() for text in repr(scheduler).split("\n")[1:])


def test_a_resumed_training_is_not_announced_again(policy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Training(policy), Training(policy)
    caplog.set_level(logging.INFO, "lrpilot")
    first.train(40)
    assert len(start_lines(caplog)) == 1
    caplog.clear()
    second.resume(first.saved(), 40)
    second.train(80)
    assert start_lines(caplog) == [] and "the probe took" in repr(second.scheduler)


def test_one_step_is_no_steps(policy: Bundle) -> None:
    training = Training(policy)
    for steps, title in ((1, "PilotLR: after 1 step"), (2, "PilotLR: after 2 steps")):
        training.train(steps)
        assert repr(training.scheduler).splitlines()[0] == title


class Named(PilotLR):
    """Of a name that HTML must escape."""


Named.__name__ = "<Pilot & co>"


def test_a_notebook_shows_the_same_sentences(policy: Bundle) -> None:
    scheduler = Named(torch.optim.Adam([nn.Parameter(torch.ones(3))]), 80, policy)
    title, *sentences = (html.escape(line.strip()) for line in repr(scheduler).splitlines())
    shown = scheduler._repr_html_()
    assert "&lt;Pilot &amp; co&gt;: after 0 steps" in title and "color" not in shown
    assert shown == f"<div>{title}<ul>{''.join(f'<li>{sentence}</li>' for sentence in sentences)}</ul></div>"
