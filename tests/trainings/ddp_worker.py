"""One rank of the trainings that test_distributed.py looks at: python ddp_worker.py RANK FOLDER.

All scenarios run one after the other in one gloo group of two; each rank writes what it saw to FOLDER/RANK.json.
"""

import copy
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bundles import write_bundle
from lrpilot.decisions.features import NAMES
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

N = 80  # steps
CALM: Mapping[int, float] = {}
Report = Callable[[int, Tensor], Any]  # (step, loss) -> what step() is given


def policy(folder: Path, seed: int, kind: type[Bundle] = Bundle) -> Bundle:
    drawn = np.random.default_rng(seed).normal(0, 0.05, len(NAMES)).tolist()
    path = folder / f"policy-{seed}-{dist.get_rank()}.onnx"
    return kind(write_bundle(path, weights=dict(zip(NAMES, drawn, strict=True))))


class Unreadable(Bundle):
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        raise OSError("the policy is gone")


class Loop:
    """A rank's training of a small net on its own fixed data."""

    def __init__(self, policy: Bundle, scaler: bool = False, **kw: Any) -> None:
        rng = torch.Generator().manual_seed(10 + dist.get_rank())
        self.x = torch.randn(64, 4, generator=rng)
        self.y = torch.sin(self.x.sum(1, keepdim=True)) + dist.get_rank()
        torch.manual_seed(2)
        self.net = DistributedDataParallel(
            nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        )
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.5)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=scaler)
        self.scheduler = PilotLR(self.optimizer, N, policy, model=self.net, **kw)
        self.rates: list[float] = []

    def update(self, factor: float = 1.0) -> Tensor:
        at = 16 * (len(self.rates) % 4)
        loss = factor * nn.functional.mse_loss(self.net(self.x[at : at + 16]), self.y[at : at + 16])
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    def train(self, until: int, report: Report = lambda step, loss: loss, factor: Mapping[int, float] = CALM) -> None:
        for step in range(len(self.rates), until):
            self.scheduler.step(report(step, self.update(factor.get(step, 1.0))))

    def everything(self) -> dict[str, Any]:
        return copy.deepcopy({"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()["state"]})

    def record(self) -> dict[str, Any]:
        parameters = torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])
        return {
            "rates": self.rates,
            "history": [asdict(d) for d in self.scheduler.history],
            "parameters": parameters.tolist(),
            "step": self.scheduler.last_epoch,
        }


def plain(folder: Path) -> dict[str, Any]:
    """Different data, validation losses and gradient norms; the weights when the probe begins and when it ends."""
    logged: list[int] = []  # steps of decisions
    loop = Loop(policy(folder, 0), log=lambda figures, step: logged.extend([step] * (not figures["lrpilot/probe"])))
    before = loop.everything()
    while not loop.scheduler.history:
        loop.train(len(loop.rates) + 1)
    unlike = ""
    try:
        torch.testing.assert_close(loop.everything(), before, rtol=0, atol=0)
    except AssertionError as error:
        unlike = str(error)
    loop.train(N)
    return loop.record() | {"unlike": unlike, "logged": logged, "buffers": loop.net.module[1].running_mean.tolist()}


def observed(folder: Path) -> dict[str, Any]:
    """Validation losses that differ; rank 0 alone knows a gradient norm, then rank 1 alone."""
    loop, rank = Loop(policy(folder, 0)), dist.get_rank()

    def report(step: int, loss: Tensor) -> Tensor:
        if step % 10 == 0:
            loop.scheduler.observe(val_loss=1.0 + rank)
        if rank == (step >= 60) and (step >= 30 or step == 5):
            loop.scheduler.observe(grad_norm=7.0 + rank)
        return loss

    loop.train(N, report)
    return loop.record() | {"probed": loop.scheduler.pilot.probes.grad_norm[0].tolist()}


def other_policy(folder: Path, probe: bool) -> dict[str, Any]:
    loop = Loop(policy(folder, dist.get_rank()), probe=probe)
    loop.train(N)
    return loop.record()


def failing(folder: Path, rank: int) -> dict[str, Any]:
    """The policy of one rank raises."""
    kind = Unreadable if dist.get_rank() == rank else Bundle
    loop = Loop(policy(folder, 0, kind))
    loop.train(N)
    return loop.record()


def reported(folder: Path, report: Report) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = Loop(policy(folder, 0))
        loop.train(N, report)
    return loop.record() | {"warned": [str(w.message) for w in caught if "PilotLR" in str(w.message)]}


