"""THE table of optimizer kinds: what the pilot, the recorded trainings and the benchmark know of each. Needs no torch.

A new kind is a row here, and the rule of its step in `pipeline/workloads/training/update_rules.py`; CONTRIBUTING.md
has the way.
"""

from __future__ import annotations

from dataclasses import dataclass

ADAM_BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class OptimizerKind:
    """One kind of optimizer.

    Attributes:
        name: in files and arguments.
        title: in messages.
        textbook: rate that a person would type first: torch's or the paper's default, or the common one of SGD with
            momentum.
        highest: rate of a grid. A textbook grid for SGD reaches further up.
        reference: log10 of the rate that a pilot counts levels from. None: no policy knows the kind, and a pilot takes
            it for Adam.
        classes: names in torch.optim. Trainings of a workload use the first.
        is_sgd: whether a step is the rate times the gradient or its momentum, as the feature of that name says.
        betas: by default. None: it has none.
        decoupled: whether weight decay does not go through the gradient.
    """

    name: str
    title: str
    textbook: float
    highest: float
    reference: float | None = None
    classes: tuple[str, ...] = ()
    is_sgd: bool = False
    betas: tuple[float, float] | None = None
    decoupled: bool = False

    @property
    def driven_as(self) -> str:
        """Name of the kind that a pilot takes it for."""
        return FALLBACK if self.reference is None else self.name


FALLBACK = "adam"  # what a pilot takes an optimizer for that no policy knows
OPTIMIZERS = {kind.name: kind for kind in (
    OptimizerKind("adam", "Adam", 1e-3, 0.3, -3.0, ("Adam",), betas=ADAM_BETAS),
    OptimizerKind("adamw", "AdamW", 1e-3, 0.3, -3.0, ("AdamW",), betas=ADAM_BETAS, decoupled=True),
    OptimizerKind("sgd", "SGD", 0.1, 10.0, -1.0, ("SGD", "ASGD"), is_sgd=True),
    OptimizerKind("rmsprop", "RMSprop", 1e-3, 0.3, classes=("RMSprop",)),
    OptimizerKind("nadam", "NAdam", 1e-3, 0.3, classes=("NAdam",), betas=ADAM_BETAS),
    OptimizerKind("adagrad", "Adagrad", 1e-2, 3.0, classes=("Adagrad",)),
    OptimizerKind("lion", "Lion", 1e-4, 0.1, betas=(0.9, 0.99), decoupled=True),  # of the package lion-pytorch
)}  # fmt: skip

KNOWN = {kind.name: kind.reference for kind in OPTIMIZERS.values() if kind.reference is not None}
REFERENCES = dict(sorted(KNOWN.items(), key=lambda item: -item[1]))  # of the kinds that policies know, highest first

ESTIMATES = "estimates the step size itself, and its rate only scales that"

# By the beginning of a class's name, in lower case: why a learned rate would be wrong there.
OWN_STEP = {
    "lbfgs": "has a line search, and asks for the loss several times per step",
    "rprop": "gives each weight a step size of its own, which the rate does not change",
    "prodigy": ESTIMATES,
    "dadapt": ESTIMATES,
    "mechan": ESTIMATES,
    "dog": ESTIMATES,
    "ldog": ESTIMATES,
    "dowg": ESTIMATES,
    "momo": "works out each step size from the loss, and its rate is only a bound",
    "schedulefree": "averages its weights in place of a schedule, and needs a constant rate",
}


def known(word: str) -> str:
    """The kinds that policies know, for a message: "SGD, Adam and AdamW" with the word "and"."""
    *most, last = (OPTIMIZERS[name].title for name in REFERENCES)
    return f"{', '.join(most)} {word} {last}"
