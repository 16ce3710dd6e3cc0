"""Families on generated data: spirals, signals, teacher-student, clusters, noisy functions, ill-conditioned."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building.architectures import draw_convnet, draw_perceptron
from pipeline.workloads.building.recipes import assemble, draw_sizes
from pipeline.workloads.building.sampling import Label, corrupt, draw_seed, log_integer, log_uniform, pick, split
from pipeline.workloads.networks.small import MLP

HELD_BACK = 512  # validation and test examples together


def spirals(rng: np.random.Generator) -> Workload:
    """Which arm a point of the plane lies on; a narrow valley that needs many large steps."""
    arms, turns = int(rng.integers(2, 5)), rng.uniform(0.5, 1.5)
    sizes = draw_sizes(rng, "odd", (300, 8000))
    n = sizes.n_train + HELD_BACK
    y, radius = rng.integers(0, arms, n), np.sqrt(rng.random(n))
    angle = 2 * math.pi * (turns * radius + y / arms) + rng.normal(0, rng.uniform(0.02, 0.25), n)
    x = 1.5 * np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    splits = corrupt(rng, split(rng, x.astype(np.float32), y, sizes.n_train), pick(rng, (0.0, 0.0, 0.1)), arms)
    label, build = draw_perceptron(rng, 2, arms, sizes.batch_size, (2, 4), (16, 128), dropped=0.15)
    return assemble(rng, "spirals", "odd", "mlp", label.of(f"spirals{arms}"), splits, build, sizes)


def draw_signals(rng: np.random.Generator, n: int, classes: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy, moved and scaled copies of one smooth curve a class: x (n, length) standardised, y (n,)."""
    curves = ndimage.gaussian_filter1d(rng.standard_normal((classes, length)), rng.uniform(1, 3), axis=1)
    curves /= curves.std(1, keepdims=True)
    y = rng.integers(0, classes, n)
    furthest = int(length * rng.uniform(0.05, 0.35))
    places = np.arange(length) - rng.integers(-furthest, furthest + 1, (n, 1))
    x = curves[y[:, None], places % length] * (1 + 0.3 * rng.standard_normal((n, 1)))
    noise = ndimage.gaussian_filter1d(rng.standard_normal((n, length)), rng.uniform(0.3, 1.5), axis=1)
    x += rng.uniform(0.2, 2.0) * noise / noise.std() + 0.5 * rng.standard_normal((n, 1)) * np.linspace(-1, 1, length)
    return ((x - x.mean()) / x.std()).astype(np.float32), y


def signals(rng: np.random.Generator) -> Workload:
    """One-dimensional curves, by an MLP or a convolution."""
    convolve = rng.random() < 0.4
    sizes = draw_sizes(rng, "ordinary", (1500, 12_000), deep=bool(convolve))
    classes, length = int(rng.integers(3, 13)), int(rng.integers(24, 49))
    x, y = draw_signals(rng, sizes.n_train + HELD_BACK, classes, length)
    x *= np.float32(log_uniform(rng, 0.3, 5))
    splits = split(rng, x[:, None] if convolve else x, y, sizes.n_train)
    splits = corrupt(rng, splits, pick(rng, (0.0, 0.0, 0.1, 0.3)), classes)
    label, build = (
        draw_convnet(rng, (1, length), classes) if convolve else draw_perceptron(rng, length, classes, sizes.batch_size)
    )
    network = "conv" if convolve else "mlp"
    return assemble(rng, "signals", "ordinary", network, label.of(f"signals{classes}"), splits, build, sizes)


def noisy_table(rng: np.random.Generator) -> Workload:
    """Few rows whose columns explain a part of the target, most of it linearly: networks overfit soon."""
    sizes = draw_sizes(rng, "small_noisy", (60, 600))
    n_in = int(rng.integers(4, 21))
    x = rng.standard_normal((sizes.n_train + HELD_BACK, n_in)) @ rng.normal(0, 1, (n_in, n_in)) + rng.normal(0, 1, n_in)
    x = (x - x.mean(0)) / x.std(0)
    y = x @ rng.standard_normal(n_in) + rng.uniform(0, 1) * np.sin(x @ rng.standard_normal((n_in, 3))).sum(1)
    explained = rng.uniform(0.2, 0.95)
    y = explained**0.5 * (y - y.mean()) / y.std() + (1 - explained) ** 0.5 * rng.standard_normal(len(y))
    label, build = draw_perceptron(rng, n_in, 1, sizes.batch_size, (0, 3), (8, 128))
    splits = split(rng, x.astype(np.float32), y[:, None].astype(np.float32), sizes.n_train)
    return assemble(rng, "noisy_table", "small_noisy", "mlp", label.of(f"table{n_in}"), splits, build, sizes)


