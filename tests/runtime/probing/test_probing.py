"""What loops keep the probe out of, in the ways that docs/seeing.md shows: averages, checkpoints, pruning, logs."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import AveragedModel

from lrpilot.policy_file.bundle import Bundle
from user_training import Training


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_an_average_holds_no_weights_of_the_probe(policy: Bundle) -> None:
    """It is the mean of all weights after the probe, and would be another one with the probe's."""
    training = Training(policy)
    averages = [AveragedModel(training.model), AveragedModel(training.model)]
    weights: list[torch.Tensor] = []
    steps = 0
    for _ in range(60):
        loss = training.update()
        averages[1].update_parameters(training.model)
        if not training.scheduler.probing:
            averages[0].update_parameters(training.model)
            weights.append(flat(training.model))
        steps += training.scheduler.probing
        training.scheduler.step(loss)
    assert steps == training.scheduler.pilot.probes.steps[0] == 60 - len(weights) > 3
    mean = torch.stack(weights).mean(0)
    torch.testing.assert_close(flat(averages[0].module), mean)
    assert not torch.allclose(flat(averages[1].module), mean, rtol=1e-2)


def test_the_first_checkpoint_follows_the_probe(policy: Bundle) -> None:
    """Its weights are one step from where the training began; asked after the step, `probing` would be late by one."""
    training = Training(policy)
    begun, saved = flat(training.model), copy.deepcopy(training.model)
    at = 0
    while not at:
        loss = training.update()
        if not training.scheduler.probing:
            saved, at = copy.deepcopy(training.model), len(training.rates)
        training.scheduler.step(loss)
        if not training.scheduler.probing and not at:
            torch.testing.assert_close(flat(training.model), begun, rtol=0, atol=0)  # put back by the step just made
    assert at == training.scheduler.pilot.probes.steps[0] + 1
    moved = (flat(saved) - begun).abs().max()
    assert 0 < moved <= 1.01 * training.rates[-1]  # Adam's first step


def test_what_prunes_at_a_rise_sees_none_of_the_probe(policy: Bundle) -> None:
    """A pruner that ends a trial whose loss is half above its best would end this one within the probe."""

    def reported(whole: bool) -> list[float]:
        training, losses = Training(policy), []
        for _ in range(60):
            loss = training.update()
            if whole or not training.scheduler.probing:
                losses.append(loss.item())
            training.scheduler.step(loss)
        return losses

    def prunes(losses: list[float]) -> bool:
        return any(loss > 1.5 * min(losses[: at + 1]) for at, loss in enumerate(losses))

    assert prunes(reported(whole=True))
    assert not prunes(reported(whole=False))
