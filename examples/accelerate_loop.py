"""A loop of Hugging Face Accelerate under a pilot: any number of processes, accumulation, a checkpoint and its resume.

    python examples/accelerate_loop.py
    accelerate launch --cpu --num_processes 2 examples/accelerate_loop.py

Needs lrpilot[transformers]. A few seconds on one core.
"""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.torch import PilotLR

EPOCHS, MICRO_BATCHES = 8, 2


def data(count: int, seed: int) -> TensorDataset:
    """Points in a square; which of two interleaved spirals is nearer."""
    x = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1
    return TensorDataset(x, ((x.norm(dim=1) * 4 - torch.atan2(x[:, 1], x[:, 0])) % math.tau < math.pi).long())


def main() -> None:
    set_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=MICRO_BATCHES)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(data(4096, 0), batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    # Of what is prepared: the loader is this process's share, the optimizer knows how many batches are accumulated.
    scheduler = PilotLR(optimizer, epochs=EPOCHS, data=loader, model=model)
    accelerator.register_for_checkpointing(scheduler)

    def epoch() -> None:
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = torch.nn.functional.cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step(loss)  # per micro-batch; the pilot counts the optimizer's steps
                optimizer.zero_grad()

    for at in range(EPOCHS):
        epoch()
        if at == 3:
            accelerator.save_state("accelerate_loop")
    rate = scheduler.history[-1].lr

    accelerator.load_state("accelerate_loop")  # back to the fourth epoch, as after a crash
    for _ in range(4, EPOCHS):
        epoch()
    x, y = (part.to(accelerator.device) for part in data(2000, 1).tensors)
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    accelerator.print(scheduler.history)
    accelerator.print(f"last rate {rate:.3g}, resumed {scheduler.history[-1].lr:.3g}")
    accelerator.print("accuracy", round(accuracy, 3))


if __name__ == "__main__":
    main()