def teacher_student(rng: np.random.Generator) -> Workload:
    """Imitate a random tanh network, with noise of up to the size of what is to be learned."""
    sizes = draw_sizes(rng, "ordinary", (1500, 20_000))
    n_in, n_out = int(rng.integers(4, 17)), int(rng.integers(1, 4))
    x = rng.standard_normal((sizes.n_train + HELD_BACK, n_in)).astype(np.float32)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(draw_seed(rng))
        teacher = MLP((n_in, log_integer(rng, 4, 32), n_out), "tanh", gain=rng.uniform(1, 2))
        y = teacher(torch.from_numpy(x)).numpy()
    y = (y - y.mean(0)) / y.std(0) * log_uniform(rng, 0.3, 3)
    y += pick(rng, (0.02, 0.2, 1.0)) * rng.random() * y.std() * rng.standard_normal(y.shape).astype(np.float32)
    label, build = draw_perceptron(rng, n_in, n_out, sizes.batch_size, dropped=0.15)
    splits = split(rng, x, y, sizes.n_train)
    return assemble(rng, "teacher_student", "ordinary", "mlp", label.of(f"teacher{n_in}"), splits, build, sizes)


def classification(rng: np.random.Generator) -> Workload:
    """Gaussian clusters; the widest draw of sizes, initialisations and input scales, hence of best rates."""
    from sklearn.datasets import make_classification

    sizes = draw_sizes(rng, "odd", (500, 8000))
    classes, n_in = int(rng.integers(2, 9)), log_integer(rng, 8, 64)
    drawn = make_classification(
        sizes.n_train + HELD_BACK,
        n_in,
        n_informative=int(rng.integers(max(4, n_in // 4), n_in // 2 + 1)),
        n_classes=classes,
        n_clusters_per_class=int(rng.integers(1, 3)),
        class_sep=rng.uniform(1, 2.5),
        flip_y=0,
        random_state=draw_seed(rng),
    )
    x, y = map(np.asarray, drawn)  # they are arrays, but scikit-learn's annotations do not say so
    scale = log_uniform(rng, 0.1, 10)
    x = ((x - x.mean(0)) / x.std(0) * scale).astype(np.float32)
    noise = pick(rng, (0.0, 0.0, 0.0, 0.15, 0.3))
    splits = corrupt(rng, split(rng, x, y.astype(np.int64), sizes.n_train), noise, classes)
    label, build = draw_perceptron(rng, n_in, classes, sizes.batch_size, (0, 5), gains=(0.4, 3.0))
    label = label.of(f"clusters{classes}-x{scale:.2g}", f"clusters{classes} ×{scale:.2g}")
    return assemble(rng, "classification", "odd", "mlp", label, splits, build, sizes)


def regression(rng: np.random.Generator) -> Workload:
    """Friedman's function 1 or a sum of sines, with noise."""
    from sklearn.datasets import make_friedman1

    sizes, noise = draw_sizes(rng, "small_noisy", (100, 1200)), rng.uniform(0.05, 0.8)
    n, kind = sizes.n_train + HELD_BACK, pick(rng, ("friedman", "sines"))
    if kind == "friedman":
        x, y = make_friedman1(n, n_features=int(rng.integers(5, 13)), random_state=draw_seed(rng))
        x = (x - 0.5) * math.sqrt(12)
    else:
        x = rng.uniform(-1.7, 1.7, (n, int(rng.integers(1, 4))))
        waves = rng.normal(0, rng.uniform(0.7, 2) / x.shape[1], (x.shape[1], 6))
        y = np.sin(x @ waves + rng.uniform(0, 2 * math.pi, 6)) @ rng.standard_normal(6)
    y = (y - y.mean()) / y.std() + noise * rng.standard_normal(n)
    label, build = draw_perceptron(rng, x.shape[1], 1, sizes.batch_size)
    splits = split(rng, x.astype(np.float32), y[:, None].astype(np.float32), sizes.n_train)
    return assemble(rng, "regression", "small_noisy", "mlp", label.of(kind), splits, build, sizes)


def illconditioned(rng: np.random.Generator) -> Workload:
    """Linear or logistic regression on features whose scales span up to two decades."""
    sizes = draw_sizes(rng, "odd", (500, 8000))
    n_in = log_integer(rng, 8, 48)
    z = rng.standard_normal((sizes.n_train + HELD_BACK, n_in))
    y = z @ rng.standard_normal(n_in) / math.sqrt(n_in) + rng.uniform(0, 0.3) * rng.standard_normal(len(z))
    x = (z * 10 ** -rng.uniform(0, rng.uniform(0.5, 2), n_in) * log_uniform(rng, 0.5, 5)).astype(np.float32)
    kind = pick(rng, ("linear", "logistic"))
    target, n_out = (y[:, None].astype(np.float32), 1) if kind == "linear" else ((y > 0).astype(np.int64), 2)
    _, build = draw_perceptron(rng, n_in, n_out, sizes.batch_size, depths=(0, 0))
    splits = split(rng, x, target, sizes.n_train)
    label = Label(f"{kind}{n_in}", f"{kind}{n_in}")
    return assemble(rng, "illconditioned", "odd", "mlp", label, splits, build, sizes)


FAMILIES = (
    Family("spirals", "train", spirals, "odd"),
    Family("signals", "train", signals, "ordinary"),
    Family("noisy_table", "train", noisy_table, "small_noisy", "noisy"),
    Family("teacher_student", "train", teacher_student, "ordinary", "student"),
    Family("classification", "train", classification, "odd", "classification"),
    Family("regression", "train", regression, "small_noisy", "regression"),
    Family("illconditioned", "train", illconditioned, "odd", "illconditioned"),
)
