"""The data sets as arrays on disk, made once. Trainings map them into memory and need neither hub nor decoder.

Per set: {train,val,test}_{x,y}.npy. x are images (n, channels, side, side) uint8 or tokens (n, length) int32, padded at
the right; y are (n,) int64. `val` is a share of the hub's training split, drawn by a fixed seed; `test` is the hub's
own. `sets.json` lists what there is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from experiments.original.plan.catalogue import SETS
from experiments.original.plan.config import DataConfig
from experiments.original.sources import hub
from lrpilot import digests
from policy import trajectories

PARTS = ("train", "val", "test")
ORDER = 0  # seed of the order in which examples are taken: the hub's IMDB is sorted by label
BATCHES = 4  # that a loader's process fetches ahead


@dataclass(frozen=True)
class About:
    """The entry of a data set in `sets.json`."""

    name: str
    rows: dict[str, int]  # by part
    classes: int
    shape: tuple[int, ...]  # of an input
    mean: tuple[float, ...]  # per channel of the training images in [0, 1]; texts: ()
    std: tuple[float, ...]
    vocabulary: int  # tokens; images: 0
    padding: int  # the token; images: 0
    sha256: str  # of the arrays


def make(name: str, config: DataConfig, mirror: Path | None, tokenizer: Any, folder: Path, cache: Path) -> About:
    """Fetch, check and write one data set below `folder`. Raises the errors of `hub.split`."""
    known = SETS[name]
    x, y = hub.split(name, "train", mirror, cache)
    order = np.random.default_rng(ORDER).permutation(len(y))[: config.examples or None]
    held_out = round(config.validation * len(order))
    if not 0 < held_out < len(order):
        raise hub.DataError(
            f"{name}: {len(order)} training examples, of which data.validation holds {held_out} out; want some of both"
        )
    test_x, test_y = hub.split(name, known.test, mirror, cache)
    test_order = np.random.default_rng(ORDER).permutation(len(test_y))[: config.examples or None]

    def ready(inputs: Any, rows: np.ndarray) -> np.ndarray:
        if known.kind == "text":
            return _tokens([inputs[i] for i in rows], tokenizer, config.max_tokens[name])
        images = inputs[rows]
        return np.ascontiguousarray(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))

    train, val, test = (x, y, order[held_out:]), (x, y, order[:held_out]), (test_x, test_y, test_order)
    arrays = {
        part: (ready(inputs, rows), labels[rows])
        for part, (inputs, labels, rows) in zip(PARTS, (train, val, test), strict=True)
    }
    for part, pair in arrays.items():
        for axis, array in zip("xy", pair, strict=True):
            content = io.BytesIO()  # numpy's own writer does not tell a full disk
            np.save(content, array)
            trajectories.store(content.getvalue(), folder / name / f"{part}_{axis}.npy")
    digest = digests.of_parts(np.ascontiguousarray(array).data for pair in arrays.values() for array in pair)
    inputs = arrays["train"][0]
    image = known.kind == "image"
    mean, std = (tuple((f(inputs, axis=(0, 2, 3)) / 255).tolist()) if image else () for f in (np.mean, np.std))
    return About(
        name, {part: len(pair[1]) for part, pair in arrays.items()}, known.classes, inputs.shape[1:], mean, std,
        0 if image else len(tokenizer), 0 if image else int(tokenizer.pad_token_id), digest,
    )  # fmt: skip


def _tokens(texts: Sequence[str], tokenizer: Any, length: int) -> np.ndarray:
    coded = tokenizer(list(texts), truncation=True, max_length=length, padding="max_length", return_tensors="np")
    return coded["input_ids"].astype(np.int32)


def write(about: Sequence[About], folder: Path) -> None:
    """Write `sets.json`."""
    content = {a.name: {k: v for k, v in asdict(a).items() if k != "name"} for a in about}
    (folder / "sets.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, About]:
    """The entries of `sets.json` by name. Raises FileNotFoundError if the prepare stage did not run."""
    content = json.loads((folder / "sets.json").read_text(encoding="utf-8"))
    return {n: About(n, **a | {k: tuple(a[k]) for k in ("shape", "mean", "std")}) for n, a in content.items()}


def fingerprint(about: Sequence[About]) -> str:
    """One hash of all data sets."""
    return digests.of_parts(a.sha256.encode() for a in about)


class Part(Dataset[Any]):
    """One part of a data set, read one batch at a time. Texts are cut to the longest of the batch."""

    def __init__(self, folder: Path, about: About, part: str, cut: bool = True) -> None:
        self.x = np.load(folder / about.name / f"{part}_x.npy", mmap_mode="r")
        self.y = np.load(folder / about.name / f"{part}_y.npy", mmap_mode="r")
        self._padding = about.padding if cut and about.vocabulary else None

    def __len__(self) -> int:
        return len(self.y)

    def __getitems__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x[index]
        if self._padding is not None:
            x = x[:, : max(int((x != self._padding).any(0).sum()), 1)]
        return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(self.y[index])


def loader(part: Part, batch_size: int, workers: int, device: str, shuffle: torch.Generator | None) -> DataLoader[Any]:
    """Batches of a part: shuffled by a generator, all of equal size; or in order, including the last one."""
    return DataLoader(
        part, batch_size, shuffle=shuffle is not None, generator=shuffle, drop_last=shuffle is not None,
        num_workers=workers, collate_fn=_as_it_is, pin_memory=device == "cuda", persistent_workers=workers > 0,
        prefetch_factor=BATCHES if workers else None,
    )  # fmt: skip


def _as_it_is(batch: Any) -> Any:
    return batch
