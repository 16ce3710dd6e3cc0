"""A loop of Accelerate under `PilotLR`; run as a script it is two processes, and writes what each of them saw."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, debug_launcher
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.torch import PilotLR

N = 144  # optimizer steps of a single process; of half as many the probe takes 16 at most
BATCH = 8


class Loop:
    """`prepared`: whether Accelerate steps the scheduler, or the loop itself, per micro-batch."""

    def __init__(self, accelerator: Accelerator, policy: Any, prepared: bool = True, numbers: bool = False) -> None:
        torch.set_num_threads(1)
        self.accelerator, self.numbers = accelerator, numbers
        torch.manual_seed(3)
        model: Any = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer: Any = torch.optim.Adam(model.parameters())
        x = torch.randn(N * BATCH, 4, generator=torch.Generator().manual_seed(1))
        loader = DataLoader(TensorDataset(x, torch.sin(x.sum(1, keepdim=True))), batch_size=BATCH)
        self.steps = N // accelerator.num_processes // accelerator.gradient_accumulation_steps
        self.model, self.optimizer, self.loader = accelerator.prepare(model, optimizer, loader)
        self.pilot = PilotLR(self.optimizer, epochs=1, data=self.loader, policy=policy, model=self.model)
        self.scheduler: Any = self.pilot
        if prepared:
            self.scheduler = accelerator.prepare(self.pilot)
        else:
            accelerator.register_for_checkpointing(self.pilot)
        self.rates: list[float] = []
        self.losses: list[float] = []

    def train(self, begin: int = 0, save: dict[int, str] | None = None) -> "Loop":
        """From optimizer step `begin` to the end; `save` names folders for steps."""
        skipped = begin * self.accelerator.gradient_accumulation_steps
        for x, y in self.accelerator.skip_first_batches(self.loader, skipped) if begin else self.loader:
            with self.accelerator.accumulate(self.model):
                loss = nn.functional.mse_loss(self.model(x), y)
                self.accelerator.backward(loss)
                rate = self.optimizer.param_groups[0]["lr"]
                self.optimizer.step()
                self.scheduler.step(loss.item() if self.numbers else loss)
                self.optimizer.zero_grad()
            self.losses.append(loss.item())
            if self.accelerator.sync_gradients:
                self.rates.append(rate)
                if folder := (save or {}).get(begin + len(self.rates)):
                    self.accelerator.save_state(folder)
        return self


def worker(folder: str, policy: str) -> None:
    accelerator = Accelerator(cpu=True)
    whole = Loop(accelerator, policy).train(save={9: f"{folder}/9"})
    weights = torch.cat([p.detach().reshape(-1) for p in whole.model.parameters()]).tolist()
    accelerator.load_state(f"{folder}/9")
    again = whole.rates, whole.losses
    whole.rates, whole.losses = [], []
    whole.train(9)
    numbers = Loop(Accelerator(cpu=True), policy, numbers=True).train()
    record = {
        "rates": again[0],
        "losses": again[1],
        "resumed": whole.rates,
        "numbers": numbers.rates,
        "weights": weights,
        "steps": whole.pilot.last_epoch,
        "means": {d.step: d.telemetry["loss_mean"] for d in whole.pilot.history if d.telemetry},
        "scheduler": type(whole.scheduler).__name__,
    }
    Path(folder, f"{accelerator.process_index}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    debug_launcher(worker, (sys.argv[1], sys.argv[2]), 2)
