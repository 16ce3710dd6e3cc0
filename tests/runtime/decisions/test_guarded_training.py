"""Guards in real trainings: each fault is met, what is logged of it, and what the page says."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.guards.injected import PAGE, RESULTS, render
from bundles import write_bundle
from lrpilot.policy_file.bundle import Bundle
from lrpilot.reports.explain import EVENTS
from lrpilot.torch import PilotLR

STEPS = 640
LATE = 300


class Bent(Bundle):
    """A bundle that answers something else from its tenth decision on."""

    def __init__(self, path: Path, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(path)
        self.answer, self.decision = answer, 0

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        self.decision += 1
        said = super().__call__(observation)
        return said if self.decision < 10 else self.answer(said)


def fail(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("disk gone")


def as_said(said: np.ndarray) -> np.ndarray:
    return said


def lately(step: int) -> bool:
    return LATE <= step < LATE + 40


FAULTS: dict[str, dict[str, Callable[..., Any]]] = {  # event -> what goes wrong
    "loss_nonfinite": {"report": lambda step, loss: math.inf if lately(step) else loss},
    "loss_missing": {"report": lambda step, loss: None if step >= LATE else loss},
    "loss_runaway": {"spread": lambda step: 9.0 if lately(step) else 0.3},
    "loss_rise": {"spread": lambda step: 2.0 if lately(step) else 0.3},
    "policy_failed": {"answer": fail},
    "action_nonfinite": {"answer": lambda said: said * math.nan},
    "action_out_of_bounds": {"answer": lambda said: said + 7.0},
}
HARMLESS: dict[str, dict[str, Callable[..., Any]]] = {
    "some losses are nan": {"report": lambda step, loss: math.nan if step % 5 == 2 else loss},
    "some losses are a thousandfold": {"report": lambda step, loss: loss * 1e3 ** (step % 10 == 7)},
    "a few losses are high": {"report": lambda step, loss: loss + 1e3 * (LATE <= step < LATE + 5)},
    "gradient norms are nan": {"norm": lambda step: math.nan if lately(step) else None},
}


def train(fault: dict[str, Callable[..., Any]], folder: Path) -> PilotLR:
    """Linear regression by SGD on batches of 8; the fault is in its data, its loop or its policy."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    target, model = torch.ones(4), torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    policy = Bent(write_bundle(folder / "policy.onnx"), fault.get("answer", as_said))
    scheduler = PilotLR(optimizer, STEPS, policy, probe=False)
    for step in range(STEPS):
        x = torch.randn(8, 4)
        y = x @ target + fault.get("spread", lambda step: 0.3)(step) * torch.randn(8)
        loss = (model(x)[:, 0] - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(grad_norm=fault.get("norm", lambda step: None)(step))
        optimizer.step()
        scheduler.step(fault.get("report", lambda step, loss: loss)(step, loss))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    return scheduler


@pytest.mark.parametrize("event", FAULTS)
@pytest.mark.filterwarnings("ignore")
def test_a_fault_in_a_real_training_is_met(event: str, tmp_path: Path) -> None:
    fault = FAULTS[event]
    history = train(fault, tmp_path).history
    events, levels = [d.event for d in history], np.array([d.level for d in history])
    assert event in events and np.all(np.isfinite(levels))
    before = events[:9] if "answer" in fault else [d.event for d in history if d.step < LATE]
    assert set(before) == {None}
    first = events.index(event)
    holds = event.startswith(("action", "policy")) or event == "loss_missing"
    assert (levels[first] == levels[first - 1]) if holds else (levels[first] < levels[first - 1])
    if not event.startswith(("action", "policy", "loss_missing")):
        # Once it is over, the policy's level comes back; after a runaway, to half a decade below.
        assert levels[-1] == pytest.approx(levels[0] - 0.5 * (event == "loss_runaway"))


@pytest.mark.parametrize("fault", HARMLESS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_evidence_is_no_event(fault: str, tmp_path: Path) -> None:
    history = train(HARMLESS[fault], tmp_path).history
    assert {d.event for d in history} == {None} and len({d.level for d in history}) == 1


def test_after_losses_that_are_not_finite_the_level_is_back_at_once(tmp_path: Path) -> None:
    """Two decisions after the first sound interval."""
    history = list(train(FAULTS["loss_nonfinite"], tmp_path).history)
    last = max(i for i, d in enumerate(history) if d.event == "loss_nonfinite")
    assert history[last + 1].level > history[last].level
    assert history[last + 3].level == history[0].level


@pytest.mark.parametrize(
    ("report", "logged", "events"),
    [
        # A rise, then calm, with a policy that climbs: warned of, and back up again without a word.
        (lambda step, loss: loss + 3.0 * (LATE <= step < LATE + 20), {"loss_rise"}, {"loss_rise"}),
        # One from which the way back is longer.
        (lambda step, loss: loss + 300.0 * (LATE <= step < LATE + 20), {"loss_runaway"}, {"loss_runaway", "recovery"}),
        (lambda step, loss: None if step >= LATE else loss, {"loss_missing"}, {"loss_missing"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_logged(
    report: Any, logged: set[str], events: set[str | None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`loss_missing` once; `recovery` and `unearned`, never as a warning or an info."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    policy = Bent(write_bundle(tmp_path / "policy.onnx"), lambda said: said + 0.9)
    scheduler = PilotLR(torch.optim.SGD(model.parameters(), 0.1), STEPS, policy, probe=False, max_lr=0.1)
    with caplog.at_level("INFO", "lrpilot"):
        for step in range(STEPS):
            loss = (model(x := torch.randn(8, 4))[:, 0] - x.sum(1)).square().mean()
            scheduler.optimizer.zero_grad()
            loss.backward()
            scheduler.optimizer.step()
            scheduler.step(report(step, loss))
    happened = [decision.event for decision in scheduler.history]
    assert set(happened) == events | {None, "unearned"}
    start, *lines = [record.getMessage() for record in caplog.records]
    assert "optimizer steps" in start
    assert {line.split(": ")[1].split(";")[0] for line in lines} == logged
    assert len(lines) == (1 if "loss_missing" in logged else sum(event in logged for event in happened))


def test_guards_can_be_switched_off(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    policy = Bent(write_bundle(tmp_path / "policy.onnx"), lambda said: said + 7.0)
    scheduler = PilotLR(optimizer, 200, policy, probe=False, guards=False)
    for _ in range(200):
        loss = model(torch.ones(1, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    assert {d.event for d in scheduler.history} == {None}
    assert scheduler.history[-1].level == 1.5


# documentation


def test_tables_are_those_of_the_results() -> None:
    page = Path(PAGE).read_text()
    assert render(page, json.loads(Path(RESULTS).read_text())) == page


def test_page_names_every_event() -> None:
    page = Path(PAGE).read_text()
    assert all(f"`{event}`" in page for event in EVENTS)
