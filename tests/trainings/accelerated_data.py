"""Loops of Accelerate over every kind of loader; run as a script they are two processes, and write what each saw."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from lrpilot.torch import PilotLR
from processes import Lines

EPOCHS = 3


class Counted(IterableDataset[Any]):
    """Examples one by one, and how many they are."""

    def __iter__(self) -> Iterator[Any]:
        return iter(torch.ones(96, 4))

    def __len__(self) -> int:
        return 96


def loader(kind: str) -> DataLoader[Any]:
    if kind == "counted":
        return DataLoader(Counted(), 4)
    if kind == "weighted":
        return DataLoader(TensorDataset(torch.ones(96, 4)), 4, sampler=WeightedRandomSampler([1.0] * 96, 48))
    if kind == "uneven":
        return DataLoader(TensorDataset(torch.ones(100, 4)), 8, shuffle=True)
    return DataLoader(TensorDataset(torch.ones(96, 4)), 4, shuffle=kind == "shuffled", drop_last=kind == "dropping")


# Kind of the loader, batches per optimizer step, the loader's configuration
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("shuffled", 1, {}),
    ("shuffled", 5, {}),
    ("shuffled", 1, {"split_batches": True}),
    ("shuffled", 1, {"dispatch_batches": True}),
    ("shuffled", 5, {"dispatch_batches": True, "split_batches": True}),
    ("shuffled", 1, {"use_seedable_sampler": True}),
    ("ordered", 1, {}),
    ("dropping", 1, {}),
    ("uneven", 1, {}),
    ("weighted", 2, {}),
    ("counted", 1, {"dispatch_batches": True}),
    ("counted", 1, {"dispatch_batches": False}),
]


def train(policy: Any, kind: str, accumulate: int, configuration: dict[str, Any], prepared: bool) -> list[Any]:
    """The steps that were made, those that were planned, those of a pass over the data, and examples."""
    torch.manual_seed(0)
    for state in (AcceleratorState, GradientState):  # Accelerate keeps its settings in singletons
        state._reset_state()
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=accumulate,
        dataloader_config=DataLoaderConfiguration(**configuration),
    )
    model: Any = nn.Linear(4, 1)
    optimizer: Any = torch.optim.Adam(model.parameters())
    model, optimizer, data = accelerator.prepare(model, optimizer, loader(kind))
    pilot = PilotLR(optimizer, epochs=EPOCHS, data=data, policy=policy, model=model)
    scheduler: Any = accelerator.prepare(pilot) if prepared else pilot
    for _ in range(EPOCHS):
        for batch in data:
            with accelerator.accumulate(model):
                loss = model(batch[0] if isinstance(batch, list | tuple) else batch).square().mean()
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step(loss)
                optimizer.zero_grad()
    return [pilot.last_epoch, pilot.planned_steps, pilot.steps_per_epoch, pilot.examples]


def worker(folder: str, policy: str) -> None:
    torch.set_num_threads(1)
    heard = Lines()
    logging.getLogger("lrpilot").addHandler(heard)
    logging.getLogger("lrpilot").setLevel(logging.INFO)
    records = []
    for case in CASES:
        heard.lines.clear()
        records.append([*train(policy, *case, prepared=len(records) % 2 == 0), list(heard.lines)])
    Path(folder, f"{Accelerator(cpu=True).process_index}.json").write_text(json.dumps(records))


if __name__ == "__main__":
    debug_launcher(worker, (sys.argv[1], sys.argv[2]), 2)
