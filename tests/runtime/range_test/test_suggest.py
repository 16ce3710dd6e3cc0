"""`lrpilot.suggest`: what it says of real trainings, that it puts everything back, what it refuses."""

import copy
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before anything chooses a screen
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrpilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.probing.probe import Probes
from lrpilot.range_test.suggestion import Suggestion, suggestion, wants_another
from lrpilot.torch import PilotLR
from repository import TOP

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, 0.05, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params, 0.5),
    "adamw, tensor rate": lambda params: torch.optim.AdamW(params, torch.tensor(0.5), amsgrad=True),
    "a group at rest": lambda p: torch.optim.SGD([{"params": p[:2], "lr": 0.0}, {"params": p[2:]}], 0.1),
}


class Task:
    """A user's net with batch norm and dropout on noisy data, and a loader that shuffles."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer] = OPTIMIZERS["sgd"], scale: float = 1.0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(2)
        self.x = scale * torch.randn(256, 4)
        self.y = torch.sin(self.x.sum(1, keepdim=True) / scale)
        self.model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.optimizer = make([*self.model.parameters()])
        self.loader = DataLoader(TensorDataset(self.x, self.y), batch_size=16, shuffle=True)
        self.batches = 0

    def loss(self, batch: Any) -> Tensor:
        self.batches += 1
        x, y = batch
        return nn.functional.mse_loss(self.model(x), y)

    def train(self, epochs: int = 1) -> list[float]:
        losses = []
        for _ in range(epochs):
            for batch in self.loader:
                loss = self.loss(batch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
        return losses

    def everything(self) -> dict[str, Any]:
        """Copies of all that is put back."""
        state = self.optimizer.state_dict()
        return copy.deepcopy({
            "model": self.model.state_dict(), "state": state["state"], "groups": state["param_groups"],
            "gradients": [p.grad for p in self.model.parameters()],
            "modes": [module.training for module in self.model.modules()],
            "random": (torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()),
            "hooks": [len(self.optimizer._optimizer_step_pre_hooks), len(self.optimizer._optimizer_step_post_hooks)],
        })  # fmt: skip

    def suggest(self, **kw: Any) -> Suggestion:
        return lrpilot.suggest(self.optimizer, self.loader, self.loss, model=self.model, **kw)


# What it says


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_suggested_rate_trains_better_than_a_tenth_and_ten_times_it(kind: str) -> None:
    task = Task(OPTIMIZERS[kind])
    suggested = task.suggest()
    assert suggested.lr is not None and suggested.blowup is not None
    assert suggested.lr < suggested.lowest <= suggested.blowup

    def final(times: float) -> float:
        other = Task(OPTIMIZERS[kind])
        for group, lr in zip(other.optimizer.param_groups, suggested.lrs, strict=True):
            group["lr"] = times * lr
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(other.optimizer, 6)
        losses = []
        for _ in range(6):
            losses = other.train()
            scheduler.step()
        return math.inf if math.isnan(losses[-1]) else sum(losses)

    assert final(1) < min(final(0.1), final(30))


def test_groups_keep_their_ratios() -> None:
    task = Task(lambda p: torch.optim.Adam([{"params": p[:2], "lr": 1e-4}, {"params": p[2:], "lr": 5e-3}]))
    suggested = task.suggest()
    assert suggested.lr in suggested.lrs and suggested.lrs[1] / suggested.lrs[0] == pytest.approx(50)


def test_the_curve_goes_to_where_the_test_ended_and_repr_says_why() -> None:
    suggested = Task().suggest(steps=60)
    curve = suggested.curve
    assert len(curve.rate) == len(curve.loss) == len(curve.smoothed) < 60
    assert curve.rate[0] == pytest.approx(10**-3.5) and np.all(np.diff(np.log(curve.rate)) > 0)
    assert curve.rate[np.nanargmin(curve.smoothed)] == pytest.approx(suggested.lowest)
    assert suggested.blowup == pytest.approx(curve.rate[-1])
    first, reason, marks = repr(suggested).splitlines()
    assert first == f"Suggestion(lr={suggested.lr:.3g})" and suggested.reason in reason
    assert f"blow-up at {suggested.blowup:.2g}" in marks and "range tests: 1" in marks


def test_plot() -> None:
    suggested = Task().suggest()
    figure, ax = pyplot.subplots()
    assert suggested.plot(ax) is ax and ax.get_xscale() == "log"
    labels = ax.get_legend_handles_labels()[1]
    assert [label.rpartition(" ")[0] for label in labels[2:]] == ["lowest loss", "blow-up", "suggested"]
    pyplot.close(figure)


def curves(*losses: Callable[[float], float], noise: float = 0.0) -> tuple[np.ndarray, list[Probes]]:
    """Range tests of 61 steps: the loss that follows the step of each level, levels a tenth of a decade apart.

    Where a test sends the weights back, the next loss is that of the start.
    """
    tests, rng = [], np.random.default_rng(0)
    for loss in losses:
        probes = Probes(1, 61)
        for step in range(61):
            level = -2.6 + (0 if probes.back[0] else step / 10)
            if probes.record(step, loss(level) + rng.normal(0, noise), math.nan)[0]:
                break
        tests.append(probes)
    return 10.0 ** (-3 + np.linspace(-2.5, 3.5, 61)), tests


def falling(edge: float) -> Callable[[float], float]:
    """Falls by a half between the levels -1 and 0, blows up at `edge`."""
    return lambda z: math.nan if z > edge else 1 - 0.5 * min(max(z + 1, 0), 1)


def of_one(lr: float) -> list[float]:
    return [lr]


@pytest.mark.parametrize("losses, noise, lr, reason", [
    # lowest after level 1.0, not finite after 1.1: a decade below their middle
    ([falling(1.05)], 0.0, -2.95, "A tenth of 0.011, which lies midway"),
    # the medians of three
    ([falling(1.05), falling(0.55), falling(2.05)], 0.0, -2.95, "A tenth of 0.011, which"),
    # one that a wrong batch ended among the lowest rates does not count
    ([falling(-1.9), falling(1.05)], 0.0, -2.95, "A tenth of 0.011, which"),
    # no end: the lowest loss at the last known level, 3.4; the blow-up may lie half a decade above
    ([falling(9)], 0.0, -3 + 3.4 - 0.75, "up to 3.2 the loss does not blow up"),
    ([lambda z: 1.0], 0.0, None, "At no rate does the loss fall"),
    ([lambda z: 1 - 0.009 * (z > 0)], 0.0, None, "At no rate does the loss fall"),
    ([lambda z: 1.0], 0.3, None, "by more than the noise of the batches, "),
    ([lambda z: 1 + 9 ** (z + 2)], 0.0, None, "The loss blows up among the lowest rates already"),
    ([lambda z: 1 + (z + 2.6) / 100], 0.0, None, "At no rate does the loss fall"),
    ([falling(-2), falling(-2)], 0.0, None, "blows up among the lowest rates already"),
])  # fmt: skip
def test_by_hand(losses: list[Callable[[float], float]], noise: float, lr: float | None, reason: str) -> None:
    rates, tests = curves(*losses, noise=noise)
    suggested = suggestion(rates, tests, of_one)
    assert reason in suggested.reason
    if lr is None:
        assert suggested.lr is None and suggested.lrs == ()
    else:
        assert suggested.lr is not None and math.log10(suggested.lr) == pytest.approx(lr)


def test_data_that_break_every_loss_give_no_suggestion() -> None:
    """Also where the weights were put back: the first loss was luck."""
    probes = Probes(1, 61)
    ended = [bool(probes.record(step, 1.0 if step == 0 else math.nan, math.nan)[0]) for step in range(10)]
    assert ended == 9 * [False] + [True]
    suggested = suggestion(10.0 ** (-3 + np.linspace(-2.5, 3.5, 61)), [probes], of_one)
    assert suggested.lr is None and len(suggested.curve.rate) == 0
    assert suggested.reason.startswith("The loss is not finite, or wild, at too many of the lowest rates")


def test_weights_that_a_wrong_batch_ruined_are_put_back() -> None:
    """One batch in ten makes the loss infinite: the suggestion is that of the good ones."""
    task = Task()
    batches = list(task.loader)
    good = lrpilot.suggest(task.optimizer, batches, task.loss, model=task.model)
    with_bad = [*batches[:3], "bad", *batches[3:]]

    def loss(batch: Any) -> Tensor:
        return task.loss(batches[0]) * math.inf if isinstance(batch, str) else task.loss(batch)

    suggested = lrpilot.suggest(task.optimizer, with_bad, loss, model=task.model)
    assert good.lr is not None and suggested.lr is not None
    assert abs(math.log10(suggested.lr / good.lr)) < 0.5


@pytest.mark.parametrize("noise, another", [(0.0, False), (0.3, False), (3.0, True)])
def test_another_test_is_made_where_noise_hides_the_fall(noise: float, another: bool) -> None:
    assert wants_another([])
    assert wants_another(curves(falling(1), noise=noise)[1]) is another
    assert not wants_another(curves(*3 * [falling(1)], noise=noise)[1])


# What it leaves


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "warm"])
@pytest.mark.parametrize("scale", [1.0, 1e18], ids=["calm", "not finite"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_everything_is_put_back_bit_for_bit(kind: str, scale: float, warm: bool) -> None:
    task = Task(OPTIMIZERS[kind], scale)
    if warm:
        task.train()
    task.model[1].eval()  # a mode that a user chose
    before, gradients = task.everything(), [p.grad for p in task.model.parameters()]

    def loss(batch: Any) -> Tensor:
        random.random(), np.random.rand()
        task.model.train()
        return task.loss(batch)

    lrpilot.suggest(task.optimizer, task.loader, loss, model=task.model)
    torch.testing.assert_close(task.everything(), before, rtol=0, atol=0)
    assert all(p.grad is g for p, g in zip(task.model.parameters(), gradients, strict=True))


def test_the_training_that_follows_is_the_one_without() -> None:
    plain, asked = Task(), Task()
    asked.suggest()
    torch.manual_seed(7)
    expected = plain.train(2)
    torch.manual_seed(7)
    assert asked.train(2) == expected
    state = torch.get_rng_state()
    asked.suggest()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_raises_leaves_nothing_behind(error: type[BaseException]) -> None:
    task = Task()
    task.train()
    before = task.everything()

    def loss(batch: Any) -> Tensor:
        if task.batches == 40:
            raise error
        return task.loss(batch)

    with pytest.raises(error):
        lrpilot.suggest(task.optimizer, task.loader, loss, model=task.model)
    torch.testing.assert_close(task.everything(), before, rtol=0, atol=0)


def test_a_schedule_of_ones_own_goes_on() -> None:
    task = Task()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(task.optimizer, 1.0, total_steps=50)
    before = scheduler.get_last_lr()
    task.suggest()
    assert [group["lr"] for group in task.optimizer.param_groups] == before
    scheduler.step()


def test_a_pilot_may_follow(policy: Bundle) -> None:
    task = Task()
    task.suggest()
    scheduler = PilotLR(task.optimizer, 100, policy)
    assert scheduler.last_epoch == 0
    del scheduler
    task.suggest()


# What it takes


def test_batches_from_anywhere() -> None:
    losses = {}
    batches = [(x, y) for x, y in zip(Task().x.split(16), Task().y.split(16), strict=True)]

    def endless() -> Iterator[Any]:
        while True:
            yield from batches

    for name, data in {"list": batches, "generator": endless(), "iterator": iter(batches * 7)}.items():
        task = Task()
        losses[name] = lrpilot.suggest(task.optimizer, data, task.loss).curve.loss.tolist()
    for name in ("generator", "iterator"):
        np.testing.assert_array_equal(losses[name], losses["list"])  # nan where an odd batch was left out


def test_a_generator_goes_on_after_the_last_batch_that_was_taken() -> None:
    task = Task()
    stream = iter(range(1000))
    lrpilot.suggest(task.optimizer, stream, lambda i: task.loss((task.x[i % 200 :][:16], task.y[i % 200 :][:16])))
    assert next(stream) == task.batches


def test_a_second_test_that_lacks_batches_is_left_out() -> None:
    task = Task(OPTIMIZERS["adam"])
    noise = [(task.x[:16], torch.randn(16, 1)) for _ in range(45)]  # nothing to learn: more tests are wanted
    suggested = lrpilot.suggest(task.optimizer, iter(noise), task.loss, steps=30)
    assert suggested.lr is None and suggested.tests == 1 and task.batches == 45


def test_a_hook_that_clips_is_part_of_the_training() -> None:
    task = Task(scale=1e3)
    free = task.suggest()

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(task.model.parameters(), 1e-3)

    task.optimizer.register_step_pre_hook(clip)
    clipped = task.suggest()
    assert clipped.lowest > free.lowest


def test_no_grad_around_it_does_no_harm() -> None:
    with torch.no_grad():
        assert Task().suggest().lr is not None
        assert not torch.is_grad_enabled()


def test_autocast_is_the_users() -> None:
    task = Task()

    def loss(batch: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return task.loss(batch)

    assert lrpilot.suggest(task.optimizer, task.loader, loss, model=task.model).lr is not None


REFUSED: dict[str, tuple[Callable[[Task], dict[str, Any]], type[Exception], str]] = {
    "no optimizer": (lambda t: {"optimizer": t.model}, TypeError, "optimizer: Sequential"),
    "no data": (lambda t: {"data": []}, ValueError, "data: 0 batches, then no more, want 100"),
    "short": (lambda t: {"data": iter([*t.loader])}, ValueError, "data: 16 batches, then no more, want 100"),
    "short, with a check": (
        lambda t: {"data": iter([*t.loader]), "loss_fn": lambda b: t.loss(b) * (9 if t.batches >= 12 else 1)},
        ValueError,
        "data: 16 batches, then no more, want 100",
    ),
    "no iterable": (lambda t: {"data": 3}, TypeError, "data: int, want batches"),
    "a number": (lambda t: {"loss_fn": lambda b: t.loss(b).item()}, TypeError, "loss_fn: returned float"),
    "a tuple": (lambda t: {"loss_fn": lambda b: (t.loss(b), 1)}, TypeError, "loss_fn: returned tuple"),
    "a vector": (lambda t: {"loss_fn": lambda b: t.model(b[0])}, ValueError, r"shape \(16, 1\), want one .* loss.mean"),
    "detached": (lambda t: {"loss_fn": lambda b: t.loss(b).detach()}, ValueError, "loss_fn: the loss has no gradient"),
    "nan": (lambda t: {"loss_fn": lambda b: t.loss(b) * math.nan}, ValueError, "loss_fn: the first loss is nan"),
    "few steps": (lambda t: {"steps": 5}, ValueError, "steps: 5, want at least 30"),
    "half a step": (lambda t: {"steps": 50.5}, TypeError, "steps: 50.5, want an int"),
    "frozen": (lambda t: t.model.requires_grad_(False) and {}, ValueError, "optimizer: no parameter requires"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    change, error, message = REFUSED[case]
    task = Task()
    arguments = {"optimizer": task.optimizer, "data": task.loader, "loss_fn": task.loss} | (change(task) or {})
    before = task.everything()
    with pytest.raises(error, match=message):
        lrpilot.suggest(**arguments, model=task.model)
    torch.testing.assert_close(task.everything(), before, rtol=0, atol=0)


def test_an_optimizer_that_a_pilot_drives_is_refused(policy: Bundle) -> None:
    task = Task()
    scheduler = PilotLR(task.optimizer, 100, policy)
    before = task.everything()
    with pytest.raises(ValueError, match="optimizer: a PilotLR drives it"):
        task.suggest()
    torch.testing.assert_close(task.everything(), before, rtol=0, atol=0)
    assert scheduler.last_epoch == 0


def test_it_is_loaded_when_it_is_asked_for() -> None:
    assert lrpilot.suggest is lrpilot.torch.suggest
    with pytest.raises(AttributeError, match="no attribute 'sugest'"):
        lrpilot.sugest  # noqa: B018
    code = "import lrpilot, sys; assert 'torch' not in sys.modules; lrpilot.suggest; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(TOP / "runtime")})
