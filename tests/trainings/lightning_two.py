"""Trainings of Lightning in two processes, over loaders of several kinds; writes what each process saw."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

from lrpilot.integrations.lightning import PilotCallback
from lrpilot.torch import PilotLR
from processes import Lines

EXAMPLES: Any = torch.ones(96, 4)


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, x: torch.Tensor, index: int) -> Any:
        return self.net(x).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters())
        return [optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, model=self)]


# Loader, and the Trainer's settings; of 12 batches in each process
CASES: list[tuple[DataLoader[Any], dict[str, Any]]] = [
    (DataLoader(EXAMPLES, 4, shuffle=True), {}),
    (DataLoader(EXAMPLES, 4, shuffle=True), {"accumulate_grad_batches": 5}),
    (DataLoader(EXAMPLES, 4, shuffle=True), {"limit_train_batches": 0.25}),
    (DataLoader(EXAMPLES, 4), {"limit_train_batches": 0.25}),
    (DataLoader(EXAMPLES, 4), {"overfit_batches": 3}),
    (DataLoader(EXAMPLES, 4, shuffle=True), {"max_epochs": None, "max_steps": 20}),
    (DataLoader(EXAMPLES, 4, sampler=WeightedRandomSampler([1.0] * 96, 96)), {}),
    (DataLoader(EXAMPLES, 4, sampler=WeightedRandomSampler([1.0] * 96, 48)), {}),
    (DataLoader(EXAMPLES, 4, sampler=RandomSampler(EXAMPLES)), {"use_distributed_sampler": False}),
]


def main(folder: str) -> None:
    torch.set_num_threads(1)
    heard, records, rank = Lines(), [], 0
    logging.getLogger("lrpilot").addHandler(heard)
    logging.getLogger("lrpilot").setLevel(logging.INFO)
    for loader, settings in CASES:
        heard.lines.clear()
        net = Net()
        trainer = Trainer(
            accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False, callbacks=[PilotCallback()],
            **({"max_epochs": 3} | settings),
        )  # fmt: skip
        trainer.fit(net, loader)
        pilot: Any = net.lr_schedulers()
        rank = trainer.global_rank
        records.append(
            [pilot.last_epoch, pilot.planned_steps, pilot.steps_per_epoch, pilot.examples, list(heard.lines)]
        )
    Path(folder, f"{rank}.json").write_text(json.dumps(records))


if __name__ == "__main__":
    main(sys.argv[1])
