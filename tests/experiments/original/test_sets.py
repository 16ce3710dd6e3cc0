"""The data sets of the original experiment: the hub's schemas, and what is said of data that are otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from experiments.original.plan.catalogue import PRETRAINED, PRETRAINED_REVISION, SETS
from experiments.original.prepare import lay_out
from experiments.original.sources import hub, sets
from hub_server import serving
from original_roots import laid_out, mirror, root
from pipeline.schema import ConfigError
from repository import MODULES, TOP

ENVIRONMENT = os.environ | {"PYTHONPATH": MODULES}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A mirror that a test may spoil."""
    return Path(shutil.copytree(mirror(), tmp_path / "mirror"))


def file(folder: Path, name: str, split: str) -> Path:
    (path,) = folder.glob(SETS[name].files(split))
    return path


def rewrite(folder: Path, name: str, split: str, column: str, values: Any) -> None:
    """Put other values into a column, or take it out."""
    path = file(folder, name, split)
    table = pq.read_table(path)
    index = table.column_names.index(column)
    if values is None:
        table = table.remove_column(index).replace_schema_metadata()
    else:
        table = table.set_column(index, column, values(table[column].to_pylist())).replace_schema_metadata()
    pq.write_table(table, path)


@pytest.mark.parametrize("name", SETS)
def test_the_mirror_has_the_hubs_schema(name: str, tmp_path: Path) -> None:
    known = SETS[name]
    for split in ("train", known.test):
        rows = datasets.load_dataset(
            "parquet", data_files=str(file(mirror(), name, split)), split="train", cache_dir=str(tmp_path)
        )
        kind = datasets.Image() if known.kind == "image" else datasets.Value("string")
        assert rows.features[known.column] == kind
        assert rows.features["label"].num_classes == known.classes
        assert set(rows["label"]) == set(range(known.classes))
        assert len(rows) == {"train": 96, known.test: 32}[split]


def test_glues_test_split_has_no_labels_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hub.DataError, match="row 0 has -1, want 0 to 1; take the split 'validation'"):
        hub.split("sst2", "test", mirror(), tmp_path)


