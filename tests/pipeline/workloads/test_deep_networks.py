"""Deep networks: shapes, what they may look at, and that torch.func can map all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, stack_module_state, vmap

from pipeline.workloads.networks.deep_convnets import NORMS, Autoencoder, Denoiser, PlainNet, ResidualNet, UNet
from pipeline.workloads.networks.deep_networks import (
    DeepRecurrent,
    Encoder,
    LanguageModel,
    TabularNet,
    VisionTransformer,
)

IMAGE, SIGNAL = (2, 8, 8), (1, 16)
NETS: list[tuple[str, Callable[[], nn.Module], tuple[int, ...] | int, tuple[int, ...]]] = [
    # name, build, shape of one input (or number of tokens), shape of one output
    *((f"residual-{norm}", partial(ResidualNet, IMAGE, (8, 12), 1, 5, norm), IMAGE, (5,)) for norm in NORMS),
    ("residual-1d", partial(ResidualNet, SIGNAL, (8, 8), 2, 3, stem=2), SIGNAL, (3,)),
    *((f"plain-{norm}", partial(PlainNet, IMAGE, (8, 12), 1, 5, norm), IMAGE, (5,)) for norm in NORMS),
    ("plain-1d", partial(PlainNet, SIGNAL, (6, 6), 2, 3, stem=2), SIGNAL, (3,)),
    ("autoencoder", partial(Autoencoder, IMAGE, (6, 8), 7, "batch"), IMAGE, (8, 8, 2)),
    ("autoencoder-1d", partial(Autoencoder, SIGNAL, (6, 8), 3), SIGNAL, (16, 1)),
    ("denoiser", partial(Denoiser, IMAGE, 6, 4), IMAGE, (8, 8, 2)),
    ("unet", partial(UNet, IMAGE, (6, 8, 10), 3), IMAGE, (8, 8, 3)),
    ("unet-1d", partial(UNet, SIGNAL, (6, 8), 3, "group"), SIGNAL, (16, 3)),
    ("vit", partial(VisionTransformer, IMAGE, 4, 16, 2, 2, 5), IMAGE, (5,)),
    ("lm", partial(LanguageModel, 9, 6, 16, 2, 2), 6, (6, 9)),
    ("lm-tied", partial(LanguageModel, 9, 6, 16, 1, 2, tied=True), 6, (6, 9)),
    ("encoder", partial(Encoder, 9, 6, 16, 2, 2), 6, (6, 9)),
    ("encoder-classes", partial(Encoder, 9, 6, 16, 2, 2, n_out=3), 6, (3,)),
    ("lstm", partial(DeepRecurrent, "lstm", 8, 2, 9, vocabulary=9), 6, (6, 9)),
    ("gru-last", partial(DeepRecurrent, "gru", 8, 1, 4, n_in=3, last=True), (5, 3), (4,)),
    ("table", partial(TabularNet, (9, 4), 3, (16, 8), 2), (5,), (2,)),
]
EVERY = pytest.mark.parametrize(("build", "given", "wanted"), [net[1:] for net in NETS], ids=[net[0] for net in NETS])


def inputs(given: tuple[int, ...] | int, n: int = 6) -> Tensor:
    """Tokens below 9, or numbers; the first two columns of rows are codes below 4."""
    if isinstance(given, int):
        return torch.randint(9, (n, given))
    x = torch.randn(n, *given)
    return torch.cat([torch.randint(4, (n, 2)).float(), x[:, 2:]], 1) if given == (5,) else x


def spread(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build()


@EVERY
def test_shapes_and_a_gradient_for_every_weight(
    build: Callable[[], nn.Module], given: tuple[int, ...] | int, wanted: tuple[int, ...]
) -> None:
    model, x = spread(build, 0), inputs(given)
    outputs = model(x)
    assert outputs.shape == (6, *wanted)
    outputs.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@EVERY
def test_mapped_networks_have_the_gradients_of_single_ones(
    build: Callable[[], nn.Module], given: tuple[int, ...] | int, wanted: tuple[int, ...]
) -> None:
    models = [replace_all_batch_norm_modules_(spread(build, seed)) for seed in range(3)]
    params, _ = stack_module_state(models)
    x = torch.stack([inputs(given) for _ in range(3)])
    template = copy.deepcopy(models[0])

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(template, weights, (x,)).sin().mean()

    together = vmap(grad(loss))(params, x)
    for member, model in enumerate(models):
        model(x[member]).sin().mean().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(together[name][member], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lm", "lm-tied", "lstm"])
def test_a_language_model_does_not_look_ahead(name: str) -> None:
    model = spread({net[0]: net[1] for net in NETS}[name], 0).eval()
    x = torch.randint(9, (4, 6))
    changed = x.clone()
    changed[:, 3] = (x[:, 3] + 1) % 9
    before, after = model(x), model(changed)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).abs().amax() > 1e-3


def test_an_encoder_looks_everywhere() -> None:
    model = spread(partial(Encoder, 9, 6, 16, 2, 2, n_out=3), 0)
    x = torch.zeros(1, 6, dtype=torch.int64)
    changed = x.clone()
    changed[:, -1] = 1
    assert (model(changed) - model(x)).abs().amax() > 1e-3


def test_an_encoder_keeps_the_names_of_its_body() -> None:
    masked, classes = Encoder(9, 6, 16, 1, 2), Encoder(9, 6, 16, 1, 2, n_out=3)
    body = masked.state_dict().keys() & classes.state_dict().keys()
    assert masked.state_dict().keys() - body == {"masked.weight", "masked.bias"}
    assert classes.state_dict().keys() - body == {"pool.weight", "pool.bias", "head.weight", "head.bias"}


def test_a_vision_transformer_cuts_whole_patches() -> None:
    """4 x 4 pixels in patches of 2: the second patch of the first row is columns 2 and 3 of rows 0 and 1."""
    model = VisionTransformer((1, 4, 4), 2, 4, 0, 1, 3)
    with torch.no_grad():
        model.patches.weight.copy_(torch.eye(4))
        model.patches.bias.zero_()
        model.positions.zero_()
    cut: list[Tensor] = []
    model.norm.register_forward_hook(lambda module, given, out: cut.append(given[0]))
    model(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert cut[0][0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_denoiser_without_weights_changes_nothing() -> None:
    model, x = Denoiser((2, 4, 4), 6, 3), torch.randn(3, 2, 4, 4)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(model(x), x.movedim(1, -1))


@pytest.mark.parametrize(
    ("build", "drops"),
    [
        (partial(ResidualNet, IMAGE, (8,), 2, 5, drop=0.2), 2),
        (partial(PlainNet, IMAGE, (8,), 1, 5, drop=0.2), 1),
        (partial(LanguageModel, 9, 6, 16, 2, 2, drop=0.2), 5),
        (partial(LanguageModel, 9, 6, 16, 2, 2), 0),
        (partial(DeepRecurrent, "gru", 8, 2, 9, vocabulary=9, drop=0.2), 1),
        (partial(TabularNet, (4,), 2, (8,), 2, drop=0.2), 1),
    ],
)
def test_dropout_is_there_where_it_has_a_rate(build: Callable[[], nn.Module], drops: int) -> None:
    assert sum(isinstance(module, nn.Dropout) for module in build().modules()) == drops


def test_the_gain_scales_the_weights() -> None:
    """Normal with deviation gain / sqrt(fan-in): 16 channels of 3 x 3 places."""
    weight = spread(partial(ResidualNet, (16, 8, 8), (64,), 1, 5, gain=3.0), 0).get_parameter("stem.conv.weight")
    assert weight.std().item() == pytest.approx(3 / 12, rel=0.05)
