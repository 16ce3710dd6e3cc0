"""The battery: every training is one that linear or cosine decay from a usual rate learns well."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from benchmarks.harmless import data, losses, networks
from benchmarks.harmless.case import Case
from benchmarks.harmless.data import lognormal, normal, outliers, student
from benchmarks.harmless.networks import Bert, Encoder, Recurrent, mlp

HEAVY, PLATEAU, UNITS, LOSSES = "heavy-tailed errors", "plateaus", "scales and offsets", "other losses"
WRONG, FEW, USUAL, TUNED = "wrong labels, rare classes", "few examples, tiny batches", "usual", "pretrained"

Network = Callable[[], nn.Module]

small = partial(mlp, 8, 64, 64, 1)
tanh = partial(mlp, 8, 64, 64, 1, act=nn.Tanh)
t15, t2 = partial(student, freedom=1.5, scale=0.5), partial(student, freedom=2.0, scale=0.5)
skewed = partial(lognormal, sigma=1.5, scale=0.3)
tenth, hundredth = partial(outliers, share=0.1, scale=0.1), partial(outliers, share=0.01, scale=0.1)
noisy = partial(normal, scale=0.3)


def waves(errors: data.Errors | None = noisy) -> partial[data.Sample]:
    return partial(data.waves, errors=errors)


def heavy(name: str, errors: data.Errors, epochs: int, network: Network = small, **rest: Any) -> Case:
    """100 steps an epoch, of batches of 16."""
    options: dict[str, Any] = {"examples": 1600, "batch": 16} | rest
    return Case(name, HEAVY, waves(errors), network, losses.squared, epochs, **options)


count = partial(data.tokens, rule=data.many_zeros)
usual = partial(mlp, 8, 64, 4)

CASES = (
    heavy("Student-t 1.5, 100 steps", t15, 1),
    heavy("Student-t 1.5, 300 steps", t15, 3),
    heavy("Student-t 1.5, 600 steps", t15, 6),
    heavy("Student-t 1.5, told steps", t15, 3, network=tanh, arguments="steps"),
    heavy("Student-t 2, 100 steps", t2, 1),
    heavy("Student-t 2, 300 steps", t2, 3),
    heavy("Student-t 2, 600 steps", t2, 6, network=tanh),
    heavy("Student-t 2, clipped", t2, 3, clip=1.0),
    heavy("lognormal, 300 steps", skewed, 3),
    heavy("lognormal, 600 steps", skewed, 6, optimizer="adamw", weight_decay=0.01),
    heavy("one in ten a hundredfold", tenth, 3),
    heavy("one in a hundred a hundredfold", hundredth, 3),
    heavy("one in a hundred, clipped", hundredth, 6, clip=1.0),
    heavy("Student-t 1.5, fresh batches", t15, 400, examples=None),
    heavy("Student-t 2, Lightning", t2, 3, loop="lightning"),
    heavy("Student-t 2, Trainer", t2, 3, loop="transformers", optimizer="adamw"),
    Case("absolute errors of Student-t 1.5", HEAVY, waves(t15), small, losses.absolute, 3, 1600, 16),
    Case("Huber loss of Student-t 1.5, SGD", HEAVY, waves(t15), tanh, losses.huber, 3, 1600, 16, "sgd"),
    #
    Case("BERT counts", PLATEAU, count, Bert, losses.cross_entropy, 5, 1000, 16, clip=1.0, optimizer="adamw"),
    Case("BERT counts, told steps", PLATEAU, count, Bert, losses.cross_entropy, 5, 1000, 16, clip=1.0,
         arguments="steps"),
    Case("BERT counts, Trainer", PLATEAU, count, Bert, losses.cross_entropy, 4, 1000, 16, "adamw", loop="transformers"),
    Case("parity of 2 of 20 bits", PLATEAU, partial(data.parity, bits=2, of=20), partial(mlp, 20, 128, 2),
         losses.cross_entropy, 10),
    Case("parity of 3 of 10 bits", PLATEAU, partial(data.parity, bits=3, of=10), partial(mlp, 10, 128, 2),
         losses.cross_entropy, 15),
    Case("parity of 2 of 8 bits, fresh", PLATEAU, partial(data.parity, bits=2, of=8), partial(mlp, 8, 64, 64, 2),
         losses.cross_entropy, 300, None, 64),
    Case("parity of 3 of 8 bits, tanh", PLATEAU, partial(data.parity, bits=3, of=8),
         partial(mlp, 8, 64, 64, 2, act=nn.Tanh), losses.cross_entropy, 400, None, 32, arguments="steps"),
    Case("reversal", PLATEAU, partial(data.tokens, rule=data.backwards, length=6, vocabulary=6),
         partial(Encoder, 6, 6, 6, True, each=True), losses.cross_entropy, 400, None, 32),
    Case("copying, post-norm", PLATEAU, partial(data.tokens, rule=data.same, length=8, vocabulary=10),
         partial(Encoder, 10, 8, 10, False, each=True), losses.cross_entropy, 8),
    Case("majority, post-norm", PLATEAU, partial(data.tokens, rule=data.majority, vocabulary=4),
         partial(Encoder, 4, 12, 2, False), losses.cross_entropy, 8),
    Case("majority, pre-norm", PLATEAU, partial(data.tokens, rule=data.majority, vocabulary=4),
         partial(Encoder, 4, 12, 2, True, drop=0.1), losses.cross_entropy, 250, None),
    Case("majority, BERT in Lightning", PLATEAU, partial(data.tokens, rule=data.majority, vocabulary=4),
         partial(Bert, 4), losses.cross_entropy, 8, loop="lightning"),
    Case("product, fresh batches", PLATEAU, data.product, small, losses.squared, 400, None),
    Case("product, tanh", PLATEAU, data.product, tanh, losses.squared, 15, arguments="steps"),
    Case("spirals", PLATEAU, data.spirals, partial(mlp, 2, 64, 64, 2), losses.cross_entropy, 18),
    Case("first token, LSTM", PLATEAU, partial(data.tokens, rule=data.first, length=8, vocabulary=6),
         partial(Recurrent, nn.LSTM, 16, 6, 6), losses.cross_entropy, 12),
    Case("adding, GRU", PLATEAU, data.adding, partial(Recurrent, nn.GRU, 2, 1), losses.squared, 14),
    Case("deep MLP without norm", PLATEAU, data.digits, partial(mlp, 64, *[32] * 7, 10), losses.cross_entropy, 12),
    Case("deep tanh MLP, regression", PLATEAU, waves(), partial(mlp, 8, *[32] * 6, 1, act=nn.Tanh), losses.squared, 12),
    #
    Case("squared error + 100", UNITS, waves(), small, losses.squared, 8, offset=100),
    Case("squared error + 100, told steps", UNITS, waves(), tanh, losses.squared, 8, offset=100, arguments="steps"),
    Case("squared error + 10,000", UNITS, waves(), small, losses.squared, 8, offset=1e4),
    Case("squared error + 1,000,000", UNITS, waves(), small, losses.squared, 8, offset=1e6),
    Case("squared error - 5", UNITS, waves(), small, losses.squared, 8, offset=-5),
    Case("squared error of a millionth", UNITS, waves(), small, losses.squared, 8, scale=1e-6),
    Case("squared error × 10,000", UNITS, waves(), small, losses.squared, 8, scale=1e4),
    Case("cross entropy + 10", UNITS, data.classes, usual, losses.cross_entropy, 8, offset=10, optimizer="adamw"),
    Case("cross entropy × 0.001", UNITS, data.classes, usual, losses.cross_entropy, 8, scale=1e-3),
    Case("squared error + 100, Trainer", UNITS, waves(), small, losses.squared, 8, optimizer="adamw", offset=100,
         loop="transformers"),
    Case("squared error + 100, Lightning", UNITS, waves(), small, losses.squared, 8, offset=100, loop="lightning"),
    #
    Case("likelihood", LOSSES, data.uneven_noise, partial(mlp, 1, 64, 64, 2), losses.likelihood, 18, floor=-3),
    Case("likelihood, tanh, fresh", LOSSES, data.uneven_noise, partial(mlp, 1, 64, 64, 2, act=nn.Tanh),
         losses.likelihood, 500, None, floor=-3),
    Case("likelihood, told steps", LOSSES, data.uneven_noise, partial(mlp, 1, 32, 32, 2), losses.likelihood, 8,
         batch=16, arguments="steps", floor=-3),
    Case("likelihood, clipped", LOSSES, data.uneven_noise, partial(mlp, 1, 64, 64, 2), losses.likelihood, 12, clip=1.0,
         floor=-3),
    Case("likelihood, Lightning", LOSSES, data.uneven_noise, partial(mlp, 1, 64, 64, 2), losses.likelihood, 12,
         loop="lightning", floor=-3),
    Case("variational autoencoder", LOSSES, data.digits, networks.Autoencoder, losses.elbo, 10, 1200),
    Case("contrast of views", LOSSES, data.views, networks.TwoTowers, losses.contrast, 10),
    Case("support vectors", LOSSES, partial(data.rare, share=0.4), partial(mlp, 8, 1), losses.hinge, 18),
    Case("hinge loss, MLP", LOSSES, partial(data.rare, share=0.4), small, losses.hinge, 8),
    Case("margins", LOSSES, data.classes, usual, losses.margins, 10),
    Case("absolute errors", LOSSES, waves(), small, losses.absolute, 10),
    Case("ninth decile", LOSSES, waves(), small, losses.quantile, 10),
    Case("Poisson counts", LOSSES, data.counts, tanh, losses.poisson, 8, floor=-30),
    Case("smoothed labels", LOSSES, data.classes, usual, losses.smoothed, 10, floor=0.3),
    #
    Case("one in fifty", WRONG, partial(data.rare, share=0.02), small, losses.binary, 10),
    Case("one in fifty, weighted", WRONG, partial(data.rare, share=0.02), small, losses.weighted_binary, 10),
    Case("one in fifty, focal", WRONG, partial(data.rare, share=0.02), small, losses.focal, 10),
    Case("one in fifty, logistic", WRONG, partial(data.rare, share=0.02), partial(mlp, 8, 1), losses.binary, 18),
    Case("a fifth of labels wrong", WRONG, partial(data.classes, wrong=0.2), usual, losses.cross_entropy, 8),
    Case("two fifths of labels wrong", WRONG, partial(data.classes, wrong=0.4), usual, losses.cross_entropy, 8),
    Case("digits, two fifths wrong", WRONG, partial(data.digits, wrong=0.4), partial(mlp, 64, 64, 10, drop=0.2),
         losses.cross_entropy, 8, 1200),
    #
    Case("64 examples", FEW, data.line, partial(mlp, 8, 32, 1, act=nn.Tanh), losses.squared, 40, 64, 16),
    Case("100 digits", FEW, data.digits, partial(mlp, 64, 64, 10), losses.cross_entropy, 40, 100, 16),
    Case("200 digits, half dropped", FEW, data.digits, partial(mlp, 64, 128, 10, drop=0.5), losses.cross_entropy, 30,
         200, 16),
    Case("batches of 4", FEW, data.classes, usual, losses.cross_entropy, 2, 1024, 4),
    Case("batches of 4, regression", FEW, waves(), small, losses.squared, 2, 1024, 4, arguments="steps"),
    Case("batches of 8, convolutions", FEW, data.digits, partial(networks.convolutions, 10, 8), losses.cross_entropy, 3,
         1200, 8),
    Case("ratings", FEW, data.ratings, networks.Factors, losses.squared, 8, 2000, 32),
    #
    Case("digits, convolutions", USUAL, data.digits, partial(networks.convolutions, 10, 8), losses.cross_entropy, 8,
         1200),
    Case("bars, batch norm", USUAL, data.bars, partial(networks.convolutions, 4, 10, norm=True), losses.cross_entropy,
         6),
    Case("digits, batch norm, SGD", USUAL, data.digits, partial(networks.convolutions, 10, 8, norm=True),
         losses.cross_entropy, 6, 1200, optimizer="sgd"),
    Case("digits, SGD", USUAL, data.digits, partial(mlp, 64, 64, 10), losses.cross_entropy, 8, 1200, optimizer="sgd"),
    Case("regression, SGD", USUAL, waves(), tanh, losses.squared, 8, optimizer="sgd"),
    Case("logistic regression, SGD", USUAL, data.digits, partial(mlp, 64, 10), losses.cross_entropy, 8, 1200,
         optimizer="sgd"),
    Case("linear regression", USUAL, data.line, partial(mlp, 8, 1), losses.squared, 18),
    Case("Markov chain, GRU", USUAL, data.markov, partial(Recurrent, nn.GRU, 16, 12, 12, each=True),
         losses.cross_entropy, 6, floor=0.8),
    Case("autoencoder", USUAL, data.digits, partial(mlp, 64, 16, 64), losses.reconstruction, 10, 1200),
    Case("layer norm, weight decay", USUAL, data.classes, partial(mlp, 8, 64, 64, 4, norm=nn.LayerNorm),
         losses.cross_entropy, 6, optimizer="adamw", weight_decay=0.1),
    Case("64 steps", USUAL, waves(), small, losses.squared, 2),
    Case("first token, BERT in Trainer", USUAL, partial(data.tokens, rule=data.first, vocabulary=2), partial(Bert, 2),
         losses.cross_entropy, 4, 512, 16, "adamw", loop="transformers"),
    Case("digits, Lightning", USUAL, data.digits, partial(networks.convolutions, 10, 8), losses.cross_entropy, 5, 1200,
         optimizer="adamw", weight_decay=0.01, loop="lightning"),
    #
    Case("low-rank adapters", TUNED, data.near_waves, networks.adapted, losses.squared, 10),
    Case("fine-tuned MLP", TUNED, data.near_waves, networks.pretrained, losses.squared, 5, 512, 16),
)  # fmt: skip
