"""The entities of the experiment plan: data sets and weights as on the Hugging Face hub, models, schedulers.

Revisions are pinned, so a run next year uses the same bytes as today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "text"]


@dataclass(frozen=True)
class HubSet:
    """A data set of the hub. Its schema: column `column` with images or texts, column `label` with 0..classes-1."""

    title: str
    repo: str
    config: str
    revision: str
    kind: Kind
    column: str
    classes: int
    test: str  # the split with public labels that nothing is trained on
    shape: tuple[int, ...] = ()  # of an image

    def files(self, split: str) -> str:
        """The split's files in a mirror folder: a pattern of file names, as on the hub."""
        return f"{self.repo}/{self.config}/{split}-*.parquet"


SETS = {
    "cifar10": HubSet(
        "CIFAR-10", "uoft-cs/cifar10", "plain_text", "0b2714987fa478483af9968de7c934580d0bb9a2",
        "image", "img", 10, "test", (32, 32, 3),
    ),
    "mnist": HubSet(
        "MNIST", "ylecun/mnist", "mnist", "77f3279092a1c1579b2250db8eafed0ad422088c",
        "image", "image", 10, "test", (28, 28),
    ),
    "imdb": HubSet(
        "IMDB", "stanfordnlp/imdb", "plain_text", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31", "text", "text", 2, "test"
    ),
    "sst2": HubSet(  # the labels of GLUE's own test split are not public: they are -1 there
        "SST-2", "nyu-mll/glue", "sst2", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", "text", "sentence", 2, "validation"
    ),
}  # fmt: skip

PRETRAINED, PRETRAINED_REVISION = "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"

MODELS: dict[str, Kind] = {"resnet18": "image", "vgg16": "image", "lstm": "text", "bert": "text"}
MODEL_TITLES = {"resnet18": "ResNet-18", "vgg16": "VGG-16", "lstm": "LSTM", "bert": "BERT"}

TRADITIONAL = ("fixed", "step", "exponential", "cosine")  # torch's own
AGENTS = ("discrete", "continuous")  # of the plan: they decide once per epoch
PILOTS = ("pilot", "pilot_validation")  # lrpilot's policy, which is given no initial rate
SCHEDULERS = (*TRADITIONAL, *PILOTS, *AGENTS)
SCHEDULER_TITLES = {
    "fixed": "fixed", "step": "StepLR", "exponential": "ExponentialLR", "cosine": "CosineAnnealingLR",
    "pilot": "PilotLR", "pilot_validation": "PilotLR + validation loss",
    "discrete": "agent, ±10 %", "continuous": "agent, continuous",
}  # fmt: skip