def extended(folder: Path) -> dict[str, Any]:
    """Longer in mid-interval, with more losses kept than an interval of that length would."""
    loop = Loop(policy(folder, 0))
    loop.train(75)
    loop.scheduler.extend(100)
    loop.scheduler.extend(20_000)
    loop.train(300)
    return loop.record()


def killed(folder: Path, at: int, pending: bool) -> dict[str, Any]:
    """Rank 0's checkpoint, read by both."""
    file = folder / f"{at}-{pending}.pt"
    loop, loss = Loop(policy(folder, 0)), None
    loop.train(at)
    if pending:
        loss = loop.update()
    if dist.get_rank() == 0:
        parts = {name: getattr(loop, name).state_dict() for name in ("net", "optimizer", "scheduler")}
        torch.save(parts, file)
    dist.barrier()
    other = Loop(policy(folder, 0))
    for name, state in torch.load(file, weights_only=True).items():
        getattr(other, name).load_state_dict(state)
    other.rates = loop.rates
    if pending:
        other.scheduler.step(loss)
    other.train(N)
    return other.record()


def left(folder: Path, ranks: tuple[int, ...]) -> dict[str, Any]:
    """Left within the probe by an exception, of `ranks` or else by a call; both ranks go on."""
    loop = Loop(policy(folder, dist.get_rank()))
    before, after = loop.everything(), None
    try:
        with loop.scheduler as scheduler:
            loop.train(9)
            if dist.get_rank() in ranks:
                raise KeyboardInterrupt
            dist.barrier()
            scheduler.end_probe()
    except KeyboardInterrupt:
        after = loop.everything()  # alone: the other rank is not waited for
        dist.barrier()
    try:
        torch.testing.assert_close(after or loop.everything(), before, rtol=0, atol=0)
        unlike = ""
    except AssertionError as error:
        unlike = str(error)
    loop.scheduler.observe(val_loss=1.0 + dist.get_rank())
    loop.train(N)
    return loop.record() | {"unlike": unlike}


def skipping(folder: Path, rank: int, factor: dict[int, float], silent: bool = False) -> dict[str, Any]:
    """A GradScaler skips what overflows on one rank on both of them; with `silent`, rank 0 alone reports losses."""
    loop, mine = Loop(policy(folder, 0), scaler=True), dist.get_rank() == rank
    report: Report = lambda step, loss: None if silent and dist.get_rank() else loss  # noqa: E731
    loop.train(40, report, factor if mine else CALM)
    return loop.record() | {"decided": len(loop.scheduler.history)}


def scenarios() -> dict[str, Callable[[Path], dict[str, Any]]]:
    inf = float("inf")
    cases: dict[str, Callable[[Path], dict[str, Any]]] = {
        "plain": plain,
        "observed": observed,
        "other policy": lambda f: other_policy(f, True),
        "other policy, unprobed": lambda f: other_policy(f, False),
        "fails on 0": lambda f: failing(f, 0),
        "fails on 1": lambda f: failing(f, 1),
        "losses on 0": lambda f: reported(f, lambda step, loss: None if dist.get_rank() else loss),
        "losses on 1": lambda f: reported(f, lambda step, loss: loss if dist.get_rank() else None),
        "no losses": lambda f: reported(f, lambda step, loss: None),
        "extended": extended,
        "skips": lambda f: skipping(f, 1, {3: inf, 20: inf, 21: inf}),
        "skips silently": lambda f: skipping(f, 1, {3: inf, 20: inf, 21: inf}, silent=True),
        "left": lambda f: left(f, ()),
        "left by an exception": lambda f: left(f, (0, 1)),
        "left by an exception on one rank": lambda f: left(f, (1,)),
        "blows up": lambda f: skipping(f, 0, dict.fromkeys(range(6, 20), 1e3), silent=True),
    }
    for at, pending in ((7, False), (9, True), (37, False), (37, True), (50, True)):
        cases[f"killed {at} {pending}"] = lambda f, at=at, pending=pending: killed(f, at, pending)
    return cases


def main(rank: int, folder: Path, cases: dict[str, Callable[[Path], dict[str, Any]]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results: dict[str, Any] = {}
    for name, scenario in cases.items():
        print(f"rank {rank}: {name}", flush=True)
        try:
            results[name] = scenario(folder)
        except Exception:  # the other rank may hang on this one: let both end
            traceback.print_exc()
            sys.exit(1)
        dist.barrier()
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), scenarios())
