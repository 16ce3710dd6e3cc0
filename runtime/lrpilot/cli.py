"""`lrpilot inspect REF` prints what a policy says of itself; `lrpilot verify REF` checks that it answers as it should.

Exit status: 0, or 1 for a policy that cannot be used, or 2 for a wrong command line, or 141 where a pipe was closed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np

import lrpilot
from lrpilot import digests
from lrpilot.decisions import features
from lrpilot.policy_file.bundle import Bundle, BundleError, load_policy
from lrpilot.text import counted

TOLERANCE = 5e-5  # of an action: float32 of one machine or batch size against another
CLOSED = 141  # as a shell reports a program that ends by SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status. The reason of a failure goes to stderr, in one line."""
    parser = argparse.ArgumentParser("lrpilot", description="Look at a learning-rate policy.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version of lrpilot and end")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("inspect", "print a policy's manifest"), ("verify", "check a policy's answers")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("ref", help="'default', the path of a policy.onnx, models:/name@alias or models:/name/3")
    args = parser.parse_args(argv)
    try:
        bundle = load_policy(args.ref)
        if args.command == "inspect":
            print("\n".join(describe(bundle)))
        else:
            difference, manifest = check(bundle), bundle.manifest
            observed = counted(str(len(manifest.features)), "feature")
            compared = counted(str(len(manifest.golden.actions)), "golden answer")
            print(
                f"{args.ref}: fine ({bundle.path}, {observed}; differs from {compared} by {difference:.2g}, "
                f"{TOLERANCE:g} is allowed)"
            )
        sys.stdout.flush()
    except BundleError as error:
        print("lrpilot:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    except BrokenPipeError:  # of `| head`: not SIGPIPE's own action, which a registry's socket would set off, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        return CLOSED
    return 0


class Version(argparse.Action):
    """Prints the version. It is looked up only here, because a copy that was never installed has none."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print("lrpilot", lrpilot.__version__)
        parser.exit()


def describe(bundle: Bundle) -> Iterator[str]:
    """The lines that `inspect` prints."""
    manifest, content = bundle.manifest, bundle.content
    head = {
        "file": bundle.path,
        "sha256": digests.of_bytes(content),
        "size": f"{len(content)} bytes",
        "format": manifest.format,
        "graph": manifest.graph,
        "golden": counted(str(len(manifest.golden.actions)), "answer"),
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
    return ", ".join(map(_plain, cast(Sequence[Any], value))) if isinstance(value, list | tuple) else str(value)


def check(bundle: Bundle) -> float:
    """Run the policy on its golden observations, on zeros, on the ends of the features' range and on a random batch.

    Returns the largest difference from the golden answers. Raises BundleError where that is above TOLERANCE, and for
    an action that is not finite, outside [-1, 1] or dependent on the batch around it.
    """
    width = len(bundle.manifest.features)
    golden, wanted = bundle.manifest.golden.arrays()
    random = np.random.default_rng(0).uniform(-features.CLIP, features.CLIP, (61, width))
    ends = np.outer([0.0, features.CLIP, -features.CLIP], np.ones(width))
    rows = np.concatenate([golden, ends, random]).astype(np.float32)
    try:
        actions = bundle.respond(rows)
        single = np.concatenate([bundle.respond(row[None]) for row in rows])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise BundleError(f"{bundle.path}: does not run on observations (n, {width}) ({error})") from error
    if not np.isfinite(actions).all():
        raise BundleError(f"{bundle.path}: answers {actions[~np.isfinite(actions)][0]}, want finite actions")
    if (worst := float(np.abs(actions).max())) > 1 + TOLERANCE:
        raise BundleError(f"{bundle.path}: answers an action of size {worst:.4g}, want [-1, 1]")
    if (apart := float(np.abs(actions - single).max())) > TOLERANCE:
        raise BundleError(f"{bundle.path}: a row's action differs by {apart:.2g} with the batch around it")
    differences = np.abs(actions[: len(wanted)] - wanted)
    if not (worst := float(differences.max())) <= TOLERANCE:
        row = int(np.argmax(differences))
        raise BundleError(
            f"{bundle.path}: answers {actions[row]:.6g} to golden observation {row}, where the trained networks "
            f"answered {wanted[row]:.6g}; at most {TOLERANCE:g} apart is allowed; export the policy again, "
            "or install another onnxruntime"
        )
    return worst


if __name__ == "__main__":
    sys.exit(main())
