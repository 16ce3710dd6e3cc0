"""PilotLR in real loops: the clock, the probe's roll-back, resuming, groups, fallbacks."""

import copy
import io
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bundles import write_bundle
from lrpilot import telemetry
from lrpilot.actions import ActionEquation
from lrpilot.bundle import Bundle
from lrpilot.features import NAMES
from lrpilot.guard import GuardError
from lrpilot.rates import optimizer_kind
from lrpilot.sampler import Sampler
from lrpilot.torch import PilotLR

N = 80  # steps; the probe takes 16 of them
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": lambda params, **kw: torch.optim.SGD(params, momentum=0.9, **kw),
}


def bundle(folder: Any, seed: int = 0, spread: float = 0.05, **kw: Any) -> Bundle:
    drawn = np.random.default_rng(seed).normal(0, spread, len(NAMES)).tolist()
    return Bundle(write_bundle(folder / "policy.onnx", weights=dict(zip(NAMES, drawn, strict=True)), **kw))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle(tmp_path_factory.mktemp("policy"))


class Loop:
    """A user's training of a small net on fixed data; `scale` is that of the inputs."""

    def __init__(self, policy: Bundle, optimizer: str = "adam", scale: float = 1.0, **kw: Any) -> None:
        torch.set_num_threads(1)
        rng = torch.Generator().manual_seed(1)
        self.x = scale * torch.randn(64, 4, generator=rng)
        self.y = torch.sin(self.x.sum(1, keepdim=True) / scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), lr=kw.pop("lr", 0.5))
        self.scheduler = PilotLR(self.optimizer, kw.pop("total_steps", N), policy, model=self.model, **kw)
        self.rates: list[float] = []

    def loss(self) -> Tensor:
        at = 16 * (len(self.rates) % 4)
        return nn.functional.mse_loss(self.model(self.x[at : at + 16]), self.y[at : at + 16])

    def update(self) -> Tensor:
        """One optimizer step, not yet told to the scheduler."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    def train(self, steps: int) -> list[float]:
        for _ in range(steps):
            self.scheduler.step(self.update())
        return self.rates

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds, through a real one."""
        file = io.BytesIO()
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def resume(self, state: dict[str, Any], done: int) -> None:
        for name in ("model", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(state[name])
        self.rates = [math.nan] * done


def tensors(loop: Loop) -> dict[str, Any]:
    """Copies of everything that a roll-back must put back."""
    return copy.deepcopy({"model": loop.model.state_dict(), "optimizer": loop.optimizer.state_dict()["state"]})


@pytest.mark.parametrize("warm", [0, 5], ids=["fresh", "warm"])
@pytest.mark.parametrize("scale", [1.0, 1e4], ids=["calm", "blown"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_probe_is_rolled_back_bit_for_bit(policy: Bundle, optimizer: str, scale: float, warm: int) -> None:
    loop = Loop(policy, optimizer, scale)
    if warm:  # optimizer state and statistics that are not fresh
        del loop.scheduler
        for _ in range(warm):
            loop.update()
        loop.scheduler = PilotLR(loop.optimizer, N, policy, model=loop.model)
    before, steps = tensors(loop), 0
    while not loop.scheduler.history:
        loop.train(1)
        steps += 1
    assert steps <= loop.scheduler.pilot.cadence.probe_steps
    torch.testing.assert_close(tensors(loop), before, rtol=0, atol=0)
    assert not any(p.grad.any() for p in loop.model.parameters())  # they belong to weights that are gone
    loop.train(N - steps)
    assert all(math.isfinite(rate) and rate > 0 for rate in loop.rates)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_initial_rate_is_no_input(policy: Bundle, optimizer: str) -> None:
    runs = [Loop(policy, optimizer, lr=lr) for lr in (1e-5, 1e-3, 1e-1)]
    rates = [loop.train(N) for loop in runs]
    assert rates[0] == rates[1] == rates[2]
    torch.testing.assert_close(tensors(runs[0])["model"], tensors(runs[2])["model"], rtol=0, atol=0)


def test_probe_ends_early_where_the_loss_blows_up(policy: Bundle) -> None:
    loop = Loop(policy, "sgd")
    loop.y *= 1e3  # momentum SGD at 10 and more cannot hold this
    loop.train(N)
    assert loop.scheduler.pilot.probes.steps[0] < loop.scheduler.pilot.cadence.probe_steps
    assert math.isfinite(loop.loss().item())


def test_probe_returns_to_weights_loaded_after_construction(policy: Bundle) -> None:
    loop = Loop(policy)
    with torch.no_grad():
        for p in loop.model.parameters():
            p.mul_(0.5)
    loaded = [p.detach().clone() for p in loop.model.parameters()]
    while not loop.scheduler.history:
        loop.train(1)
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), loaded, strict=True))


