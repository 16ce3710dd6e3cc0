"""PilotLR on a CUDA device: mixed precision, fused and capturable optimizers, compiled models, two processes.

Every test also runs on the CPU, to show that the test is right where there is no GPU.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lrpilot.policy_file.bundle import Bundle
from processes import in_two_processes
from repository import TOP
from user_training import N, Training, adam, sgd

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])


def capturable(params: Any, device: str) -> torch.optim.Optimizer:
    """With a rate that lies on the device; what can be captured is CUDA's alone."""
    return torch.optim.Adam(params, lr=torch.tensor(0.5, device=device), capturable=device == "cuda")


MAKES: dict[str, Callable[[Any, str], torch.optim.Optimizer]] = {
    "sgd, fused": lambda params, _: sgd(params, fused=True),
    "adam, foreach": lambda params, _: adam(params, foreach=True),
    "adam, fused": lambda params, _: adam(params, fused=True),
    "adamw, fused": lambda params, _: torch.optim.AdamW(params, lr=0.5, fused=True),
    "adam, fused, tensor rate": lambda params, device: torch.optim.Adam(
        params, lr=torch.tensor(0.5, device=device), fused=True
    ),
    "adam, capturable": capturable,
}


class OnDevice(Training):
    """The training on a device, under autocast to `dtype`, for float16 with a GradScaler that begins too high.

    With `compiled`, so is the function from inputs to the loss: on CUDA into CUDA graphs.
    """

    def __init__(
        self, policy: Bundle, device: str, name: str, dtype: torch.dtype | None = None, compiled: bool = False
    ) -> None:
        super().__init__(policy, lambda params: MAKES[name](params, device), lambda model: model.to(device))
        self.x, self.y = self.x.to(device), self.y.to(device)
        self.device, self.dtype, self.batches = device, dtype, 0
        self.scaler = torch.amp.GradScaler(device, init_scale=2.0**20, enabled=dtype is torch.float16)
        options: dict[str, Any] = {"mode": "reduce-overhead"} if device == "cuda" else {"backend": "aot_eager"}
        self.loss_of = torch.compile(self._loss_of, **options) if compiled else self._loss_of

    def _loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.mse_loss(self.model(x), y)

    def loss(self) -> Tensor:
        at = 16 * (self.batches % 4)
        self.batches += 1
        with torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            return self.loss_of(self.x[at : at + 16], self.y[at : at + 16])

    def update(self) -> Tensor:
        loss = self.loss()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def whole(self) -> None:
        """Train to the end; the probe must leave no trace."""
        before = self.everything()
        self.through_probe()
        torch.testing.assert_close(self.everything(), before, rtol=0, atol=0)
        while self.scheduler.last_epoch < N and self.batches < 3 * N:
            self.scheduler.step(self.update())
        assert self.scheduler.last_epoch == N
        assert all(math.isfinite(rate) and rate > 0 for rate in self.rates)
        assert {p.device.type for p in self.model.parameters()} == {self.device}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@DEVICES
@pytest.mark.parametrize("name", MAKES)
def test_the_rates_of_a_plain_training(policy: Bundle, name: str, device: str) -> None:
    """In the probe exactly; afterwards devices and kernels round otherwise. A tensor rate is filled in place."""
    training = OnDevice(policy, device, name)
    rate = training.optimizer.param_groups[0]["lr"]
    training.whole()
    plain = Training(policy, sgd if name.startswith("sgd") else adam)
    first = min(plain.through_probe(), training.scheduler.history[0].step)
    assert first > 4
    np.testing.assert_allclose(training.rates[:first], plain.rates[:first], rtol=1e-6)
    if isinstance(rate, Tensor):
        assert training.optimizer.param_groups[0]["lr"] is rate and rate.device.type == device


@DEVICES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["sgd, fused", "adam, foreach", "adam, fused", "adam, capturable"])
def test_mixed_precision(policy: Bundle, name: str, dtype: torch.dtype, device: str) -> None:
    """Steps that the scaler skips count nowhere."""
    training = OnDevice(policy, device, name, dtype)
    training.whole()
    assert (training.batches > N) == (dtype is torch.float16)


def alike(one: Training, other: Training) -> None:
    """The same probe, interval after it and number of decisions; later, rounding may have grown."""
    first = one.scheduler.history[0].step
    np.testing.assert_allclose(one.rates[:first], other.rates[:first], rtol=1e-6)
    mine, theirs = ([*training.scheduler.history] for training in (one, other))
    assert [decision.step for decision in mine] == [decision.step for decision in theirs]
    for name in ("loss_mean", "grad_norm", "grad_cos", "update_norm"):
        assert mine[1].telemetry[name] == pytest.approx(theirs[1].telemetry[name], rel=1e-2, abs=1e-3)


@DEVICES
@pytest.mark.parametrize("name", ["adam, foreach", "adam, fused"])
def test_a_compiled_loss(policy: Bundle, name: str, device: str) -> None:
    """A CUDA graph writes each loss and gradient over the last one; the pilot must have copied them."""
    compiled, plain = (OnDevice(policy, device, name, compiled=graph) for graph in (True, False))
    compiled.whole()
    plain.whole()
    alike(compiled, plain)


@DEVICES
@pytest.mark.parametrize("name", ["adam, foreach", "adam, capturable"])
def test_a_compiled_optimizer_step(policy: Bundle, name: str, device: str) -> None:
    compiled, plain = OnDevice(policy, device, name), OnDevice(policy, device, name)
    compiled.optimizer.step = torch.compile(  # type: ignore[method-assign]
        compiled.optimizer.step, backend="inductor" if device == "cuda" else "eager"
    )
    compiled.whole()
    plain.whole()
    alike(compiled, plain)


@DEVICES
def test_two_processes(tmp_path: Path, device: str) -> None:
    """DDP: the ranks hold the same rates, decisions and parameters; a step that one of them skips, both skip."""
    zero, one = in_two_processes(str(TOP / "tests/trainings/cuda_worker.py"), tmp_path, device)
    for name in ("plain", "skips"):
        assert {record[name]["unlike"] for record in (zero, one)} == {""}
        assert zero[name]["step"] == one[name]["step"] == N
        assert {place.partition(":")[0] for record in (zero, one) for place in record[name]["devices"]} == {device}
        for what in ("rates", "decisions", "parameters"):
            assert zero[name][what] == one[name][what]
    assert (zero["plain"]["batches"], zero["skips"]["batches"]) == (N, N + 3)
