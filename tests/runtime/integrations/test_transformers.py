"""A real Trainer under a pilot: what is fed, resuming, repeated trainings, both ways in, refusals."""

import itertools
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from bundles import write_bundle
from lrpilot.decisions.features import NAMES
from lrpilot.integrations.transformers import PilotCallback, create_pilot
from lrpilot.policy_file.bundle import Bundle, BundleError
from lrpilot.torch import PilotLR
from repository import TOP
from trainer_training import N, examples, make, tiny_bert


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that reacts to whatever it sees."""
    weights = {name: 0.1 * (-1) ** at for at, name in enumerate(NAMES)}
    return Bundle(write_bundle(tmp_path_factory.mktemp("policy") / "policy.onnx", weights=weights))


def logged(trainer: Trainer, name: str) -> dict[int, float]:
    return {entry["step"]: entry[name] for entry in trainer.state.log_history if name in entry}


def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    total = torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum")
    return 3 * total / num_items_in_batch


# What the pilot sees


@pytest.mark.parametrize(
    ("set_up", "trainer"),
    [
        ({}, {}),
        ({"max_grad_norm": 0.01}, {}),
        ({"max_grad_norm": 0.0}, {}),
        ({"gradient_accumulation_steps": 4}, {}),  # 9 batches an epoch: every third step has a single one
        ({"gradient_accumulation_steps": 4}, {"compute_loss_func": mean_loss}),
        ({"label_smoothing_factor": 0.2}, {}),
        ({"gradient_checkpointing": True}, {}),
        ({"bf16": True}, {}),
    ],
    ids=["plain", "clipped", "unclipped", "accumulated", "own loss", "smoothed", "checkpointed", "bf16"],
)
def test_it_sees_what_trainer_logs(tmp_path: Path, policy: Bundle, set_up: dict[str, Any], trainer: Any) -> None:
    """Loss, gradient norm before clipping, and evaluation loss, at the steps where they were; and it sets the rate."""
    made, rates = make(tmp_path, trainer, eval_strategy="steps", eval_steps=25, **set_up)
    create_pilot(made, policy)
    made.train()
    pilot = made.lr_scheduler
    assert isinstance(pilot, PilotLR)
    assert pilot.last_epoch == N == len(rates.used)
    assert list(logged(made, "learning_rate").values()) == rates.used
    loss, norm, val = (logged(made, name) for name in ("loss", "grad_norm", "eval_loss"))
    assert len(loss) == len(norm) == N and len(val) >= 3
    ends = [decision.step for decision in pilot.history][1:]  # a probe that ends early leaves a gap
    telemetry = {decision.step: decision.telemetry for decision in pilot.history if decision.telemetry}
    assert len(telemetry) > 30
    for begin, end in itertools.pairwise(ends):
        steps = range(begin + 1, end + 1)
        assert telemetry[end]["loss_mean"] == pytest.approx(sum(loss[s] for s in steps) / len(steps), rel=1e-4)
        measured = [norm[s] for s in steps][-policy.protocol.cadence.window :]
        assert telemetry[end]["grad_norm"] == pytest.approx(sum(measured) / len(measured), rel=1e-4)
        evaluated = [val[s] for s in range(begin, end) if s in val]
        assert telemetry[end]["val_loss"] == pytest.approx(evaluated[-1] if evaluated else math.nan, nan_ok=True)


def test_the_first_evaluation_set_counts(tmp_path: Path, policy: Bundle) -> None:
    sets = {"near": examples(16, 1), "far": examples(16, 2)}
    made, _ = make(tmp_path, {"eval_dataset": sets}, eval_strategy="steps", eval_steps=20)
    create_pilot(made, policy, probe=False)
    before = made.evaluate()["eval_near_loss"]  # no training, no pilot
    made.train()
    observed = [d.telemetry["val_loss"] for d in made.lr_scheduler.history if d.telemetry]
    near = logged(made, "eval_near_loss")
    assert [v for v in observed if not math.isnan(v)] == [v for step, v in near.items() if step < N]
    assert before not in observed


def test_figures_can_go_where_trainers_go(tmp_path: Path, policy: Bundle) -> None:
    made, _ = make(tmp_path)
    create_pilot(made, policy, log=lambda metrics, step: made.log(metrics))
    made.train()
    levels = [entry["lrpilot/level"] for entry in made.state.log_history if "lrpilot/level" in entry]
    assert levels == [decision.level for decision in made.lr_scheduler.history]


def test_the_arguments_rate_can_be_a_first_guess(tmp_path: Path, policy: Bundle) -> None:
    levels = []
    for options in ({}, {"guess": "optimizer"}, {"guess": 0.02}):
        made, _ = make(tmp_path, learning_rate=0.02)
        create_pilot(made, policy, probe=False, **options)
        made.train()
        levels.append(made.lr_scheduler.history[0].level)
    assert levels[0] != levels[1] == levels[2]


# A loss that blows up while a GradScaler skips its steps


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_skipped_steps_of_a_nan_loss_end_the_probe(tmp_path: Path, policy: Bundle, optim: str) -> None:
    def blown(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(outputs["logits"], labels)
        return loss * math.nan if (model.classifier.weight - start).abs().max() > 0.01 else loss

    model = tiny_bert()
    start = model.classifier.weight.detach().clone()
    made, _ = make(tmp_path, {"model": model, "compute_loss_func": blown}, optim=optim)
    made.accelerator.scaler = torch.amp.GradScaler("cpu")  # what fp16 brings on an accelerator
    create_pilot(made, policy)
    made.train()
    pilot = made.lr_scheduler
    assert math.isnan(pilot.pilot.probes.loss[0, pilot.pilot.probes.steps[0] - 1])
    assert pilot.last_epoch > pilot.pilot.probes.steps[0]  # it went on, once the weights were back
    assert all(p.isfinite().all() for p in model.parameters())


# Stop and resume


def test_resumed_is_as_if_never_stopped(tmp_path: Path, policy: Bundle) -> None:
    """Bit for bit: rates, history and weights, from checkpoints after the probe, in an interval and near the end."""
    often: dict[str, Any] = {
        "eval_strategy": "steps", "eval_steps": 10, "save_strategy": "steps", "save_steps": 19,
        "gradient_accumulation_steps": 2, "bf16": True,
    }  # fmt: skip
    whole, rates = make(tmp_path, **often)
    create_pilot(whole, policy)
    whole.train()
    for step, copied in ((19, True), (38, True), (76, False)):  # copies of the start, of the state before a rise, none
        file = tmp_path / f"checkpoint-{step}" / "scheduler.pt"
        state = torch.load(file, weights_only=True)
        assert (state["snapshot"] is not None) == copied
        resumed, rest = make(tmp_path / "again", **often)
        create_pilot(resumed, policy)
        resumed.train(resume_from_checkpoint=str(file.parent))
        assert rest.used == rates.used[step:]
        assert resumed.lr_scheduler.history == whole.lr_scheduler.history
        for p, q in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(p, q)


def test_a_checkpoint_of_another_length_is_extended(tmp_path: Path, policy: Bundle) -> None:
    made, _ = make(tmp_path, save_strategy="steps", save_steps=40, max_steps=40)
    create_pilot(made, policy)
    made.train()
    longer, _ = make(tmp_path)
    create_pilot(longer, policy)
    longer.train(resume_from_checkpoint=True)  # Trainer swallows the scheduler's warning
    assert longer.lr_scheduler.last_epoch == longer.lr_scheduler.planned_steps == 80


def test_a_checkpoint_without_its_state_is_told(tmp_path: Path, policy: Bundle) -> None:
    made, _ = make(tmp_path, save_strategy="steps", save_steps=40, save_only_model=True)
    create_pilot(made, policy)
    made.train()
    again, _ = make(tmp_path)
    create_pilot(again, policy)
    with pytest.warns(UserWarning, match="checkpoint of step 80 has no state of it"):
        again.train(resume_from_checkpoint=True)


# Several trainings


@pytest.mark.parametrize("afresh", [False, True], ids=["same model", "model_init"])
def test_every_train_call_has_its_own_pilot(tmp_path: Path, policy: Bundle, afresh: bool) -> None:
    made, rates = make(tmp_path, {"model_init": tiny_bert} if afresh else {}, max_steps=-1, num_train_epochs=8)
    create_pilot(made, policy)
    made.train()
    first, rates.used = made.lr_scheduler, []
    assert first.planned_steps == first.last_epoch == 72
    made.args.num_train_epochs = 9
    made.train()
    second = made.lr_scheduler
    assert second.planned_steps == second.last_epoch == 81
    assert first.last_epoch == 72
    loss = logged(made, "loss")
    last = second.history[-1]
    before = second.history[-2].step
    assert last.telemetry["loss_mean"] == pytest.approx(
        sum(loss[s] for s in range(before + 1, last.step + 1)) / (last.step - before), rel=1e-4
    )


# Both ways in


def test_a_pilot_in_optimizers_is_the_same(tmp_path: Path, policy: Bundle) -> None:
    """With groups whose rates differ."""

    def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
        slow, fast = [p for p in model.parameters() if p.ndim < 2], [p for p in model.parameters() if p.ndim >= 2]
        return torch.optim.SGD([{"params": fast}, {"params": slow, "lr": 0.1}], lr=1.0, momentum=0.9)

    used = []
    for by_hand in (False, True):
        model = tiny_bert()
        steps = optimizer(model)
        scheduler = PilotLR(steps, N, policy, model=model) if by_hand else None
        made, rates = make(tmp_path, {"model": model, "optimizers": (steps, scheduler)})
        if by_hand:
            made.add_callback(PilotCallback(made))
        else:
            create_pilot(made, policy)
        made.train()
        assert made.lr_scheduler.optimizer is steps
        first, second = (group["lr"] for group in steps.param_groups)
        assert second == pytest.approx(0.1 * first)
        used.append(rates.used)
    halted = made.lr_scheduler.pilot.probes.halted[0]  # steps at the lowest rate, besides the first
    assert used[0] == used[1] and len(set(used[0])) == N - halted


def scheduler_alone(trainer: Trainer, policy: Bundle) -> None:
    trainer.lr_scheduler = PilotLR(torch.optim.AdamW(trainer.model.parameters()), N, policy)
    trainer.add_callback(PilotCallback(trainer))
    trainer.train()


def twice(trainer: Trainer, policy: Bundle) -> None:
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters())
    trainer.lr_scheduler = PilotLR(trainer.optimizer, N, policy)
    trainer.add_callback(PilotCallback(trainer))
    trainer.train()
    trainer.train()


def callback_alone(trainer: Trainer, policy: Bundle) -> None:
    trainer.add_callback(PilotCallback(trainer))
    trainer.train()


def two_schedulers(trainer: Trainer, policy: Bundle) -> None:
    trainer.create_optimizer_and_scheduler(N)
    create_pilot(trainer, policy)


def two_pilots(trainer: Trainer, policy: Bundle) -> None:
    create_pilot(trainer, policy)
    create_pilot(trainer, policy)


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (scheduler_alone, ValueError, "made for another optimizer .* pass both"),
        (twice, ValueError, "has made 80 steps, and the training begins anew"),
        (callback_alone, TypeError, "trainer.lr_scheduler: LambdaLR, want a PilotLR"),
        (two_schedulers, ValueError, "has a scheduler, LambdaLR, already"),
        (two_pilots, ValueError, "has a PilotCallback already"),
        (lambda trainer, policy: create_pilot(trainer, policy, warmup=3), TypeError, "'warmup'"),
        (lambda trainer, policy: create_pilot(trainer, "nowhere.onnx"), BundleError, "nowhere.onnx"),
    ],
)
def test_refusals(
    tmp_path: Path, policy: Bundle, attempt: Callable[..., None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        attempt(make(tmp_path)[0], policy)


def test_what_is_ignored_is_said(tmp_path: Path, policy: Bundle, recwarn: pytest.WarningsRecorder) -> None:
    create_pilot(make(tmp_path)[0], policy)
    assert not [w for w in recwarn if "lrpilot" in w.filename or "PilotLR" in str(w.message)]
    made, _ = make(tmp_path, lr_scheduler_type="cosine", warmup_steps=5)
    with pytest.warns(UserWarning, match="ignored lr_scheduler_type, warmup_steps; a pilot plans the whole schedule"):
        create_pilot(made, policy)


def test_another_length_is_said(tmp_path: Path, policy: Bundle) -> None:
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())
    made, _ = make(tmp_path, {"model": model, "optimizers": (optimizer, PilotLR(optimizer, 2 * N, policy))})
    made.add_callback(PilotCallback(made))
    with pytest.warns(UserWarning, match="total_steps=160, the training has 80 steps"):
        made.train()


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    runpy.run_path(str(TOP / "examples" / "transformers_bert.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert float(said.rpartition("accuracy")[2].split()[0]) > 0.9
