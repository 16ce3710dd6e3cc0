"""Families on generated images: classes by convolutions and transformers, reconstruction, segmentation."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Regime, Workload
from pipeline.workloads.building import augmentation
from pipeline.workloads.building.architectures import draw_convnet, draw_image_map, draw_vision_transformer
from pipeline.workloads.building.recipes import Sizes, assemble, draw_sizes
from pipeline.workloads.building.sampling import corrupt, pick, split
from pipeline.workloads.datasets.images import coloured, draw_images, polygons
from pipeline.workloads.datasets.simulations import heat

EXAMPLES = (1500, 12_000)
AUGMENTED = 0.3  # share of the classifiers
WRONG = (0.0, 0.0, 0.0, 0.0, 0.1, 0.3)  # shares of wrong labels
HELD_BACK = 512  # validation and test examples together


def classified_images(rng: np.random.Generator, family: str, regime: Regime, attending: bool) -> Workload:
    """Images of one kind, by a convolutional net or by a vision transformer."""
    sizes = draw_sizes(rng, regime, EXAMPLES, deep=True)
    side = int(pick(rng, (8, 8, 12)))
    kind, x, y = draw_images(rng, sizes.n_train + HELD_BACK, side)
    classes = int(y.max()) + 1
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), pick(rng, WRONG), classes)
    draw = draw_vision_transformer if attending else draw_convnet
    label, build = draw(rng, x.shape[1:], classes)
    augment = augmentation.moved if rng.random() < AUGMENTED else None
    network = "transformer" if attending else "conv"
    label = label.of(f"{kind}{classes}").marked("moved" * (augment is not None))
    return assemble(rng, family, regime, network, label, splits, build, sizes, augment=augment)


def pictures_conv(rng: np.random.Generator) -> Workload:
    """Gratings, blobs, cells or polygons, by a residual or plain convolutional net."""
    return classified_images(rng, "pictures_conv", "ordinary", attending=False)


def pictures_vit(rng: np.random.Generator) -> Workload:
    """Gratings, blobs, cells or polygons, by a vision transformer."""
    return classified_images(rng, "pictures_vit", "ordinary", attending=True)


def odd_pictures(rng: np.random.Generator) -> Workload:
    """The same, mostly with a loss of another scale or a bad initialisation."""
    return classified_images(rng, "odd_pictures", "odd", attending=bool(rng.random() < 0.3))


def pictures_map(rng: np.random.Generator) -> Workload:
    """Image to image: copy through a bottleneck, denoise, predict earlier heat, or fill polygons."""
    sizes = draw_sizes(rng, "ordinary", EXAMPLES, deep=True)
    kind = pick(rng, ("copy", "clean", "heat", "inside"))
    x, y = _pairs(rng, kind, sizes)
    splits = split(rng, x, y, sizes.n_train)
    kinds = {"copy": ("autoencoder",), "clean": ("denoiser", "unet"), "heat": ("unet", "denoiser")}
    n_out = 2 if kind == "inside" else x.shape[1]
    label, build = draw_image_map(rng, x.shape[1:], n_out, kinds.get(kind, ("unet",)))
    return assemble(rng, "pictures_map", "ordinary", "conv", label.of(kind), splits, build, sizes)


def _pairs(rng: np.random.Generator, kind: str, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """x (n, channels, 8, 8), y (n, 8, 8, channels), or classes (n, 8, 8) of the insides of polygons."""
    n, side = sizes.n_train + HELD_BACK, 8
    if kind == "heat":
        x, y = heat(rng, n, side)
        return x[:, None], y[..., None]
    if kind == "inside":
        inside = polygons(rng, rng.integers(0, 4, n), side)
        return coloured(rng, np.tanh(6 * inside), int(pick(rng, (1, 3)))), (inside > 0).astype(np.int64)
    _, x, _ = draw_images(rng, n, side)
    y = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    if kind == "clean":
        x = x + np.float32(rng.uniform(0.3, 1.0)) * rng.standard_normal(x.shape, dtype=np.float32)
    return x, y


FAMILIES = (
    Family("pictures_conv", "train", pictures_conv, "ordinary", "pictures conv"),
    Family("pictures_vit", "train", pictures_vit, "ordinary", "pictures"),
    Family("pictures_map", "train", pictures_map, "ordinary", "pictures map"),
    Family("odd_pictures", "train", odd_pictures, "odd", "odd pictures"),
)
