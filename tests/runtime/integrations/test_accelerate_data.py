"""What PilotLR takes a training for that Accelerate has prepared, in one process and in two."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState

import accelerated_data
from accelerated_data import CASES
from lrpilot.policy_file.bundle import Bundle
from processes import in_two_processes

# Of 3 epochs: optimizer steps made, of a pass over the data, and examples
ALONE = [
    (72, 24, 96), (15, 5, 96), (72, 24, 96), (72, 24, 96), (15, 5, 96), (72, 24, 96), (72, 24, 96), (72, 24, 96),
    (39, 13, 100),
    (18, 12, 96),  # 12 batches an epoch, half a pass, in 6 steps
    (72, 24, 96), (72, 24, 96),
]  # fmt: skip
IN_TWO = [
    (36, 12, 96), (9, 3, 96),
    (72, 24, 96),  # each process takes half of a batch
    (36, 12, 96), (15, 5, 96), (36, 12, 96), (36, 12, 96), (36, 12, 96),
    (21, 7, 100),  # 13 batches, and one again
    (9, 6, 96), (36, 12, 96), (36, 12, 96),
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(("case", "row"), [*zip(CASES, ALONE, strict=True)])
def test_a_prepared_loader_says_how_long_a_training_is(policy: Bundle, case: Any, row: Any, prepared: bool) -> None:
    made, steps, examples = row
    assert accelerated_data.train(policy, *case, prepared=prepared) == [made, made, steps, examples]


def test_two_processes_share_an_epoch(tmp_path: Path, policy: Bundle) -> None:
    """Their loaders' lengths are those of each process; the first one says once what begins."""
    records = in_two_processes(accelerated_data.__file__, tmp_path, str(policy.path))
    for rank, of_rank in enumerate(records):
        for case, (*facts, lines), (made, steps, examples) in zip(CASES, of_rank, IN_TWO, strict=True):
            assert facts == [made, made, steps, examples], case
            starts = [line for line in lines if "optimizer steps" in line]
            assert len(starts) == (rank == 0), case
            assert rank or f"over {examples} examples, {steps} steps each" in starts[0]


def test_a_training_begins_with_one_line(policy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lrpilot"):
        accelerated_data.train(policy, "shuffled", 5, {}, prepared=True)
    (line,) = [record.getMessage() for record in caplog.records if "optimizer steps" in record.getMessage()]
    assert line.startswith("15 optimizer steps; 3 passes over 96 examples, 5 steps each, 5 batches per step; no probe")