def test_roll_back_restores_state_kept_in_groups(policy: Bundle) -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["k"] = self.param_groups[0].get("k", 0) + 1
            return super().step(closure)

    p = nn.Parameter(torch.ones(3))
    optimizer = Counting([p], lr=1.0)
    optimizer.param_groups[0]["k"] = 0
    scheduler = PilotLR(optimizer, N, policy)
    while not scheduler.history:
        p.grad = p.detach().clone()
        optimizer.step()
        scheduler.step(float(p.detach().square().sum()))
    assert optimizer.param_groups[0]["k"] == 0


@pytest.mark.parametrize("probe", [True, False], ids=["probed", "unprobed"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resume_equals_never_stopping(policy: Bundle, optimizer: str, probe: bool) -> None:
    whole = Loop(policy, optimizer, probe=probe)
    expected = whole.train(N)
    assert len(whole.scheduler.history) > 5

    @settings(max_examples=25, deadline=None)
    @given(kill=st.integers(0, N - 1), between=st.booleans())
    def resumes(kill: int, between: bool) -> None:
        first, second = (Loop(policy, optimizer, probe=probe) for _ in range(2))
        first.train(kill)
        loss = first.update() if between else None  # killed between optimizer.step() and scheduler.step()
        second.resume(first.saved(), kill + between)
        if between:
            second.scheduler.step(loss)
        second.train(N - kill - between)
        assert (first.rates + second.rates[kill + between :]) == expected
        torch.testing.assert_close(tensors(second), tensors(whole), rtol=0, atol=0)
        histories = ([asdict(d) for d in loop.scheduler.history] for loop in (second, whole))
        np.testing.assert_equal(*histories)  # takes nan for equal

    resumes()


def test_state_is_plain_and_small_after_the_probe(policy: Bundle) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(plain, value)) and all(map(plain, value.values()))
        return all(map(plain, value)) if isinstance(value, list) else type(value) in (int, float, str, bool, type(None))

    loop = Loop(policy)
    loop.train(50)
    assert plain(loop.scheduler.state_dict())


@pytest.mark.parametrize(
    ("groups", "optimizer", "message"),
    [
        (2, "adam", "param_groups: the saved state has 1, the optimizer 2"),
        (1, "sgd", "optimizer: the saved state has 'adam', this one 'sgd'"),
    ],
)
def test_a_foreign_state_is_refused(policy: Bundle, groups: int, optimizer: str, message: str) -> None:
    state = Loop(policy).scheduler.state_dict()
    params = [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(groups)]
    scheduler = PilotLR(OPTIMIZERS[optimizer](params, lr=1.0), N, policy)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state)


@pytest.mark.parametrize("total_steps", [50, 120], ids=["shorter", "longer"])
def test_a_state_of_another_length_is_extended(policy: Bundle, total_steps: int) -> None:
    first, extended, second = Loop(policy), Loop(policy), Loop(policy, total_steps=total_steps)
    first.train(40)
    with pytest.warns(UserWarning, match=f"the saved training had 80, this one has {total_steps}"):
        second.resume(first.saved(), 40)
    extended.train(40)
    extended.scheduler.extend(total_steps)
    assert second.train(total_steps - 40)[40:] == extended.train(total_steps - 40)[40:]
    with pytest.raises(ValueError, match="total_steps: 30, want more than 40"):
        Loop(policy, total_steps=30).resume(first.saved(), 40)


def test_groups_keep_their_ratios(policy: Bundle) -> None:
    a, b, c, d = (nn.Parameter(torch.ones(2)) for _ in range(4))
    lr = torch.tensor(0.02, dtype=torch.float64)
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.0}, {"params": [b], "lr": lr}, {"params": [c], "lr": 0.06}])
    scheduler = PilotLR(optimizer, 20, policy)
    for step in range(20):
        if step == 10:
            optimizer.add_param_group({"params": [d], "lr": 0.01})
        for p in (a, b, c, d):
            p.grad = p.detach().clone()
        optimizer.step()
        scheduler.step(1.0)
        base = scheduler.pilot.learning_rates()[0]
        want = [0.0, base, 3 * base, base / 2][: len(optimizer.param_groups)]
        assert scheduler.get_last_lr() == pytest.approx(want)
        assert [float(g["lr"]) for g in optimizer.param_groups] == pytest.approx(want)
    assert optimizer.param_groups[1]["lr"] is lr


@pytest.mark.parametrize(
    ("rates", "want"), [([0.1, 0.2], [1, 2]), ([0.0, 0.0], [1, 1]), ([0.0, 0.5, 0.1], [0, 1, 0.2])]
)
def test_ratios_are_to_the_first_group_with_a_rate(policy: Bundle, rates: list[float], want: list[float]) -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in rates])
    scheduler = PilotLR(optimizer, 20, policy)
    base = scheduler.pilot.learning_rates()[0]
    assert scheduler.get_last_lr() == pytest.approx([r * base for r in want])


