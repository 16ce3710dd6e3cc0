"""One rank of the sharded trainings that test_distributed.py looks at: python fsdp_worker.py RANK FOLDER."""

import copy
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ddp_worker import N, main, policy
from lrpilot.decisions.telemetry import SKETCH
from lrpilot.loop.distributed import local
from lrpilot.loop.sampler import Sampler
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR


def net(width: int = 5) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def parts(value: Any) -> Any:
    """Copies of this rank's shards of everything in nested dicts."""
    if isinstance(value, dict):
        return {key: parts(v) for key, v in value.items()}
    return local(value.detach()).clone() if isinstance(value, Tensor) else copy.deepcopy(value)


class Loop:
    """Training of a net in one of three ways, beside an offset that is always whole; 5 rows are dealt as 3 and 2."""

    def __init__(self, policy: Bundle, how: str = "sharded", warm: int = 0) -> None:
        rng = torch.Generator().manual_seed(10 + dist.get_rank())
        self.x = torch.randn(64, 4, generator=rng)
        self.y = torch.sin(self.x.sum(1, keepdim=True)) + dist.get_rank()
        self.offset = nn.Parameter(torch.zeros(1))
        self.net: nn.Module = net()
        if how == "sharded":
            self._shard()
        elif how == "whole":
            self.net = DistributedDataParallel(self.net)
        self.optimizer = torch.optim.Adam([*self.net.parameters(), self.offset], lr=0.01)
        self.rates: list[float] = []
        self.norms: list[float] = []
        for _ in range(warm):
            self.update()
        self.rates, self.norms = [], []
        self.scheduler = PilotLR(self.optimizer, N, policy, model=self.net)
        if how == "swapped":  # as Accelerate does: both exist before the parameters are sharded
            self._shard()
            self.optimizer.param_groups[0]["params"][:] = [*self.net.parameters(), self.offset]

    def _shard(self) -> None:
        fully_shard(self.net, mesh=init_device_mesh("cpu", (2,)))

    def update(self) -> Tensor:
        at = 16 * (len(self.rates) % 4)
        loss = nn.functional.mse_loss(self.net(self.x[at : at + 16]) + self.offset, self.y[at : at + 16])
        self.optimizer.zero_grad()
        loss.backward()
        dist.all_reduce(self.offset.grad)
        self.offset.grad /= 2
        grads = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in self.parameters()]
        self.norms.append(float(torch.cat([g.reshape(-1) for g in grads]).norm()))
        self.optimizer.step()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    def train(self, until: int) -> None:
        while len(self.rates) < until:
            self.scheduler.step(self.update())

    def parameters(self) -> list[Tensor]:
        return self.optimizer.param_groups[0]["params"]

    def everything(self) -> dict[str, Any]:
        state = self.optimizer.state_dict()["state"]
        return parts({"parameters": dict(enumerate(self.parameters())), "optimizer": state})

    def restore(self, saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                local(p).copy_(saved["parameters"][i])
        self.update()  # makes the optimizer's state, sharded as it must be
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                local(p).copy_(saved["parameters"][i])
                for name, value in saved["optimizer"][i].items():
                    local(self.optimizer.state[p][name]).copy_(value)

    def record(self) -> dict[str, Any]:
        return {
            "rates": self.rates,
            "norms": self.norms,
            "history": [asdict(d) for d in self.scheduler.history],
            "probed": self.scheduler.pilot.probes.grad_norm[0].tolist(),
            "sizes": [local(p).numel() for p in self.parameters()],
        }


def plain(folder: Path, how: str, warm: int = 0) -> dict[str, Any]:
    loop, unlike = Loop(policy(folder, 0), how, warm), ""
    before = loop.everything()
    while not loop.scheduler.history:
        loop.train(len(loop.rates) + 1)
    try:
        torch.testing.assert_close(loop.everything(), before, rtol=0, atol=0)
    except AssertionError as error:
        unlike = str(error)
    loop.train(N)
    return loop.record() | {"unlike": unlike}


def large(folder: Path) -> dict[str, Any]:
    """The sketch of sharded parameters against that of the same ones whole."""
    whole, sharded = net(15001), net(15001)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
    samplers = [Sampler([*module.parameters()]) for module in (whole, sharded)]
    samples = [sampler.weights() for sampler in samplers]
    same = torch.equal(*samples) and samplers[0].scale == samplers[1].scale
    count = sum(p.numel() for p in whole.parameters())
    return {"same": same, "count": count, "coordinates": len(samples[1]), "rates": [], "history": []} | {"most": SKETCH}


def killed(folder: Path, at: int, window: bool) -> dict[str, Any]:
    """Weights from each rank's own file; the scheduler's state from rank 0, or its own where that is refused."""
    loop = Loop(policy(folder, 0))
    loop.train(at)
    while window and not loop.scheduler.pilot.in_window:
        loop.train(len(loop.rates) + 1)
    saved, states = loop.everything(), [None, None]
    dist.all_gather_object(states, loop.scheduler.state_dict())
    other, refused = Loop(policy(folder, 0)), ""
    del other.scheduler
    other.restore(saved)
    other.scheduler = PilotLR(other.optimizer, N, policy(folder, 0), model=other.net)
    try:
        other.scheduler.load_state_dict(states[0])
    except ValueError as error:
        refused = str(error)
        other.scheduler.load_state_dict(states[dist.get_rank()])
    other.rates = list(loop.rates)
    other.train(N)
    in_window = states[0]["meter"]["sketch"]["_start"] is not None
    return other.record() | {"refused": refused, "in window": in_window}


def scenarios() -> dict[str, Callable[[Path], dict[str, Any]]]:
    return {
        "whole": lambda f: plain(f, "whole"),
        "sharded": lambda f: plain(f, "sharded"),
        "warm": lambda f: plain(f, "sharded", 5),
        "swapped": lambda f: plain(f, "swapped"),
        "large": large,
        "killed in the probe": lambda f: killed(f, 7, False),
        "killed in a window": lambda f: killed(f, 45, True),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), scenarios())
