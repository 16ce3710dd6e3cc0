"""One training of the original experiment, under everything that can set its learning rate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import resnet18, vgg16_bn

from experiments.original.agents import epoch_agents, epochs
from experiments.original.plan.catalogue import MODELS, PILOTS, SETS
from experiments.original.plan.config import AgentsConfig, ModelsConfig, Original, Setting
from experiments.original.plan.paths import OriginalPaths
from experiments.original.sources.sets import About
from experiments.original.trainings.cells import cells
from experiments.original.trainings.checkpoints import TooLargeError, train
from experiments.original.trainings.loop import Loop
from experiments.original.trainings.models import build
from experiments.original.trainings.result_files import compute
from experiments.original.trainings.training import Training
from original_roots import laid_out, pair
from pipeline.schema import ConfigError
from pipeline.simulation.schedules import multipliers
from repository import TOP

Made = tuple[Original, OriginalPaths]
RUNTIMES = ("train_runtime", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
PLAIN = {"constant": "fixed", "step": "step", "exponential": "exponential", "cosine": "cosine"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return laid_out(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of stages that run as they do in DVC, with one MLflow store: a new one takes seconds."""
    paths = os.pathsep.join(map(str, (TOP, TOP / "runtime")))
    store = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    return {**os.environ, "PYTHONPATH": paths, "MLFLOW_TRACKING_URI": store}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discrete agent that was only ever rewarded for raising the rate."""
    rng, episodes = np.random.default_rng(0), []
    for _ in range(20):
        actions = rng.integers(0, 3, 8).astype(float)
        observations = rng.normal(size=(8, len(epochs.FEATURES))).astype(np.float32)
        episodes.append(epoch_agents.Episode(observations, actions, (actions - 1).astype(np.float32)))
    config = AgentsConfig(300, 32, 1e-2, 0.5, 0.1, (16,), "discretecql", "td3bc", 0)
    path = tmp_path_factory.mktemp("agent") / "discrete.onnx"
    epoch_agents.write(epoch_agents.train(episodes, "discrete", config), {}, path)
    return path


def steady(result: dict[str, Any]) -> dict[str, Any]:
    """A result without its wall times; nan equals nan."""
    return json.loads(json.dumps({k: v for k, v in result.items() if k not in RUNTIMES}), parse_constant=str)


def lstm(made: Made, n_epochs: int = 4, **changes: Any) -> Training:
    return replace(pair(made, "sst2", "lstm"), setting=Setting(1e-3, 4, n_epochs), **changes)


@pytest.mark.parametrize(("curve", "scheduler"), PLAIN.items())
def test_traditional_schedulers_are_those_of_the_benchmark(curve: str, scheduler: str, made: Made) -> None:
    result = train(lstm(made, scheduler=scheduler, learning_rate=0.01))
    wanted = 0.01 * np.append(multipliers(curve, result["steps"]), np.nan)
    rates = [(row["step"], row["lr"]) for row in result["curve"][:-1]]
    assert len(rates) == 4 and rates[-1][0] == 3 * result["steps"] // 4
    for step, lr in rates:
        assert lr == pytest.approx(wanted[step], rel=1e-6)


KINDS = ("fixed", "cosine", *PILOTS, "discrete", "recorded")
RESUMED = [*((model, kind) for model in MODELS for kind in KINDS), ("lstm", "step"), ("lstm", "exponential")]


@pytest.mark.parametrize(("model", "scheduler"), RESUMED)
def test_resumed_equals_uninterrupted(model: str, scheduler: str, made: Made, agent: Path, tmp_path: Path) -> None:
    """Killed after any epoch, dropout and batch norm included; 84 steps under a pilot, whose probe takes 16."""
    name = "cifar10" if MODELS[model] == "image" else "sst2"
    training = replace(pair(made, name, model), setting=Setting(1e-3, 4 if scheduler in PILOTS else 16, 4))
    training = replace(training, scheduler=scheduler, learning_rate=3e-3)
    if scheduler == "discrete":
        training = replace(training, policy=str(agent))
    if scheduler == "recorded":
        training = replace(training, scheduler="continuous", behaviour="random_walk", exploration=(0.5, 0.9))
    whole = Loop(training)
    states = []
    while not whole.over:
        whole.epoch()
        torch.save(whole.state_dict(), tmp_path / f"{whole.done}.pt")
        states.append(tmp_path / f"{whole.done}.pt")
    wanted, weights = steady(whole.result()), whole.model.state_dict()
    for state in (states[0], states[2]):
        resumed = Loop(training)
        resumed.load_state_dict(torch.load(state, weights_only=True))
        while not resumed.over:
            resumed.epoch()
        assert steady(resumed.result()) == wanted
        for key, value in resumed.model.state_dict().items():
            torch.testing.assert_close(value, weights[key], rtol=0, atol=0, equal_nan=True)


def test_a_killed_run_goes_on_where_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    """A real stage, killed in the middle of a training of thirty epochs, beside one that was left alone."""
    sections: dict[str, Any] = {
        "plan": {"pairs": {"imdb": ["lstm"]}, "schedulers": ["pilot"], "seeds": 2},
        "training": {"settings": {"lstm": [{"learning_rate": 1.0e-3, "batch_size": 8, "epochs": 30}]}},
    }
    made = laid_out(tmp_path / "killed", **sections)
    shutil.copytree(tmp_path / "killed", tmp_path / "whole")
    command = [sys.executable, "-m", "experiments.original.run", "--root", str(tmp_path / "killed")]
    runs, deadline = made[1].runs, time.monotonic() + 120
    with subprocess.Popen(command, cwd=TOP, env=environment, stdout=subprocess.DEVNULL) as process:
        while not list(runs.glob("*.pt")):
            assert time.monotonic() < deadline and process.poll() is None, "no checkpoint was written"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (checkpoint,) = runs.glob("*.pt")
    done = torch.load(checkpoint, weights_only=True)["done"]
    assert 0 < done < 30 and not list(runs.glob("*.json"))
    subprocess.run(command, cwd=TOP, env=environment, check=True, stdout=subprocess.DEVNULL)

    assert {path.suffix for path in runs.iterdir()} == {".json"}
    whole = [train(t) for t in cells(made[0], OriginalPaths(tmp_path / "whole"))]
    resumed = [json.loads(path.read_text()) for path in runs.glob("*.json")]
    assert sorted(map(str, map(steady, resumed))) == sorted(map(str, map(steady, whole)))


def test_a_checkpoint_is_used_and_then_gone(made: Made, tmp_path: Path) -> None:
    training = lstm(made)
    wanted, loop = steady(train(training)), Loop(training)
    loop.epoch()
    loop.epoch()
    torch.save(loop.state_dict() | {"seconds": 1000.0}, tmp_path / f"{training.name()}.pt")
    (result,) = compute([training], tmp_path, made[0].training, "run")
    assert result["train_runtime"] > 1000 and steady(result) == wanted
    assert [path.name for path in tmp_path.iterdir()] == [f"{training.name()}.json"]


def test_results_stay_and_strangers_go(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainings = [lstm(made, 1, seed=seed) for seed in range(2)]
    first = compute(trainings, tmp_path, made[0].training, "run")
    assert "0 of 2 trainings are there, 2 to go" in capsys.readouterr().out
    (tmp_path / "0123456789abcdef.json").write_text("{}")
    (tmp_path / f"{trainings[1].name()}.json").write_text("{")
    again = compute(trainings, tmp_path, made[0].training, "run")
    output = capsys.readouterr().out
    assert "damaged; it is trained again" in output and "1 of 2 trainings are there, 1 to go" in output
    assert [steady(r) for r in again] == [steady(r) for r in first] and again[0] == first[0]
    assert {path.stem for path in tmp_path.iterdir()} == {t.name() for t in trainings}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"seed": 1}, False), ({"learning_rate": 1e-2}, False), ({"scheduler": "cosine"}, False),
        ({"policy_sha256": "x"}, False), ({"folder": "/elsewhere"}, True),
    ],
)  # fmt: skip
def test_what_decides_a_training_names_it(changes: dict[str, Any], same: bool, made: Made) -> None:
    training = lstm(made)
    assert (replace(training, **changes).name() == training.name()) == same
    recipe = training.recipe
    assert replace(training, recipe=replace(recipe, workers=7, loader_workers=2)).name() == training.name()
    assert replace(training, recipe=replace(recipe, clip_norm=1.0)).name() != training.name()


def test_the_pilot_knows_the_data_from_the_loader(made: Made) -> None:
    loop = Loop(lstm(made, scheduler="pilot"))
    pilot: Any = loop.rate_setter
    assert (pilot._pilot.steps_per_epoch, pilot._pilot.examples) == (86 // 4, 86)


def test_the_agent_moves_the_rate_once_per_epoch(made: Made, agent: Path) -> None:
    for decisions in (1, 3):
        training = lstm(made, scheduler="discrete", policy=str(agent), decisions=decisions)
        curve = train(training)["curve"]
        assert len(curve) == 4 * decisions + 1 and "action" not in curve[-1]
        assert [row["lr"] for row in curve[1:]] == pytest.approx([1e-3 * 1.1 ** (i + 1) for i in range(4 * decisions)])


def test_recordings_follow_their_schedule_as_far_as_actions_allow(made: Made) -> None:
    training = lstm(made, 6, behaviour="exponential", learning_rate=1e-2)
    for kind, least in (("discrete", 0.9), ("continuous", 0.5)):
        curve = train(replace(training, scheduler=kind))["curve"]
        lrs = np.array([row["lr"] for row in curve[1:]])
        assert lrs[0] == pytest.approx(1e-2 * (0.9 if kind == "discrete" else 0.01 ** (1 / 12)), rel=0.05)
        assert lrs[1:] / lrs[:-1] == pytest.approx(np.full(5, max(least, 0.01 ** (1 / 6))), rel=0.02)


def test_clipping_and_mixed_precision(made: Made) -> None:
    recipe = lstm(made).recipe
    plain = train(lstm(made))
    clipped = train(lstm(made, recipe=replace(recipe, clip_norm=1e-6)))
    assert clipped["eval_loss"] != plain["eval_loss"]
    half = train(lstm(made, recipe=replace(recipe, amp="bf16")))
    assert half["eval_loss"] != plain["eval_loss"] and half["eval_loss"] == pytest.approx(plain["eval_loss"], abs=0.1)


def test_a_gradient_scaler_and_a_compiled_model(made: Made) -> None:
    """What a GPU is for, here on the CPU: fp16 under the pilot, and torch.compile, whose dropout draws otherwise."""
    vgg16, bert = (replace(pair(made, *p), scheduler="pilot") for p in (("mnist", "vgg16"), ("sst2", "bert")))
    half = Loop(replace(vgg16, recipe=replace(vgg16.recipe, amp="fp16")))
    half.epoch()
    assert half.state_dict()["scaler"]["scale"] > 1 and not half.diverged
    compiled = train(replace(bert, recipe=replace(bert.recipe, compile="default")))
    assert compiled["eval_loss"] == pytest.approx(train(bert)["eval_loss"], abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("model", ["vgg16", "bert"])
def test_a_gpu_trains_and_resumes(model: str, made: Made, tmp_path: Path) -> None:
    training = replace(pair(made, "mnist" if model == "vgg16" else "sst2", model), setting=Setting(1e-3, 16, 3))
    training = replace(training, device="cuda", scheduler="pilot", recipe=replace(training.recipe, amp="fp16"))
    loop = Loop(training)
    loop.epoch()
    torch.save(loop.state_dict(), tmp_path / "state.pt")
    result = train(training, tmp_path / "state.pt")
    assert len(result["curve"]) == 4 and not result["diverged"]


def test_fp16_wants_a_gpu(tmp_path: Path) -> None:
    made = laid_out(tmp_path, training={"amp": "fp16"}, plan={"pairs": {"mnist": ["vgg16"]}})
    with pytest.raises(ConfigError, match=r"training\.amp is 'fp16', want none or bf16 on a CPU"):
        cells(*made)


def test_processes_that_fetch_batches_change_nothing(made: Made, tmp_path: Path) -> None:
    training = lstm(made, 1)
    workers = replace(training, recipe=replace(training.recipe, loader_workers=2))
    (result,) = compute([workers], tmp_path, made[0].training, "run")
    assert steady(result) == steady(train(training))


def test_a_training_that_diverges_ends_there(made: Made) -> None:
    result = train(lstm(made, learning_rate=1e38))
    assert result["diverged"] and len(result["curve"]) < 5


def test_out_of_memory_names_the_fix(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves the other trainings alone."""
    huge = lstm(made, 1, models=replace(made[0].models, lstm_hidden=20_000_000))
    with pytest.raises(
        TooLargeError, match=r"out of memory on cpu at training\.settings\.lstm\.batch_size 4; lower it"
    ):
        train(huge)
    with pytest.raises(SystemExit, match="run: 1 trainings failed; a new run goes on with those that have no result"):
        compute([huge, lstm(made, 1)], tmp_path, made[0].training, "run")
    assert "SST-2, LSTM, fixed from 0.001, seed 0: TooLargeError" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.json")] == [f"{lstm(made, 1).name()}.json"]


