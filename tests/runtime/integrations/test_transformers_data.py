"""What Trainer's callback says of a training's length and data, in real trainings of every kind of loader."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset, WeightedRandomSampler
from transformers import Trainer, TrainingArguments

import trainer_training
from lrpilot.integrations.transformers import PilotCallback, create_pilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from processes import in_two_processes
from trainer_training import SET_UP, examples, make, tiny_bert

TWO: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2}


class Stream(IterableDataset[Any]):
    """The examples one by one."""

    def __iter__(self) -> Iterator[Any]:
        return iter(examples(72, 0))


class Counted(Stream):
    """A stream that says how long it is."""

    def __len__(self) -> int:
        return 72


@pytest.mark.parametrize(
    ("data", "set_up", "made", "steps", "count"),
    [
        (None, TWO, 18, 9, 72),  # 72 examples in batches of 8
        (None, TWO | {"num_train_epochs": 1.5}, 14, 9, 72),
        (None, TWO | {"gradient_accumulation_steps": 4}, 6, 3, 72),  # the third has one batch
        (None, TWO | {"per_device_train_batch_size": 10}, 16, 8, 72),
        (None, TWO | {"per_device_train_batch_size": 10, "dataloader_drop_last": True}, 14, 7, 72),
        (None, TWO | {"train_sampling_strategy": "group_by_length"}, 18, 9, 72),
        (None, TWO | {"train_sampling_strategy": "sequential"}, 18, 9, 72),
        (None, {"max_steps": 10}, 10, 9, 72),
        (None, {"max_steps": 10, "gradient_accumulation_steps": 4}, 10, 3, 72),
        (None, {"max_steps": 5, "num_train_epochs": 2}, 5, 9, 72),
        (Counted(), {"max_steps": 10}, 10, 9, 72),
        (Counted(), TWO | {"gradient_accumulation_steps": 2}, 10, 5, 72),
        (Stream(), {"max_steps": 10}, 10, None, None),
        (Stream(), {"max_steps": 10, "gradient_accumulation_steps": 2}, 10, None, None),
    ],
)  # fmt: skip
def test_it_tells_how_many_data_there_are(
    tmp_path: Path, policy: Bundle, data: Any, set_up: dict[str, Any], made: int, steps: int | None, count: int | None
) -> None:
    trainer, rates = make(tmp_path, {} if data is None else {"train_dataset": data}, **set_up)
    create_pilot(trainer, policy)
    trainer.train()
    pilot = trainer.lr_scheduler
    assert isinstance(pilot, PilotLR)
    assert pilot.last_epoch == pilot.planned_steps == len(rates.used) == made
    assert (pilot.steps_per_epoch, pilot.examples) == (steps, count)
    _, of_trainer, *_ = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    assert of_trainer == (steps or made)  # Trainer takes the training for one epoch where it knows no length


class Weighted(Trainer):
    """Draws half as many examples as there are."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return WeightedRandomSampler([1.0] * 72, 36)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_sampler_that_draws_fewer_makes_less_than_a_pass(tmp_path: Path, policy: Bundle, by_hand: bool) -> None:
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())
    pilot = PilotLR(optimizer, 10, policy, model=model) if by_hand else None
    args = TrainingArguments(str(tmp_path), **(SET_UP | TWO))
    trainer = Weighted(model, args, train_dataset=examples(72, 0), optimizers=(optimizer, pilot))  # pyright: ignore
    if by_hand:
        trainer.add_callback(PilotCallback(trainer))
    else:
        create_pilot(trainer, policy)
    trainer.train()
    driven: Any = trainer.lr_scheduler
    assert driven.last_epoch == driven.planned_steps == 10
    assert (driven.steps_per_epoch, driven.examples) == (10, 72)  # 5 batches an epoch, half a pass


@pytest.mark.parametrize(
    ("known", "steps", "count"), [({"steps_per_epoch": 7.0}, 7, None), ({"examples": 1000}, 9, 1000)]
)
def test_what_is_known_stays(
    tmp_path: Path, policy: Bundle, known: dict[str, Any], steps: float, count: int | None
) -> None:
    trainer, _ = make(tmp_path, **TWO)
    create_pilot(trainer, policy, **known)
    trainer.train()
    assert (trainer.lr_scheduler.steps_per_epoch, trainer.lr_scheduler.examples) == (steps, count)


def test_the_first_decision_knows_it_without_a_probe_too(tmp_path: Path, policy: Bundle) -> None:
    histories = []
    for known in ({}, {"steps_per_epoch": 9, "examples": 72}):
        trainer, _ = make(tmp_path, **TWO)
        create_pilot(trainer, policy, probe=False, **known)
        trainer.train()
        histories.append(trainer.lr_scheduler.history)
    assert histories[0] == histories[1]


def test_a_training_begins_with_one_line(tmp_path: Path, policy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    trainer, _ = make(tmp_path, max_steps=90, gradient_accumulation_steps=4)
    create_pilot(trainer, policy)
    with caplog.at_level(logging.INFO, "lrpilot"):
        trainer.train()
    (line,) = [record.getMessage() for record in caplog.records if "optimizer steps" in record.getMessage()]
    assert line.startswith("90 optimizer steps; 30 passes over 72 examples, 3 steps each")


def test_two_processes_share_an_epoch(tmp_path: Path) -> None:
    """Of 72 examples in batches of 8 each takes 5 batches; the first one says once what begins."""
    want = [(10, 5, 72), (6, 3, 72), (12, 2, 72)]
    for rank, of_rank in enumerate(in_two_processes(trainer_training.__file__, tmp_path)):
        for (made, steps, count), (*facts, lines) in zip(want, of_rank, strict=True):
            assert facts == [made, made, steps, count]
            starts = [line for line in lines if "optimizer steps" in line]
            assert len(starts) == (rank == 0)