def test_step_per_micro_batch_counts_optimizer_steps(policy: Bundle) -> None:
    """Accumulating two halves with a step() each equals one step() with their mean."""
    loops = [Loop(policy), Loop(policy)]
    for split in (False, True):
        loop = loops[split]
        for _ in range(N):
            loop.optimizer.zero_grad()
            losses = []
            for at in (0, 32):
                losses.append(nn.functional.mse_loss(loop.model(loop.x[at : at + 32]), loop.y[at : at + 32]))
                (losses[-1] / 2).backward()
                if at == 32:
                    loop.optimizer.step()
                    loop.rates.append(loop.optimizer.param_groups[0]["lr"])
                if split:
                    loop.scheduler.step(losses[-1])
            if not split:
                loop.scheduler.step(sum(loss.item() for loss in losses) / 2)
        assert loop.scheduler.last_epoch == N
    assert loops[0].rates == loops[1].rates


@pytest.mark.parametrize("every", [7, 1000], ids=["seldom", "never"])
def test_step_once_per_epoch_keeps_the_clock(policy: Bundle, every: int) -> None:
    loop = Loop(policy)
    start = [p.clone() for p in loop.model.parameters()]
    with pytest.warns(UserWarning, match="the probe is left out"):
        for step in range(1, N + 1):
            loss = loop.update()
            if step == 2:
                assert loop.rates[0] != loop.rates[1]  # written right before the second step
            if step % every == 0:
                loop.scheduler.step(loss)
    assert loop.scheduler.last_epoch == N - (N % every != 0)  # the last one awaits its step()
    assert not torch.equal(start[0], next(loop.model.parameters()))
    history = loop.scheduler.history
    held = [i for i in range(1, len(history)) if math.isnan(history[i].telemetry["loss_mean"])]
    assert held and {history[i].event for i in held} == {"loss_missing"}
    assert [history[i].level for i in held] == pytest.approx([history[i - 1].level for i in held])
    assert every == 7 or np.all(np.diff(loop.rates[1:]) < 0)