def test_a_batch_larger_than_the_data(made: Made) -> None:
    training = replace(lstm(made), setting=Setting(1e-3, 87, 1))
    with pytest.raises(
        ValueError, match=r"training\.settings\.lstm: batch_size 87 is more than the 86 training examples"
    ):
        train(training)


SMALL_DISK = """
mount -t tmpfs -o size="$4k" tmpfs "$2" && cp -r "$1"/* "$2" || exit
"$3" -m experiments.original.run --root "$2"
status=$?
cp -r "$2"/data/runs "$1"/data
exit $status
"""


def test_a_full_disk(environment: dict[str, str], tmp_path: Path) -> None:
    """Results that are there stay, and a new run goes on with the others."""
    sections = {"pairs": {"sst2": ["lstm"]}, "schedulers": ["fixed", "cosine"], "seeds": 8}
    made = laid_out(tmp_path / "root", plan=sections)
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: cannot mount a small disk")
    pages = sum(-(-path.stat().st_size // 4096) + 1 for path in made[1].root.rglob("*")) + 20
    arguments = [*map(str, (made[1].root, disk)), sys.executable, str(4 * pages)]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", *arguments]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if not made[1].runs.exists():
        pytest.skip(f"cannot mount a small disk: {done.stderr}")
    before = {path.name: path.read_bytes() for path in made[1].runs.glob("*.json")}
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert 0 < len(before) < 32
    assert "No space left on device; make room" in done.stderr and str(disk) in done.stderr
    assert "a new run goes on with those that have no result" in done.stderr
    compute(cells(*made), made[1].runs, made[0].training, "run")
    after = {path.name: path.read_bytes() for path in made[1].runs.glob("*")}
    assert len(after) == 32 and before.items() <= after.items()


def about(name: str) -> About:
    known = SETS[name]
    channels = 1 if len(known.shape) == 2 else 3
    shape = (channels, *known.shape[:2]) if known.kind == "image" else (12,)
    vocabulary = 0 if known.kind == "image" else 50
    return About(name, {}, known.classes, shape, (0.5,) * channels, (0.2,) * channels, vocabulary, 0, "")


@pytest.mark.parametrize("width", [0.125, 1.0])
@pytest.mark.parametrize(("name", "model"), [(n, m) for n in SETS for m in MODELS if MODELS[m] == SETS[n].kind])
def test_models_fit_their_data(name: str, model: str, width: float, made: Made) -> None:
    config = ModelsConfig(width, 8, 8, 0.5, "")
    known = about(name)
    net = build(model, known, config, made[1].sets / "bert")
    inputs = torch.randint(
        1, known.vocabulary or 255, (3, *known.shape), dtype=torch.int32 if known.vocabulary else torch.uint8
    )
    assert net(inputs).shape == (3, known.classes)
    dropouts = [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)]
    assert 0.5 in dropouts
    if width == 1.0 and model in ("resnet18", "vgg16"):
        original = resnet18(num_classes=10) if model == "resnet18" else vgg16_bn().features
        wanted = sum(p.numel() for p in original.parameters())
        first = 64 * known.shape[0] * 9
        wanted += first - 64 * 3 * 49 if model == "resnet18" else first - 64 * 3 * 9 + 512 * 10 + 10
        assert sum(p.numel() for p in net.parameters()) == wanted
