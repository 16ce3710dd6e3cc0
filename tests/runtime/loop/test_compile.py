"""PilotLR beside torch.compile: compiled models, compiled optimizer steps, tensor learning rates."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from lrpilot.policy_file.bundle import Bundle
from user_training import N, Training, adam, sgd

BACKENDS = ["eager", "aot_eager"]
MAKES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "sgd, foreach": lambda params: sgd(params, foreach=True),
    "sgd, tensor rate": lambda params: torch.optim.SGD(params, lr=torch.tensor(0.5), momentum=0.9),
    "adam": adam,
    "adam, fused": lambda params: adam(params, fused=True),
    "adam, tensor rate": lambda params: torch.optim.Adam(params, lr=torch.tensor(0.5)),
    "adam, tensor rate, fused": lambda params: torch.optim.Adam(params, lr=torch.tensor(0.5), fused=True),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Compiled(Training):
    """Compiles the optimizer's step, alone or, with `whole`, together with the scheduler's."""

    def __init__(self, *args: Any, backend: str, whole: bool, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.whole = whole
        self.frames: list[int] = []  # compiled so far, by step

        @torch.compile(backend=backend, fullgraph=False)
        def step(loss: Tensor) -> None:
            self.optimizer.step()
            if whole:
                self.scheduler.step(loss)

        self.compiled_step = step

    def train(self, until: int) -> list[float]:
        while len(self.rates) < until:
            loss = self.loss()
            self.optimizer.zero_grad()
            loss.backward()
            self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
            self.compiled_step(loss)
            if not self.whole:
                self.scheduler.step(loss)
            self.frames.append(counters["frames"]["total"])
        return self.rates


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_is_the_model(policy: Bundle, backend: str) -> None:
    """Rates as with the plain one; the probe puts batch norm's statistics back, under their compiled names."""
    compiled = Training(policy, compiled=lambda model: torch.compile(model, backend=backend))
    assert any(name.startswith("_orig_mod.") for name, _ in compiled.model.named_buffers())
    before = compiled.everything()
    compiled.through_probe()
    torch.testing.assert_close(compiled.everything(), before, rtol=0, atol=0)
    plain = Training(policy)
    np.testing.assert_allclose(compiled.train(N), plain.train(N), rtol=0 if backend == "eager" else 1e-3)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@pytest.mark.parametrize("whole", [False, True], ids=["optimizer", "optimizer and scheduler"])
@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "eager") for name in MAKES), ("adam, tensor rate", "aot_eager")]
)
def test_hooks_run_at_every_compiled_step(policy: Bundle, name: str, backend: str, whole: bool) -> None:
    compiled, plain = Compiled(policy, MAKES[name], backend=backend, whole=whole), Training(policy, MAKES[name])
    before = compiled.everything()
    while not compiled.scheduler.history:
        compiled.train(len(compiled.rates) + 1)
    torch.testing.assert_close(compiled.everything(), before, rtol=0, atol=0)
    compiled.train(N)
    plain.train(N)
    assert compiled.scheduler.last_epoch == N
    exact = name in ("sgd", "sgd, foreach", "adam, fused")  # compiled, the others round otherwise
    first = plain.scheduler.history[0].step
    np.testing.assert_allclose(compiled.rates[:first], plain.rates[:first], rtol=0)
    if exact:
        assert compiled.rates == plain.rates
    assert [d.step for d in compiled.scheduler.history] == [d.step for d in plain.scheduler.history]


@pytest.mark.parametrize("name", ["sgd", "adam, tensor rate"])
def test_nothing_is_compiled_anew_at_each_step(policy: Bundle, name: str) -> None:
    """With a tensor rate nothing after the probe's roll-back; a rate that is a number is generalised over once."""
    compiled = Compiled(policy, MAKES[name], backend="eager", whole=True, total_steps=120)
    compiled.train(120)
    settled = compiled.scheduler.history[0].step + 4
    assert settled < 30 and compiled.frames[settled] == compiled.frames[-1] < 30
    traced = " ".join(str(key) for key in counters["graph_break"])
    assert "numpy" not in traced and "item()" not in traced  # our own code is never traced


def test_a_watched_module_inside_a_compiled_one(policy: Bundle) -> None:
    class Loss(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.net(x).square().mean()}

    rates = []
    for make in (lambda m: m, functools.partial(torch.compile, backend="eager")):
        training = Training(policy, sgd)
        module = Loss(training.model)
        training.scheduler.watch(module)
        compiled = make(module)
        for step in range(N):
            loss = compiled(training.x[:16] + step % 3)["loss"]
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
            training.scheduler.step()
        rates.append([d.lr for d in training.scheduler.history])
        assert training.scheduler.history[0].step > 0
    assert rates[0] == rates[1]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor(policy: Bundle) -> None:
    compiled = Compiled(policy, MAKES["sgd, tensor rate"], backend="inductor", whole=True)
    before = compiled.everything()
    while not compiled.scheduler.history:
        compiled.train(len(compiled.rates) + 1)
    torch.testing.assert_close(compiled.everything(), before, rtol=0, atol=0)
    plain = Training(policy, MAKES["sgd, tensor rate"])
    np.testing.assert_allclose(compiled.train(N), plain.train(N), rtol=1e-2)
    assert compiled.scheduler.last_epoch == N


def test_the_compiler_is_not_imported_with_the_scheduler() -> None:
    code = "import sys, lrpilot.torch; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
