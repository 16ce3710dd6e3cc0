"""The sections of params.yaml that decide what a policy learns, and how. params.yaml explains the parameters, too."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lrpilot.decisions.features import GROUPS
from policy.algorithms import ALGORITHMS
from policy.allowed import (
    AnyDevice,
    Count,
    Distinct,
    Dropout,
    Name,
    Natural,
    NonNegative,
    OneOf,
    Positive,
    PositiveShare,
    Share,
)

DEPARTURES, RUNS = "departures", "runs"  # what agents learn from: those of `policy.departures`, or whole recorded runs


@dataclass(frozen=True)
class Reward:
    """Weights of the terms of a potential (`policy.mdp`), and the potential of a diverged run."""

    loss_weight: NonNegative
    regret_weight: NonNegative
    knee: Positive  # regret below which a further gain counts little more
    floor: Annotated[float, Field(strict=True, le=0)]


@dataclass(frozen=True)
class Inferred:
    """The most departures of each kind that are inferred from one twin, without a twin that made them."""

    stops: Natural
    corrections: Natural


@dataclass(frozen=True)
class Learning:
    """The hyperparameters of any offline agent."""

    steps: Count  # gradient steps
    batch_size: Count  # transitions
    learning_rate: Positive
    gamma: PositiveShare  # discount per decision
    alpha: NonNegative  # weight of the algorithm: `policy.algorithms`
    hidden: tuple[Count, ...]  # widths of the hidden layers


@dataclass(frozen=True)
class TrainConfig(Learning):
    """The offline agents, one per seed."""

    learns_from: Annotated[str, OneOf((DEPARTURES, RUNS))]  # of twins, what they change; or all that runs did
    algorithm: Annotated[str, OneOf(ALGORITHMS)]
    seeds: Distinct[Natural]
    n_step: Count  # decisions per bootstrapped return
    dropout: Dropout  # share of the hidden units left out while training (Srivastava et al. 2014, JMLR 15)
    features: Distinct[Annotated[str, OneOf(GROUPS)]]  # groups of them that the agents see
    mask_validation: Share  # of the episodes are shown without validation loss
    mask_epochs: Share  # of the episodes are shown without the length of an epoch
    inferred: Inferred
    device: AnyDevice


@dataclass(frozen=True)
class Caution:
    """How certain the critics of departures must be about a first level and about a later move."""

    first: NonNegative  # deviations between critics that count against a first level
    later: NonNegative  # and against a later move
    margin: Positive  # worth, in units of return, above which a later move is made


@dataclass(frozen=True)
class Export(Caution):
    """How critics become a policy."""

    small: Name | None  # path of a policy that keeps small networks (`policy.by_size`); None: one policy for all sizes
