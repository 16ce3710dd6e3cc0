"""`suggest` of what Lightning or Trainer would train: the same as of a plain loop, and the training stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lrpilot
from lightning_training import IGNORED
from lrpilot.integrations import lightning, transformers
from lrpilot.range_test.suggestion import Suggestion
from lrpilot.torch import PilotLR
from trainer_training import make, tiny_bert

pytestmark = [
    *IGNORED,
    pytest.mark.filterwarnings("ignore:The `fit` loop"),
    pytest.mark.filterwarnings("ignore:.*log_"),
]

STEPS = 40


def same(a: Suggestion, b: Suggestion) -> bool:
    return a.lr == b.lr is not None and bool((a.curve.loss == b.curve.loss).all()) and len(a.curve.loss) > 20


# Lightning


class Net(LightningModule):
    def __init__(self, manual: bool = False, piloted: bool = False, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1))
        self.piloted, self.automatic_optimization = piloted, not manual
        self.losses: list[float] = []

    def loss(self, x: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.net(x), x.sum(1, keepdim=True).sin())

    def training_step(self, batch: Tensor, index: int) -> dict[str, Tensor]:
        loss = self.loss(batch)
        self.losses.append(float(loss.detach()))
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        total: Any = self.trainer.estimated_stepping_batches
        if self.piloted:
            return [optimizer], [PilotLR(optimizer, total)]
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)]


def loader(shuffle: bool = True) -> DataLoader[Any]:
    x: Any = torch.randn(320, 4, generator=torch.Generator().manual_seed(1))
    return DataLoader(x, batch_size=16, shuffle=shuffle)


class Data(LightningDataModule):
    def setup(self, stage: str) -> None:
        torch.rand(3)  # draws on what must be put back
        self.loader = loader()

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader


class Counting(Callback):
    fits = 0

    def setup(self, *args: Any, **kw: Any) -> None:
        self.fits += 1


def fitting(folder: Path, **kw: Any) -> tuple[Trainer, Counting]:
    torch.set_num_threads(1)
    counting = Counting()
    options: dict[str, Any] = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False}
    options |= {"enable_checkpointing": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return Trainer(callbacks=[counting], logger=CSVLogger(folder), **options | kw), counting


@pytest.mark.parametrize("clip", [None, 0.01])
def test_lightning_is_tested_as_a_plain_loop_is(tmp_path: Path, clip: float | None) -> None:
    module, plain = Net(dropout=0.0), Net(dropout=0.0)
    got = lightning.suggest(fitting(tmp_path, gradient_clip_val=clip)[0], module, loader(False), steps=STEPS)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    if clip:
        optimizer.register_step_pre_hook(
            lambda *_: nn.utils.clip_grad_norm_(plain.parameters(), clip) and None  # pyright: ignore
        )
    assert same(got, lrpilot.suggest(optimizer, loader(False), plain.loss, model=plain, steps=STEPS))


@pytest.mark.parametrize("datamodule", [False, True], ids=["loader", "datamodule"])
def test_a_fit_afterwards_is_as_without_it(tmp_path: Path, datamodule: bool) -> None:
    """With dropout and shuffled data, which draw random numbers; the logs begin with the fit."""
    results: list[Any] = []
    for tried in (False, True):
        module, folder = Net(), tmp_path / str(tried)
        trainer, counting = fitting(folder)
        data: dict[str, Any] = {"datamodule": Data()} if datamodule else {"train_dataloaders": loader()}
        torch.manual_seed(5)
        if tried:
            before = copy.deepcopy(module.state_dict())
            modes = [m.training for m in module.modules()]
            assert lightning.suggest(trainer, module, **data, steps=STEPS).lr is not None
            torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
            assert [m.training for m in module.modules()] == modes
            assert not folder.exists() and counting.fits == 0 and trainer.global_step == 0
            module.losses = []
        trainer.fit(module, **data)
        results.append((module.losses, (folder / "lightning_logs/version_0/metrics.csv").read_text(), counting.fits))
    assert results[0] == results[1] and len(results[0][0]) == 60


@pytest.mark.parametrize(
    ("net", "data", "error", "message"),
    [
        ({"manual": True}, loader, MisconfigurationException, "the module optimizes manually"),
        ({"piloted": True}, loader, ValueError, "a PilotLR drives it"),
        ({}, lambda: [loader(), loader()], MisconfigurationException, "several training loaders, want one"),
    ],
)
@pytest.mark.filterwarnings("ignore:PilotLR")
def test_what_lightning_cannot_suggest(
    tmp_path: Path, net: dict[str, Any], data: Callable[[], Any], error: type[Exception], message: str
) -> None:
    trainer, counting = fitting(tmp_path)
    with pytest.raises(error, match=message):
        lightning.suggest(trainer, Net(**net), data(), steps=STEPS)
    held: Any = trainer
    assert counting in held.callbacks and len(trainer.loggers) == 1


# Trainer


@pytest.mark.parametrize("set_up", [{}, {"max_grad_norm": 0.1}, {"max_grad_norm": 0.0}])
def test_trainer_is_tested_as_a_plain_loop_is(tmp_path: Path, set_up: dict[str, Any]) -> None:
    made, _ = make(tmp_path, optim="adamw_torch", **set_up)
    torch.manual_seed(5)
    got = transformers.suggest(made, steps=STEPS)
    model = tiny_bert().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.0)
    norm = set_up.get("max_grad_norm", 1.0)
    if norm:
        optimizer.register_step_pre_hook(
            lambda *_: nn.utils.clip_grad_norm_(model.parameters(), norm) and None  # pyright: ignore
        )
    torch.manual_seed(5)
    want = lrpilot.suggest(optimizer, made.get_train_dataloader(), lambda x: model(**x).loss, model=model, steps=STEPS)
    assert same(got, want)


def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


@pytest.mark.parametrize(
    ("set_up", "trainer"),
    [({}, {}), ({"bf16": True, "label_smoothing_factor": 0.1}, {}), ({}, {"compute_loss_func": mean_loss})],
    ids=["plain", "bf16", "own loss"],
)
def test_a_training_afterwards_is_as_without_it(
    tmp_path: Path, set_up: dict[str, Any], trainer: dict[str, Any]
) -> None:
    results: list[Any] = []
    for tried in (False, True):
        made, rates = make(tmp_path, trainer, max_steps=20, **set_up)
        made.model.eval()  # as from_pretrained leaves it
        if tried:
            before = torch.get_rng_state()
            assert transformers.suggest(made, steps=STEPS).tests >= 1
            assert made.optimizer is None and made.lr_scheduler is None and made.state.global_step == 0
            assert torch.equal(torch.get_rng_state(), before) and not made.model.training
        made.train()
        logs = [{k: v for k, v in entry.items() if k in ("loss", "grad_norm")} for entry in made.state.log_history]
        results.append(
            (rates.used, logs, torch.cat([p.detach().reshape(-1) for p in made.model.parameters()]).tolist())
        )
    assert results[0] == results[1]


def test_an_optimizer_of_ones_own_stays(tmp_path: Path) -> None:
    model = tiny_bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    made, _ = make(tmp_path, {"model": model, "optimizers": (optimizer, None)})
    suggestion = transformers.suggest(made, steps=STEPS)
    assert made.optimizer is optimizer and optimizer.param_groups[0]["lr"] == 0.3 and not optimizer.state
    assert suggestion.curve.rate[0] == pytest.approx(0.1 * 10**-2.5)  # SGD's