def test_two_mirrors_are_the_same_bytes(copy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.original.sources.mirror", str(tmp_path / "again"), "--train", "96"]
    sizes = ["--test", "32", "--vocabulary", "300", "--hidden", "8"]
    subprocess.run([*command, *sizes], cwd=TOP, env=ENVIRONMENT, check=True)
    first, second = (
        {str(p.relative_to(d)): p.read_bytes() for p in d.rglob("*.*")} for d in (copy, tmp_path / "again")
    )
    assert first == second


@pytest.mark.parametrize("name", SETS)
def test_arrays_hold_what_the_hub_has(name: str, tmp_path: Path) -> None:
    made, paths = laid_out(tmp_path, plan={"pairs": {name: ["resnet18" if SETS[name].kind == "image" else "lstm"]}})
    about = sets.read(paths.sets)[name]
    assert about.rows == {"train": 86, "val": 10, "test": 32}
    x, y = hub.split(name, "train", mirror(), tmp_path / "cache")
    parts = [sets.Part(paths.sets, about, part, cut=False) for part in ("val", "train")]
    order = np.random.default_rng(0).permutation(96)
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), y[order])
    (first, *_), _ = parts[0].__getitems__([0])
    if SETS[name].kind == "image":
        image = x[order[0]]
        np.testing.assert_array_equal(first.numpy(), image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
        assert about.mean == pytest.approx(np.mean(parts[1].x, axis=(0, 2, 3)) / 255)
    else:
        tokens = AutoTokenizer.from_pretrained(mirror() / PRETRAINED)
        wanted = tokens(x[order[0]], truncation=True, max_length=made.data.max_tokens[name]).input_ids
        assert first[: len(wanted)].tolist() == wanted and set(first[len(wanted) :].tolist()) <= {about.padding}


def test_batches_are_cut_to_their_longest_text(tmp_path: Path) -> None:
    about = sets.About("x", {"train": 2}, 2, (6,), (), (), 9, 0, "")
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x/train_x.npy", np.array([[2, 5, 3, 0, 0, 0], [2, 5, 6, 3, 0, 0]], np.int32))
    np.save(tmp_path / "x/train_y.npy", np.array([0, 1]))
    assert sets.Part(tmp_path, about, "train").__getitems__([0, 1])[0].tolist() == [[2, 5, 3, 0], [2, 5, 6, 3]]
    assert sets.Part(tmp_path, about, "train").__getitems__([0])[0].shape == (1, 3)
    assert sets.Part(tmp_path, about, "train", cut=False).__getitems__([0])[0].shape == (1, 6)


def test_a_loader_shuffles_by_its_generator_alone(tmp_path: Path) -> None:
    _, paths = laid_out(tmp_path, plan={"pairs": {"mnist": ["resnet18"]}})
    part = sets.Part(paths.sets, sets.read(paths.sets)["mnist"], "train")
    orders = []
    for _ in range(2):
        torch.rand(1)
        batches = sets.loader(part, 16, 0, "cpu", torch.Generator().manual_seed(3))
        orders.append([y.tolist() for _, y in batches])
    assert orders[0] == orders[1] and len(orders[0]) == 86 // 16


BAD_COLUMNS = [
    ("mnist", "label", None, "there is no column 'label', there are image; want 'image' and 'label', as ylecun"),
    ("imdb", "text", None, "imdb, split train: there is no column 'text', there are label"),
    ("mnist", "label", lambda v: pa.array([10, *v[1:]]), "column label: row 0 has 10, want 0 to 9"),
    ("sst2", "label", lambda v: pa.array([*v[:5], -1, *v[6:]]), "column label: row 5 has -1, want 0 to 1"),
    ("sst2", "label", lambda v: pa.array(list(map(str, v))), "column label: row 0 has "),
    ("imdb", "text", lambda v: pa.array([None, *v[1:]]), "column text: row 0 has None, want a text; drop the row"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "column", "values", "message"), BAD_COLUMNS, ids=[f"{c[0]}-{c[3][-24:]}" for c in BAD_COLUMNS]
)
def test_columns_that_are_not_as_on_the_hub(
    name: str, column: str, values: Any, message: str, copy: Path, tmp_path: Path
) -> None:
    rewrite(copy, name, "train", column, values)
    with pytest.raises(hub.DataError) as caught:
        hub.split(name, "train", copy, tmp_path)
    assert message in str(caught.value)


def test_images_of_another_size(copy: Path, tmp_path: Path) -> None:
    grey = pq.read_table(file(copy, "mnist", "train")).rename_columns(["img", "label"])
    pq.write_table(grey, file(copy, "cifar10", "train"))
    with pytest.raises(hub.DataError, match=r"column img: row 0 has shape \(28, 28\), want an image of \(32, 32, 3\)"):
        hub.split("cifar10", "train", copy, tmp_path)


def test_a_changed_file_is_not_served_from_a_cache(copy: Path, tmp_path: Path) -> None:
    path = file(copy, "mnist", "train")
    stamp = path.stat().st_mtime_ns
    _, before = hub.split("mnist", "train", copy, tmp_path)
    table = pq.read_table(path)
    labels = pa.array([9 - label for label in table["label"].to_pylist()])
    pq.write_table(table.set_column(1, table.schema.field("label"), labels), path)
    os.utime(path, ns=(stamp, stamp))
    _, after = hub.split("mnist", "train", copy, tmp_path)
    np.testing.assert_array_equal(after, 9 - before)


def test_a_damaged_file(copy: Path, tmp_path: Path) -> None:
    file(copy, "imdb", "test").write_bytes(b"no parquet")
    with pytest.raises(hub.DataError, match=r"imdb, split test of stanfordnlp/imdb cannot be read .* data\.mirror"):
        hub.split("imdb", "test", copy, tmp_path)


def test_mirrors_that_are_none(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.mirror is '.*nowhere', want a folder that is there; 'embedded'; or ''"
    ):
        lay_out(*root(tmp_path / "a", tmp_path / "nowhere"))
    file(copy, "mnist", "test").unlink()
    with pytest.raises(
        ConfigError, match=r"data\.mirror is .*, want a folder with ylecun/mnist/mnist/test-\*\.parquet"
    ):
        lay_out(*root(tmp_path / "b", copy, plan={"pairs": {"mnist": ["vgg16"]}}))
    shutil.rmtree(copy / PRETRAINED)
    with pytest.raises(hub.DataError, match=r"bert-base-uncased: no config\.json; want a folder that save_pretrained"):
        lay_out(*root(tmp_path / "c", copy, plan={"pairs": {"sst2": ["bert"]}}))


def test_bert_from_a_folder_of_its_own(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / PRETRAINED, tmp_path / "bert")
    made = {"models": {"pretrained": str(tmp_path / "bert")}, "plan": {"pairs": {"sst2": ["bert"]}}}
    params, paths = root(tmp_path / "root", copy, **made)
    lay_out(params, paths)
    assert (paths.sets / "bert/model.safetensors").is_file()


def test_too_few_examples(tmp_path: Path) -> None:
    with pytest.raises(hub.DataError, match=r"mnist: 2 training examples, of which data\.validation holds 0 out"):
        lay_out(*root(tmp_path, data={"examples": 2}, plan={"pairs": {"mnist": ["vgg16"]}}))


FROM_THE_HUB = """
from pathlib import Path
from experiments.original.sources import hub
from experiments.original.plan.catalogue import SETS
for name, known in SETS.items():
    for split in ("train", known.test):
        inputs, labels = hub.split(name, split, None, Path("unused"))
        print(name, split, len(inputs), labels.sum())
tokenizer, encoder = hub.pretrained(None)
print(len(tokenizer), encoder.config.hidden_size)
"""


def test_the_hub_is_asked_for_the_pinned_revisions_and_then_its_cache_will_do(copy: Path, tmp_path: Path) -> None:
    """The real clients of the hub, with a server in its place."""
    for known in SETS.values():  # configurations stand in a repository's card
        splits = (f"  - {{split: {s}, path: {known.config}/{s}-*}}" for s in ("train", known.test))
        card = ["---", "configs:", f"- config_name: {known.config}", "  data_files:", *splits, "---", ""]
        (copy / known.repo / "README.md").write_text("\n".join(card))
    command = [sys.executable, "-c", FROM_THE_HUB]

    def run(**more: str) -> str:
        environment = {k: v for k, v in ENVIRONMENT.items() if k != "HF_HUB_OFFLINE"} | {
            "HF_HOME": str(tmp_path / "hf")
        }
        done = subprocess.run(command, cwd=TOP, env=environment | more, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with serving(copy) as (address, asked):
        output = run(HF_ENDPOINT=address)
    rows = [f"{name} {split} {n}" for name, known in SETS.items() for split, n in (("train", 96), (known.test, 32))]
    assert [line.rpartition(" ")[0] for line in output.splitlines() if line.split()[0] in SETS] == rows
    assert output.splitlines()[-1].split()[1] == "8"
    for known in SETS.values():
        assert f"datasets/{known.repo}/resolve/{known.revision}/{known.config}/train-00000-of-00001.parquet" in asked
    assert f"{PRETRAINED}/resolve/{PRETRAINED_REVISION}/model.safetensors" in asked
    assert run(HF_HUB_OFFLINE="1").splitlines()[-9:] == output.splitlines()[-9:]


def test_no_network(tmp_path: Path) -> None:
    """As a stage, with the hub out of reach: a line that says what to do, and no traceback."""
    root(tmp_path, Path(""), data={"mirror": ""}, plan={"pairs": {"mnist": ["resnet18"]}})
    environment = ENVIRONMENT | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-m", "experiments.original.prepare", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    output = done.stderr.strip().splitlines()[-1]
    assert output.startswith("prepare: mnist, split train of ylecun/mnist cannot be read (")
    assert "HF_HUB_OFFLINE is set: unset it to download; connect to the hub, or set data.mirror to a folder" in output
    assert output.endswith("a folder that holds ylecun/mnist/mnist/train-*.parquet")


@pytest.mark.parametrize("name", ["wrapped", "number", "text"])
def test_a_full_disk_is_named_whatever_wraps_it(name: str) -> None:
    errors = {"number": OSError(28, "x"), "text": RuntimeError("I/O error: No space left on device (os error 28)")}
    wrapped = ValueError("cannot write")
    wrapped.__cause__ = errors["number"]
    with (
        pytest.raises(hub.DataError, match=r"no space left on device; make room in .*, or set HF_HOME"),
        hub.explained("x", "y"),
    ):
        raise {**errors, "wrapped": wrapped}[name]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(hub.DataError, match=r"needs transformers: pip install '\.\[transformers\]'"):
        hub.pretrained(None)
