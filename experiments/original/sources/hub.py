"""Checked splits of the data sets, and the pretrained BERT, from the Hugging Face hub or from a mirror folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.original.plan.catalogue import PRETRAINED, PRETRAINED_REVISION, SETS, HubSet
from lrpilot import digests
from pipeline.schema import ConfigError

SHOWN = 120  # characters of somebody else's error


class DataError(ValueError):
    """Data that cannot be used. The message says which, what is wrong with them, and what to do."""


def split(name: str, which: str, mirror: Path | None, cache: Path) -> tuple[Any, np.ndarray]:
    """Inputs and labels (n,) int64 of a split: images (n, *shape) uint8, or a list of texts.

    Raises `ConfigError` for an invalid mirror, `DataError` if the hub does not answer or the data differ from the
    catalogue.
    """
    from datasets import Image

    known = SETS[name]
    where = f"{name}, split {which}"
    with explained(f"{where} of {known.repo}", f"a folder that holds {known.files(which)}"):
        rows = _mirrored(known, which, mirror, cache) if mirror else _downloaded(known, which)
    for column in (known.column, "label"):
        if column not in rows.column_names:
            raise DataError(
                f"{where}: there is no column {column!r}, there are {', '.join(rows.column_names)}; "
                f"want {known.column!r} and 'label', as {known.repo} has them"
            )
    if not len(rows):
        raise DataError(f"{where}: no rows; want some")
    labels = _labels(rows["label"], known, where)
    with explained(f"{where}, column {known.column}", "a folder with sound files"):
        if known.kind == "image":  # a file may lack the note that these bytes are images
            rows = rows.cast_column(known.column, Image())
        inputs = list(rows[known.column])
    return (_images(inputs, known, where) if known.kind == "image" else _texts(inputs, known, where)), labels


def _mirrored(known: HubSet, which: str, mirror: Path, cache: Path) -> Any:
    from datasets import load_dataset

    files = sorted(mirror.glob(known.files(which)))
    if not files:
        raise ConfigError("data.mirror", repr(str(mirror)), f"a folder with {known.files(which)}, as on the hub")
    # `datasets` tells a file by its path and time alone; by its content a changed file is another one.
    digest = digests.of_parts(path.read_bytes() for path in files)[:16]
    names = [str(path) for path in files]
    return load_dataset("parquet", data_files={which: names}, split=which, cache_dir=str(cache / digest))


def folder(mirror: str) -> Path:
    """The folder that `data.mirror` names. Raises `ConfigError` if there is none."""
    if not Path(mirror).is_dir():
        raise ConfigError("data.mirror", repr(mirror), "a folder that is there; 'embedded'; or '', for the hub itself")
    return Path(mirror)


def _downloaded(known: HubSet, which: str) -> Any:
    from datasets import load_dataset

    return load_dataset(known.repo, known.config, split=which, revision=known.revision)


def pretrained(folder: Path | None) -> tuple[Any, Any]:
    """The tokenizer and the encoder of BERT, from a folder or from the hub. Raises `DataError`."""
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise DataError("LSTM and BERT read tokens, which needs transformers: pip install '.[transformers]'") from None
    if folder is not None and not (folder / "config.json").is_file():
        raise DataError(f"{folder}: no config.json; want a folder that save_pretrained wrote, as {PRETRAINED} is one")
    logging.set_verbosity_error()  # else it tells of parts that the encoder does without
    logging.disable_progress_bar()
    torch.manual_seed(0)  # a checkpoint without a pooler gets a new one
    source, options = (str(folder), {}) if folder else (PRETRAINED, {"revision": PRETRAINED_REVISION})
    with explained(source, f"a folder that holds {PRETRAINED}, or models.pretrained to its folder"):
        return AutoTokenizer.from_pretrained(source, **options), AutoModel.from_pretrained(source, **options)


@contextmanager
def explained(what: str, instead: str) -> Iterator[None]:
    """Turn an error of the hub or of a file into a `DataError`. `instead` is a possible value of data.mirror."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except Exception as error:  # the libraries raise errors of many kinds, some of them their own
        if full(error):
            place = os.environ.get("HF_HOME") or "~/.cache/huggingface"
            raise DataError(f"{what}: no space left on device; make room in {place}, or set HF_HOME") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN]
        offline = " HF_HUB_OFFLINE is set: unset it to download;" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise DataError(
            f"{what} cannot be read ({reason});{offline} connect to the hub, or set data.mirror to {instead}"
        ) from error


def full(error: BaseException | None) -> bool:
    """Whether a full disk is among the causes of an error. Not every library passes its error number on."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _labels(labels: Sequence[Any], known: HubSet, where: str) -> np.ndarray:
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < known.classes:
            raise DataError(
                f"{where}, column label: row {row} has {label!r}, want 0 to {known.classes - 1}; "
                f"take the split {known.test!r}, whose labels are public, and files as {known.repo} has them"
            )
    return np.array(labels, np.int64)


def _images(images: list[Any], known: HubSet, where: str) -> np.ndarray:
    for row, image in enumerate(images):
        shape = np.shape(image)
        if shape != known.shape:
            raise DataError(
                f"{where}, column {known.column}: row {row} has shape {shape}, want an image of {known.shape}; "
                f"files as {known.repo} has them"
            )
    return np.stack([np.asarray(image, np.uint8) for image in images])


def _texts(texts: list[Any], known: HubSet, where: str) -> list[str]:
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{where}, column {known.column}: row {row} has {text!r}, want a text; drop the row")
    return texts
