"""What a sketch of a torch model samples."""

import torch
from torch import nn

from lrpilot.decisions import telemetry
from lrpilot.loop.sampler import Sampler


def test_sampler_gathers_the_sketchs_coordinates() -> None:
    params = [nn.Parameter(torch.randn(*s)) for s in ((400, 150), (3,), (40, 300), (8, 8, 2, 2))]
    params[3].data = params[3].data.to(memory_format=torch.channels_last)
    sampler = Sampler(params)
    chosen = telemetry.sketch_coordinates(sum(p.numel() for p in params))
    assert len(chosen) <= telemetry.SKETCH < telemetry.WHOLE < sum(p.numel() for p in params)
    flat = torch.cat([p.detach().reshape(-1) for p in params])
    assert torch.equal(sampler.weights(), flat[chosen])
    for p in params[1:]:
        p.grad = p.detach().clone()
    flat[: params[0].numel()] = 0.0  # a gradient that is None counts as zero
    assert torch.equal(sampler.gradients(), flat[chosen])
