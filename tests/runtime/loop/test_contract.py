"""PilotLR's contract with loops and with other schedulers: what it refuses, bears, and costs."""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LinearLR, SequentialLR

from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from user_training import N, Training


def single(policy: Bundle, total_steps: int = N, **kw: Any) -> tuple[nn.Parameter, torch.optim.Optimizer, PilotLR]:
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=1.0)
    return p, optimizer, PilotLR(optimizer, total_steps, policy, **kw)


def tick(optimizer: torch.optim.Optimizer, grad: float = 0.1) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.full_like(p, grad)
    optimizer.step()


@pytest.mark.parametrize("place", [0, 1])
def test_sequential_lr_is_refused_and_nothing_is_ruined(policy: Bundle, place: int) -> None:
    training, want = Training(policy), Training(policy).train(N)
    others = [LinearLR(training.optimizer)]
    others.insert(place, training.scheduler)
    with pytest.raises(TypeError, match=r"PilotLR in a SequentialLR: .* use it alone"):
        SequentialLR(training.optimizer, others, milestones=[5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert training.train(N) == want


@pytest.mark.parametrize("observed", [False, True], ids=["silent", "observed"])
@pytest.mark.parametrize("place", [0, 1])
def test_chained_scheduler_is_refused_at_its_first_step(policy: Bundle, place: int, observed: bool) -> None:
    training = Training(policy)
    if observed:
        training.scheduler.observe(loss=1.0)
    others = [ConstantLR(training.optimizer, factor=1.0)]
    others.insert(place, training.scheduler)
    chained = ChainedScheduler(others, optimizer=training.optimizer)
    before = training.everything()["model"]
    loss = training.update()
    with pytest.raises(TypeError, match=r"PilotLR in a ChainedScheduler: .* use it alone"):
        chained.step()
    training.scheduler.step(loss)  # the probe goes on, and takes that step back
    training.through_probe()
    torch.testing.assert_close(training.everything()["model"], before, rtol=0, atol=0)


def test_metrics_is_a_validation_loss(policy: Bundle) -> None:
    """ReduceLROnPlateau's habit: once per epoch, by keyword."""
    curves = []
    for keyword in (True, False):
        training = Training(policy, guards=False)
        for step in range(N):
            loss, val = training.update(), {"metrics": 2.0 - step / N} if step % 10 == 9 else {}
            if val and not keyword:
                training.scheduler.observe(val_loss=val.pop("metrics"))
            training.scheduler.step(loss, **val)
        curves.append(training.rates)
    assert curves[0] == curves[1] != Training(policy, guards=False).train(N)


EXTENSIONS = {
    "longer": (40, 120),
    "shorter": (40, 60),
    "in the probe": (7, 120),
    "shorter, in the probe": (7, 30),
    "at the end": (N, 120),
    "after the end": (N + 3, 120),
}


@pytest.mark.parametrize("saved", ["before", "after"])
@pytest.mark.parametrize("name", EXTENSIONS)
def test_extended_trainings_resume_bit_for_bit(policy: Bundle, name: str, saved: str) -> None:
    at, total = EXTENSIONS[name]
    whole, first, second = (Training(policy) for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if at > N else "error")
        for training in (whole, first):
            training.train(at)
        whole.scheduler.extend(total)
        if saved == "after":
            first.scheduler.extend(total)
        second.resume(first.saved(), at)
        if saved == "before":
            second.scheduler.extend(total)
        want = whole.train(total)
        assert second.train(total)[at:] == want[at:]
    np.testing.assert_equal(*([asdict(d) for d in t.scheduler.history] for t in (whole, second)))
    last = whole.scheduler.history[-1]
    assert want[-1] <= last.lr and whole.scheduler.get_last_lr()[0] == pytest.approx(want[-1])
    assert last.step > total // 2  # decisions go on


def test_beyond_its_length_the_last_rate_is_kept(policy: Bundle) -> None:
    """That is half a step's share of the peak: peak * 0.5 / N."""
    training = Training(policy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.train(N + 10)
    last = training.scheduler.history[-1]
    lowest = last.lr / (1 - (last.step + 0.5) / N) * 0.5 / N
    assert training.rates[N - 1 :] == pytest.approx([lowest] * 11)
    messages = [str(w.message) for w in caught]
    assert [f"more than total_steps={N} steps" in m and "extend()" in m for m in messages] == [True]
    assert caught[0].filename.endswith("training.py")  # the line of the user's loop


def test_an_observed_loss_is_that_of_the_step(policy: Bundle) -> None:
    """Before or after the optimizer's step; a reported one goes before it."""
    want = Training(policy).train(N)
    for when in ("before", "after", "reported too"):
        training = Training(policy)
        for _ in range(N):
            loss = training.loss()
            if when == "before":
                training.scheduler.observe(loss=loss)
            training.optimizer.zero_grad()
            loss.backward()
            training.rates.append(training.optimizer.param_groups[0]["lr"])
            training.optimizer.step()
            if when != "before":
                training.scheduler.observe(loss=loss if when == "after" else 1e6)
            training.scheduler.step(*([loss] if when == "reported too" else []))
        assert training.rates == want, when


@pytest.mark.parametrize("probe", [True, False], ids=["probed", "unprobed"])
def test_every_decision_is_logged_once(policy: Bundle, probe: bool) -> None:
    """The first one, where it is taken before training, with the first step: a validation loss may change it."""
    logged: list[tuple[int, dict[str, float]]] = []
    training = Training(policy, probe=probe, log=lambda figures, step: logged.append((step, figures)))
    training.scheduler.observe(val_loss=1.0)
    training.scheduler.observe(val_loss=3.0)
    training.train(N)
    decided = [(step, figures["lrpilot/lr"]) for step, figures in logged if not figures["lrpilot/probe"]]
    assert decided == [(d.step, d.lr) for d in training.scheduler.history]


def test_steps_of_the_probe_are_logged_and_marked(policy: Bundle) -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    training = Training(policy, log=lambda figures, step: logged.append((step, figures)))
    losses: list[float] = []
    while training.scheduler.probing:
        loss = training.update()
        losses.append(float(loss))
        training.scheduler.step(loss)
    steps = [step for step, figures in logged if figures["lrpilot/probe"]]
    assert steps == list(range(len(losses)))
    for step, loss in enumerate(losses):
        assert logged[step] == (step, {"lrpilot/lr": training.rates[step], "lrpilot/loss": loss, "lrpilot/probe": 1.0})
    assert len(logged) == len(losses) + 1  # the first decision, and nothing more


class Output(nn.Module):
    """A model that puts out its loss in some form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.w, self.form = nn.Parameter(torch.ones(3)), form

    def forward(self, x: float = 0.0) -> Any:
        return self.form((self.w - x).square().sum())


class Holder:
    def __init__(self, loss: Tensor) -> None:
        self.loss, self.logits = loss, torch.zeros(2, 3)


FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "0-d": (lambda t: t, lambda out: out),
    "one element": (lambda t: t[None], lambda out: out[0]),
    "attribute": (Holder, lambda out: out.loss),
    "entry": (lambda t: {"loss": t, "logits": torch.zeros(2, 3)}, lambda out: out["loss"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_watch_takes_training_losses_alone(policy: Bundle, form: str) -> None:
    put, get = FORMS[form]
    model = Output(put)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = PilotLR(optimizer, N, policy)
    handle = scheduler.watch(model)
    for step in range(10):
        loss = get(model(step % 3))
        assert scheduler.last_epoch == step
        model.eval()
        model(1e6)
        model.train()
        with torch.no_grad():
            model(1e6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        assert scheduler.pilot.probes.loss[0, step] == pytest.approx(loss.item())
    handle.remove()
    with pytest.warns(UserWarning, match="got no loss"):
        model()
        tick(optimizer)
        scheduler.step()


def test_watch_warns_that_there_is_no_loss(policy: Bundle) -> None:
    model = Output(lambda t: torch.stack([t, t]))
    scheduler = PilotLR(torch.optim.SGD(model.parameters(), lr=1.0), N, policy)
    scheduler.watch(model)
    with pytest.warns(UserWarning, match="Output puts out no loss; watch a module that does") as caught:
        model(), model()
    assert len(caught) == 1


def test_rates_that_other_code_changes_are_put_back(policy: Bundle) -> None:
    training, want = Training(policy), Training(policy).train(N)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(N):
            if step in (20, 21, 50):
                training.optimizer.param_groups[0]["lr"] = 9.0
            training.scheduler.step(training.update())
    assert training.rates == want
    assert ["other code changed the groups' rates" in str(w.message) for w in caught] == [True]
