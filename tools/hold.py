"""`python -m tools.hold --factor 0`: the policy that lrpilot ships, with its untold moves multiplied.

These are the moves after the first action in trainings that do not tell the size of their data. The factor stands
inside the graph: 0 holds the level that the first action sets. Weights, protocol and what the manifest says of the
training stay. The evaluation is dropped, for it is another policy's; `make benchmark` measures the new one.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from lrpilot import load_policy, onnxfile
from lrpilot.manifest import KEY, Golden
from pipeline.paths import DEFAULT_MODEL
from policy.later_moves import Factor
from tools.promote import ship

EVALUATION, LIMITS = "## Evaluation", "## Limits"  # headings of a model card


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", type=float, required=True, help="on untold moves, from 0 to below 1")
    parser.add_argument("--folder", type=Path, default=DEFAULT_MODEL, help="of policy.onnx and card.md, rewritten")
    args = parser.parse_args(argv)
    try:
        policy = hold(args.folder, args.factor)
    except (ValueError, OSError) as error:
        raise SystemExit(f"hold: {error}") from error
    print(f"{policy}: untold moves are multiplied by {args.factor:g}")


def hold(folder: Path, factor: float) -> Path:
    """Put the factor into `folder`/policy.onnx, and what it means into card.md; returns the policy's path.

    Raises BundleError for a policy that does not load, ValueError for one whose actions name levels, or for a factor
    that is not from 0 to below 1.
    """
    if not 0 <= factor < 1:
        raise ValueError(f"factor: {factor:g}, want a number from 0 to below 1")
    bundle = load_policy(folder / "policy.onnx")
    before = bundle.manifest
    if not bundle.protocol.action.moves:
        raise ValueError(f"{bundle.path}: its later actions name levels, want a policy whose later actions move them")
    model = onnx.load_model_from_string(bundle.content)
    del model.metadata_props[:]
    later = Factor(factor)
    later.put_behind(model)
    asked, answers = before.golden.arrays()
    manifest = replace(
        before,
        training=before.training | {"untold_moves": factor * before.training.get("untold_moves", 1.0)},
        evaluation={},
        graph=onnxfile.read(model.SerializeToString(deterministic=True)).sha256,
        golden=Golden.of(asked, later.of(asked, answers)),
    )
    onnx.helper.set_model_props(model, {KEY: manifest.to_json()})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    card = (folder / "card.md").read_text(encoding="utf-8")
    hashes = [hashlib.sha256(part).hexdigest() for part in (bundle.content, content)]
    return ship(content, described(card, factor, *hashes), folder)


def described(card: str, factor: float, before: str, after: str) -> str:
    """The model card of a policy of sha256 `before` as that of the one of sha256 `after`, which has the factor."""
    begin, end = card.index(EVALUATION), card.index(LIMITS)
    what = "it holds its first level" if factor == 0 else f"its later moves are multiplied by {factor:g}"
    text = (
        f"{EVALUATION}\n\nNone yet. This is the policy of sha256 {before}\nwith a factor in its graph: "
        f"not told the size of the data, {what}.\nThe figures of that policy, not told, do not hold for it.\n\n"
    )
    return (card[:begin] + text + card[end:]).replace(f"policy.onnx: {before}", f"policy.onnx: {after}")


if __name__ == "__main__":
    main()
