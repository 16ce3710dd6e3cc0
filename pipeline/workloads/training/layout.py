"""How a module's numbers are stored in flat rows: the trained parameters, and separately all other floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rows:
    """Names and shapes of the tensors that a flat row (n,) holds one after the other."""

    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Rows:
        return cls({name: tensor.shape for name, tensor in tensors.items()})

    def parts(self, row: Tensor) -> dict[str, Tensor]:
        """Views of a row by name."""
        parts = torch.split(row, [shape.numel() for shape in self.shapes.values()]) if self.shapes else ()
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def columns(self, rows: Tensor) -> dict[str, Tensor]:
        """Views (K, *shape) of rows (K, n) by name."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = torch.split(rows, sizes, dim=1) if sizes else ()
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.unflatten(1, shape) if shape else part[:, 0] for (name, shape), part in named}

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A row (n,) of the tensors by these names."""
        wanted = [tensors[name].detach().reshape(-1) for name in self.shapes]
        return torch.cat(wanted) if wanted else torch.zeros(0)


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def carried(model: nn.Module) -> dict[str, Tensor]:
    """A member's other numbers: frozen parameters, and buffers of floats such as running statistics."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return frozen | {name: b for name, b in model.named_buffers() if b.is_floating_point()}


def snapshot(model: nn.Module) -> Tensor:
    """(P + Q,): all numbers of a module that its outputs depend on."""
    return torch.cat([Rows.of(part).row(part) for part in (trained(model), carried(model))])


def load(model: nn.Module, numbers: Tensor) -> nn.Module:
    """The module with the numbers of a `snapshot` in place of its own."""
    tensors = trained(model) | carried(model)
    with torch.no_grad():
        for name, part in Rows.of(tensors).parts(numbers).items():
            tensors[name].copy_(part)
    return model
