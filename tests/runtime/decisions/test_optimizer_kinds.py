"""The table of optimizer kinds, and what is read off it."""

import pytest
import torch

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS, OWN_STEP, REFERENCES, known

# In the order of the table: title, textbook rate, highest rate of a grid, what a pilot takes it for.
ROWS = {
    "adam": ("Adam", 1e-3, 0.3, "adam"),
    "adamw": ("AdamW", 1e-3, 0.3, "adamw"),
    "sgd": ("SGD", 0.1, 10.0, "sgd"),
    "rmsprop": ("RMSprop", 1e-3, 0.3, "adam"),
    "nadam": ("NAdam", 1e-3, 0.3, "adam"),
    "adagrad": ("Adagrad", 1e-2, 3.0, "adam"),
    "lion": ("Lion", 1e-4, 0.1, "adam"),
}


def test_the_table_has_these_rows_in_this_order() -> None:
    rows = {name: (kind.title, kind.textbook, kind.highest, kind.driven_as) for name, kind in OPTIMIZERS.items()}
    assert list(rows.items()) == list(ROWS.items())
    assert [name for name, kind in OPTIMIZERS.items() if kind.is_sgd] == ["sgd"]
    assert [name for name, kind in OPTIMIZERS.items() if kind.decoupled] == ["adamw", "lion"]


def test_policies_know_the_kinds_with_a_reference() -> None:
    assert list(REFERENCES.items()) == [("sgd", -1.0), ("adam", -3.0), ("adamw", -3.0)]
    assert known("or") == "SGD, Adam or AdamW"


@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if kind.classes])
def test_torch_has_the_classes_of_a_row(name: str) -> None:
    """Their own defaults are the row's."""
    kind, weights = OPTIMIZERS[name], [torch.nn.Parameter(torch.zeros(1))]
    for cls in kind.classes:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, cls)(weights)
        assert optimizer.defaults.get("betas") == kind.betas
        assert not any(cls.lower().startswith(start) for start in OWN_STEP)
    assert kind.classes[0] == kind.title