def test_step_without_loss_warns_once(policy: Bundle) -> None:
    loop = Loop(policy, probe=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(N):
            loop.update()
            loop.scheduler.step()
    assert ["got no loss" in str(w.message) for w in caught] == [True]


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
def test_steps_skipped_by_a_grad_scaler_do_not_count(policy: Bundle, fused: bool) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.1, fused=fused)
    scheduler = PilotLR(optimizer, 40, policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    moved = 0
    for step in range(30):
        loss = (p - step % 3).square().sum()
        before = p.detach().clone()
        optimizer.zero_grad()
        scaler.scale(loss * (math.inf if step % 5 == 3 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        moved += not torch.equal(before, p)
    assert scheduler.last_epoch == moved == 24


def test_a_probe_whose_steps_a_grad_scaler_skips_ends(policy: Bundle) -> None:
    """After a blow-up every loss is nan and every step skipped: no optimizer step would ever end the probe."""
    p = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.1)
    scheduler = PilotLR(optimizer, N, policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(N):
        loss = p.square().sum() * (math.nan if step == 6 else 1.0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(loss)
        if step == 6:
            assert len(scheduler.history) == 1 and torch.equal(p, torch.ones(3))
    assert scheduler.last_epoch == N


def test_bounds_hold(policy: Bundle) -> None:
    rates = Loop(policy, min_lr=1e-4, max_lr=2e-3).train(N)
    assert min(rates) == 1e-4 and max(rates) == 2e-3


@pytest.mark.parametrize("total_steps", [1, 2, 3, 15, 63])
def test_short_trainings_and_what_lies_beyond(policy: Bundle, total_steps: int) -> None:
    loop = Loop(policy, total_steps=total_steps)
    assert not loop.scheduler.pilot.cadence.probe_steps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = loop.train(total_steps)
    assert all(math.isfinite(r) and r > 0 for r in rates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.train(5)
    assert ["more than total_steps" in str(w.message) for w in caught] == [True]
    assert set(loop.rates[total_steps:]) == {loop.rates[total_steps - 1]}


def test_validation_before_training_reaches_the_first_decision(policy: Bundle) -> None:
    for probe in (True, False):
        loop = Loop(policy, probe=probe)
        loop.scheduler.observe(val_loss=torch.tensor(1.5))
        loop.train(20)
        assert [d.observation["has_val"] for d in loop.scheduler.history[:2]] == [1.0, 1.0]
        assert loop.scheduler.history[0].step == (16 if probe else 0)


def test_an_observed_gradient_norm_replaces_the_sketchs(policy: Bundle) -> None:
    loop = Loop(policy)
    for _ in range(30):
        loss = loop.update()
        loop.scheduler.observe(grad_norm=torch.tensor(7.0))
        loop.scheduler.step(loss)
    assert np.all(loop.scheduler.pilot.probes.grad_norm == 7.0)
    assert loop.scheduler.history[-1].telemetry["grad_norm"] == pytest.approx(7.0)


def test_losses_of_every_kind_are_the_same_loss(policy: Bundle) -> None:
    kinds: list[Callable[[Tensor], Any]] = [
        lambda t: t,
        lambda t: t.item(),
        lambda t: np.float32(t.item()),
        lambda t: t.detach()[None],
    ]
    curves = []
    for kind in kinds:
        loop = Loop(policy)
        for _ in range(N):
            loop.scheduler.step(kind(loop.update()))
        curves.append(loop.rates)
    assert all(curve == curves[0] for curve in curves)


def test_guarded_by_default_and_strict_on_request(policy: Bundle, tmp_path: Any) -> None:
    broken = bundle(tmp_path, bias=math.nan)
    loop = Loop(broken)
    loop.train(N)
    assert loop.scheduler.history[0].event == "action_nonfinite"
    with pytest.raises(GuardError, match="step 16: action_nonfinite"):
        Loop(broken, strict=True).train(N)
    strict = Loop(policy, strict=True)
    strict.train(20)
    strict.y *= math.nan
    with pytest.raises(GuardError, match="loss_nonfinite"):
        strict.train(10)
    silent = Loop(policy, strict=True)
    silent.update()
    with pytest.raises(ValueError, match="got no loss"):
        silent.scheduler.step()
    done = Loop(policy, strict=True, total_steps=5)
    done.train(5)
    with pytest.raises(ValueError, match="more than total_steps=5"):
        done.train(1)


def test_a_loss_that_is_not_finite_cuts_the_rate(policy: Bundle) -> None:
    loop = Loop(policy)
    loop.train(30)
    level = loop.scheduler.history[-1].level
    loop.y *= math.nan
    loop.train(30)
    events = [d for d in loop.scheduler.history if d.event == "loss_nonfinite"]
    equation, anchor = ActionEquation(), float(loop.scheduler.pilot.anchor[0])
    lowest = max(equation.low, anchor - equation.span)
    assert len(events) > 1 and events[0].level == pytest.approx(max(level - equation.fall, lowest))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"total_steps": 0}, ValueError, "total_steps: 0"),
        ({"total_steps": 12.5}, TypeError, r"total_steps: 12\.5, want an int"),
        ({"min_lr": 0.1, "max_lr": 0.01}, ValueError, r"min_lr, max_lr: 0\.1, 0\.01, want"),
        ({"min_lr": -1.0}, ValueError, "min_lr, max_lr"),
        ({"optimizer": nn.Linear(1, 1)}, TypeError, "optimizer: Linear, want a torch.optim.Optimizer"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(2)], lr=1.0)},
            ValueError,
            "optimizer: no parameter requires a gradient",
        ),
    ],
)
def test_impossible_arguments(policy: Bundle, change: dict, error: type[Exception], message: str) -> None:
    usual = {"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), "total_steps": 10}
    with pytest.raises(error, match=message):
        PilotLR(**(usual | change), policy=policy)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [("SGD", "sgd"), ("Adam", "adam"), ("AdamW", "adamw"), ("RMSprop", "adam"), ("NAdam", "adam")],
)
def test_optimizer_kinds(optimizer: str, kind: str) -> None:
    made = getattr(torch.optim, optimizer)([nn.Parameter(torch.ones(1))], lr=0.1)
    assert optimizer_kind(made) == kind


def test_a_dropped_scheduler_writes_no_more(policy: Bundle) -> None:
    loop = Loop(policy, probe=False)
    loop.update()
    loop.scheduler = None  # type: ignore[assignment]
    loop.optimizer.param_groups[0]["lr"] = 0.25
    loop.update()
    assert loop.optimizer.param_groups[0]["lr"] == 0.25


def test_sampler_gathers_the_sketchs_coordinates() -> None:
    params = [nn.Parameter(torch.randn(*s)) for s in ((400, 150), (3,), (40, 300), (8, 8, 2, 2))]
    params[3].data = params[3].data.to(memory_format=torch.channels_last)
    sampler = Sampler(params)
    chosen = telemetry.sketch_coordinates(sum(p.numel() for p in params))
    assert len(chosen) <= telemetry.SKETCH < telemetry.WHOLE < sum(p.numel() for p in params)
    flat = torch.cat([p.detach().reshape(-1) for p in params])
    assert torch.equal(sampler.weights(), flat[chosen])
    for p in params[1:]:
        p.grad = p.detach().clone()
    flat[: params[0].numel()] = 0.0  # a gradient that is None counts as zero
    assert torch.equal(sampler.gradients(), flat[chosen])
