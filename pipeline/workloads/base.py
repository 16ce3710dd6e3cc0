"""A workload: one training problem, written for one run, with any module, data, loss, and the settings of its
optimizer.

`population.py` trains many runs of it at once: together if torch.func can map the module, otherwise one after the
other. Nothing here depends on that. All random draws of a training depend only on its seed and the step. So the same
run repeats bit for bit, and runs with one seed share weights, batches, augmentation and dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS, OptimizerKind

Regime = Literal["ordinary", "finetuning", "small_noisy", "odd"]
REGIMES: tuple[Regime, ...] = ("ordinary", "finetuning", "small_noisy", "odd")  # docs/workloads.md
SEQUENCES = 32  # at least, of those that a run is scored on: symbols of one resemble each other


@dataclass(frozen=True)
class Data:
    """One split of a data set: x (n, ...), y (n, ...); the first axis counts examples."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Workload:
    """One training problem: data, architecture, loss, optimizer, budget.

    Validation data are used for the reward and the optional validation features, test data only for the evaluation.
    """

    family: str
    name: str  # the instance, for people: "digits-mlp-3x64-relu"
    train: Data
    val: Data
    test: Data
    build: Callable[[], nn.Module]  # a freshly initialised model, drawn from torch's global generator
    loss: Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> mean loss, shape ()
    error: (
        Callable[[Tensor, Tensor], Tensor] | None
    )  # (outputs, targets) -> error rate in [0, 1], shape (); None: no such thing
    baseline_loss: float  # validation loss of the best constant prediction, in the units of `loss`
    optimizer: str  # a name in OPTIMIZERS
    batch_size: int
    n_steps: int
    weight_decay: float = 0.0  # decoupled for adamw and lion, else added to the gradient
    betas: tuple[float, float] | None = None  # of Adam kinds and Lion; None: their defaults
    momentum: float = 0.9  # of SGD
    nesterov: bool = False  # of SGD
    clip: float | None = None  # highest norm of a gradient, over all parameters
    train_loss: Callable[[Tensor, Tensor], Tensor] | None = None  # where training minimises another one than `loss`
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None  # of a batch; may draw from torch's global
    # generator: it is seeded for every run and step
    textbook: tuple[str, float] | None = None  # schedule and highest rate that a person would type; None: cosine
    # from the rate of OPTIMIZERS
    start: Mapping[str, Tensor] = field(default_factory=dict)  # of a state_dict, in place of fresh ones (fine-tuning)
    title: str = ""  # on pages, after the family's: "turned MLP 1×69"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"Workload.optimizer: {self.optimizer!r}, want one of {tuple(OPTIMIZERS)}")
        if not 1 <= self.batch_size <= len(self.train):
            raise ValueError(f"Workload.batch_size: {self.batch_size}, want 1..{len(self.train)} (training examples)")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"Workload.clip: {self.clip}, want a norm above 0, or None")

    @property
    def default(self) -> tuple[str, float]:
        """Schedule and highest rate of the textbook default."""
        return self.textbook or ("cosine", self.kind.textbook)

    @property
    def kind(self) -> OptimizerKind:
        """What is known of its kind of optimizer."""
        return OPTIMIZERS[self.optimizer]

    @property
    def minimised(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss that training minimises."""
        return self.train_loss or self.loss

    @property
    def steps_per_epoch(self) -> float:
        return len(self.train) / self.batch_size

    def scored(self, predictions: int) -> int:
        """How many validation examples a run is scored on: `n`, where a sequence counts once for each symbol."""
        symbols = 1 if self.val.y.is_floating_point() else self.val.y.shape[1:].numel()
        return predictions if symbols == 1 else max(SEQUENCES, -(-predictions // symbols))

    def initialise(self, seed: int) -> nn.Module:
        """The model that run `seed` starts from; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed visits every kind of device, a millisecond
            model = self.build()
        if self.start:
            model.load_state_dict({**model.state_dict(), **self.start})
        return model

    def batches(self, seed: int) -> np.ndarray:
        """Example indices (n_steps, batch_size) of run `seed`: reshuffled every epoch, the last short batch dropped."""
        rng = np.random.default_rng([seed, 0xBA7C4])
        per_epoch = len(self.train) // self.batch_size
        epochs = -(-self.n_steps // per_epoch)
        order = np.stack([rng.permutation(len(self.train))[: per_epoch * self.batch_size] for _ in range(epochs)])
        return order.reshape(-1, self.batch_size)[: self.n_steps]


@dataclass(frozen=True)
class Family:
    """A distribution over workloads. `sample(rng)` draws one; all randomness comes from `rng`."""

    name: str
    split: str  # "train" (collection), "selection" (meta-validation), "heldout"; "_large" behind the latter two
    sample: Callable[[np.random.Generator], Workload]
    regime: Regime  # of all its workloads
    title: str = ""  # on pages, before that of a workload: "MNIST fine-tuned"
    frozen: int | None = None  # its tasks in the benchmark, whatever their optimizer; None: some of each (splits.py)
    dear: bool = False  # a training takes so long that a collection affords one group of twins for a task
    packages: tuple[str, ...] = ()  # whose version decides its data, as in `code_hash.digest`

    def label(self, workload: Workload) -> str:
        """What one of its workloads is called on pages: "diabetes MLP 3×34 · Adam · 331 steps · batch 12"."""
        title, optimizer = f"{self.title} {workload.title}".strip(), OPTIMIZERS[workload.optimizer].title
        settings = f"{optimizer} · {workload.n_steps:,} steps · batch {workload.batch_size}"
        return f"{title or workload.name} · {settings}"

    @property
    def module(self) -> str:
        """Full name of the module that defines it."""
        return self.sample.__module__


def find(families: Mapping[str, Family], name: str) -> Family:
    """The family of that name. Raises KeyError, which lists the known names by split."""
    if name not in families:
        splits = dict.fromkeys(item.split for item in families.values())
        known = {split: ", ".join(n for n, item in families.items() if item.split == split) for split in splits}
        listed = "; ".join(f"{split}: {members}" for split, members in known.items())
        raise KeyError(f"workload family {name!r} is unknown, use one of {listed}")
    return families[name]
