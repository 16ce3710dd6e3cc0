"""A training logged to TensorBoard and MLflow, and to W&B where that is installed: `log=` takes all of them.

    pip install "lrpilot[torch]" scikit-learn tensorboard mlflow
    python examples/logged_digits.py
    tensorboard --logdir runs
    mlflow ui --backend-store-uri sqlite:///mlflow.db

Trains a small convolutional net on scikit-learn's digits for some seconds. W&B works offline here and needs no account;
`wandb sync wandb/latest-run` sends a run to yours.
"""

from __future__ import annotations

import importlib.util

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from lrpilot.integrations import loggers
from lrpilot.torch import PilotLR

EPOCHS = 15


def main() -> None:
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    loader = DataLoader(TensorDataset(x, torch.tensor(labels)), batch_size=64, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters())

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("digits")
    logs = [loggers.tensorboard(SummaryWriter("runs/digits")), mlflow.log_metrics]
    if importlib.util.find_spec("wandb"):
        import wandb  # pyright: ignore[reportMissingImports]

        logs.append(wandb.init(project="digits", mode="offline").log)
    with mlflow.start_run(run_name="PilotLR"):
        scheduler = PilotLR(optimizer, epochs=EPOCHS, data=loader, model=model, log=loggers.several(*logs))
        for _ in range(EPOCHS):
            for images, labels in loader:
                loss = nn.functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step(loss)
    print(scheduler.history)


if __name__ == "__main__":
    main()
