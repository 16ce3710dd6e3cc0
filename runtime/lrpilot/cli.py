"""`lrpilot inspect REF` prints what a policy says of itself; `lrpilot verify REF` tries it out."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lrpilot import features
from lrpilot.bundle import Bundle, BundleError, load_policy

ROUNDING = 1e-5  # float32 of one batch size against another


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser("lrpilot", description="Look at a learning-rate policy.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("inspect", "print a policy's manifest"), ("verify", "check that a policy runs here")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("ref", help="'default', the path of a policy.onnx, or models:/name@alias")
    args = parser.parse_args(argv)
    try:
        bundle = load_policy(args.ref)
        if args.command == "inspect":
            print("\n".join(describe(bundle)))
        else:
            check(bundle)
            print(f"{args.ref}: fine ({bundle.path}, {len(bundle.manifest.features)} features)")
    except BundleError as error:
        print(f"lrpilot: {error}", file=sys.stderr)
        return 1
    return 0


def describe(bundle: Bundle) -> Iterator[str]:
    """The lines that `inspect` prints."""
    manifest, content = bundle.manifest, bundle.path.read_bytes()
    head = {
        "file": bundle.path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": f"{len(content)} bytes",
        "format": manifest.format,
        "optimizers": manifest.optimizers,
        "licence": manifest.licence,
        "features": f"{len(manifest.features)}, version {manifest.features_version}",
    }
    yield from _section(head)
    yield from (f"  {name}" for name in manifest.features)
    protocol = asdict(manifest.protocol)
    for title, values in (
        *protocol.items(),
        ("training", manifest.training),
        ("evaluation", manifest.evaluation),
    ):
        yield ""
        yield title if values else f"{title}: none"
        yield from _section(values, indent="  ")


def _section(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    width = max(map(len, values), default=0)
    for key, value in values.items():
        yield f"{indent}{key:<{width}}  {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def check(bundle: Bundle) -> None:
    """Run the policy on zeros, on the ends of the features' range and on a random batch.

    Raises BundleError for an action that is not finite, outside [-1, 1] or dependent on the batch around it.
    """
    shape = len(bundle.manifest.features)
    random = np.random.default_rng(0).uniform(-features.CLIP, features.CLIP, (61, shape))
    ends = np.outer([0.0, features.CLIP, -features.CLIP], np.ones(shape))
    rows = np.concatenate([ends, random]).astype(np.float32)
    try:
        actions = bundle(rows)
        single = np.concatenate([bundle(row[None]) for row in rows])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise BundleError(f"{bundle.path}: does not run on observations (n, {shape}) ({error})") from error
    if not np.isfinite(actions).all():
        raise BundleError(f"{bundle.path}: answers {actions[~np.isfinite(actions)][0]}, want finite actions")
    if (worst := float(np.abs(actions).max())) > 1 + ROUNDING:
        raise BundleError(f"{bundle.path}: answers an action of size {worst:.4g}, want [-1, 1]")
    if (apart := float(np.abs(actions - single).max())) > ROUNDING:
        raise BundleError(f"{bundle.path}: a row's action differs by {apart:.2g} with the batch around it")


if __name__ == "__main__":
    sys.exit(main())
