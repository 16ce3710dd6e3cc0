"""Handwritten digits with Lightning: no learning rate is chosen anywhere.

    pip install "lrpilot[lightning]" scikit-learn
    python examples/lightning_digits.py

Trains a small convolutional net on scikit-learn's 8x8 digits for some seconds, and prints its accuracy on digits that
it has not seen.
"""

from __future__ import annotations

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.integrations.lightning import PilotCallback
from lrpilot.torch import PilotLR

Batch = tuple[Tensor, Tensor]  # images (B, 1, 8, 8) in [0, 1], labels (B,)


class Digits(LightningModule):
    """A net of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )  # fmt: skip

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: Batch, index: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters())
        return [optimizer], [PilotLR(optimizer, self.trainer.estimated_stepping_batches, model=self)]


def data() -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Batches to train on, and batches to validate on."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    parts = train_test_split(images, torch.tensor(labels), test_size=0.25, stratify=labels, random_state=0)
    train, test = TensorDataset(*parts[0::2]), TensorDataset(*parts[1::2])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=256)


def main(epochs: int = 10) -> float:
    """Train; the accuracy on unseen digits."""
    seed_everything(0, verbose=False)
    train, test = data()
    module = Digits()
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[PilotCallback()],  # passes on training and validation loss
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train, test)
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    highest = max(decision.lr for decision in module.lr_schedulers().history)
    print(f"accuracy {accuracy:.3f}, highest learning rate {highest:.1e}")
    return accuracy


if __name__ == "__main__":
    main()
