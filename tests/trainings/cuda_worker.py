"""Two ranks of a DDP training on a device, which test_cuda.py looks at: python cuda_worker.py FOLDER DEVICE.

On CUDA with one GPU both ranks share it, over gloo, since NCCL wants a GPU for each. Each rank writes what it saw to
FOLDER/RANK.json.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddp_worker import policy
from lrpilot.torch import PilotLR

N = 80  # steps


class Loop:
    """A rank's training of a small net on data of its own. Rank 1 overflows in the batches of `bad`."""

    def __init__(self, folder: Path, device: torch.device, bad: tuple[int, ...] = ()) -> None:
        self.bad, self.batches = bad, 0
        rng = torch.Generator().manual_seed(10 + dist.get_rank())
        self.x = torch.randn(64, 4, generator=rng).to(device)
        self.y = torch.sin(self.x.sum(1, keepdim=True)) + dist.get_rank()
        torch.manual_seed(2)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).to(device)
        self.net = DistributedDataParallel(net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.5, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, init_scale=8.0, enabled=bool(bad))
        self.scheduler = PilotLR(self.optimizer, N, policy(folder, 0), model=self.net)
        self.rates: list[float] = []

    def update(self) -> Tensor:
        at = 16 * (self.batches % 4)
        loss = nn.functional.mse_loss(self.net(self.x[at : at + 16]), self.y[at : at + 16])
        loss = loss * (torch.inf if dist.get_rank() == 1 and self.batches in self.bad else 1.0)
        self.batches += 1
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    def everything(self) -> dict[str, Any]:
        return copy.deepcopy({"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()["state"]})

    def record(self) -> dict[str, Any]:
        """The training, to its end."""
        before, unlike = self.everything(), ""
        while not self.scheduler.history:
            self.scheduler.step(self.update())
        try:
            torch.testing.assert_close(self.everything(), before, rtol=0, atol=0)
        except AssertionError as error:
            unlike = str(error)
        while self.scheduler.last_epoch < N:
            self.scheduler.step(self.update())
        return {
            "unlike": unlike, "rates": self.rates, "batches": self.batches, "step": self.scheduler.last_epoch,
            "decisions": [(d.step, d.level, d.event) for d in self.scheduler.history],
            "parameters": torch.cat([p.detach().flatten() for p in self.net.parameters()]).tolist(),
            "devices": [str(p.device) for p in self.net.parameters()],
        }  # fmt: skip


def rank(number: int, folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    gpus = torch.cuda.device_count()
    backend = "nccl" if kind == "cuda" and gpus > 1 else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=number, world_size=2)
    device = torch.device(kind, number % gpus) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    records = {"plain": Loop(folder, device).record(), "skips": Loop(folder, device, bad=(3, 20, 21)).record()}
    (folder / f"{number}.json").write_text(json.dumps(records))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(rank, (Path(sys.argv[1]), sys.argv[2]), nprocs=2)
