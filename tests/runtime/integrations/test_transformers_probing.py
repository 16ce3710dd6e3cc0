"""The probe and Trainer: evaluations, early stopping and checkpoints leave it out, and so does who stops."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from lrpilot.integrations.transformers import PilotCallback, create_pilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from trainer_training import N, make, tiny_bert

AT = 9  # steps of the probe, of 16 at most; an epoch's
BEST: dict[str, Any] = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
}


def evaluated(trainer: Trainer) -> list[int]:
    return [int(entry["step"]) for entry in trainer.state.log_history if "eval_loss" in entry]


def begun() -> dict[str, Any]:
    return copy.deepcopy(tiny_bert().state_dict())


def assert_sound(state: dict[str, Any]) -> None:
    torch.testing.assert_close(state, {name: begun()[name] for name in state}, rtol=0, atol=0)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    "often",
    [
        {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "best", **BEST},
        {"eval_strategy": "epoch", "save_strategy": "epoch", **BEST},
        {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "eval_loss"},
    ],
    ids=["best", "epochs", "evaluations alone"],
)
def test_early_stopping_does_not_count_the_probe(
    tmp_path: Path, policy: Bundle, first: bool, often: dict[str, Any]
) -> None:
    """Nor does the choice of the best model; the probe itself goes on undisturbed."""
    whole, _ = make(tmp_path / "whole")
    create_pilot(whole, policy)
    whole.train()
    begin = int(whole.lr_scheduler.pilot.probes.steps[0])
    assert begin > AT

    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())
    pilot = PilotLR(optimizer, N, policy, model=model)
    made, _ = make(tmp_path / "stopped", {"model": model, "optimizers": (optimizer, pilot)}, **often)
    stopping = EarlyStoppingCallback(2)
    for add in (lambda: made.add_callback(PilotCallback(made)), lambda: made.add_callback(stopping))[:: 1 - 2 * first]:
        add()
    made.train()
    at = evaluated(made)
    assert at[0] >= begin == pilot.pilot.probes.steps[0]
    assert len(at) >= 2 or at[-1] == N  # it may stop later, for a reason
    assert made.state.best_global_step in (None, *at)
    assert all(int(file.name.partition("-")[2]) >= begin for file in (tmp_path / "stopped").glob("checkpoint-*"))


class Leaving(TrainerCallback):
    """Leaves the training within the probe, in one of several ways."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != AT - 1:
            return
        assert self.trainer.lr_scheduler.probing
        if self.way == "stop":
            control.should_training_stop = True
        elif self.way == "save":
            control.should_save = control.should_evaluate = True
        elif self.way == "save_model":
            self.trainer.save_model()
        else:
            raise KeyboardInterrupt


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("way", ["stop", "interrupt"])
def test_a_training_that_ends_in_the_probe_leaves_a_sound_model(
    tmp_path: Path, policy: Bundle, way: str, first: bool
) -> None:
    made, _ = make(tmp_path)
    made.model.load_state_dict(begun())
    leaving = Leaving(way)
    leaving.trainer = made
    if first:
        made.add_callback(leaving)
    create_pilot(made, policy)
    if not first:
        made.add_callback(leaving)
    if way == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            made.train()
    else:
        made.train()
    pilot = made.lr_scheduler
    assert pilot.last_epoch == AT - 1 and not pilot.probing and pilot.get_last_lr()[0] <= 1e-3
    assert_sound(made.model.state_dict())
    made.save_model(str(tmp_path / "model"))
    assert_sound(load_file(tmp_path / "model" / "model.safetensors"))


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("way", ["save", "save_model", "save_steps"])
def test_a_checkpoint_in_the_probe_is_sound_and_resumes_bit_for_bit(
    tmp_path: Path, policy: Bundle, way: str, first: bool
) -> None:
    often: dict[str, Any] = {"save_strategy": "steps", "save_steps": AT - 1} if way == "save_steps" else {}
    whole, rates = make(tmp_path, **often)
    leaving = Leaving(way)
    leaving.trainer = whole
    if first and way != "save_steps":
        whole.add_callback(leaving)
    create_pilot(whole, policy)
    if not first and way != "save_steps":
        whole.add_callback(leaving)
    with pytest.warns(UserWarning, match="the probe was ended for a checkpoint"):
        whole.train()
    folder = tmp_path if way == "save_model" else tmp_path / f"checkpoint-{AT - 1}"
    assert_sound(load_file(folder / "model.safetensors"))
    assert whole.lr_scheduler.last_epoch == N and whole.lr_scheduler.history[0].step == AT - 1
    if way != "save_model":
        assert not torch.load(folder / "scheduler.pt", weights_only=True)["probing"]
        resumed, rest = make(tmp_path / "again")
        create_pilot(resumed, policy)
        resumed.train(resume_from_checkpoint=str(folder))
        assert rest.used == rates.used[AT - 1 :]
        torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_an_exception_before_there_is_a_pilot_passes(tmp_path: Path, policy: Bundle) -> None:
    made, _ = make(tmp_path, {"train_dataset": []})
    create_pilot(made, policy)
    with pytest.raises(ValueError, match="num_samples"):
        made.train()
