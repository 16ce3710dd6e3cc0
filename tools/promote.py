"""`make promote`: the registered policy becomes the one that lrpilot ships. This is never a DVC stage.

The evaluation goes into the bundle's manifest. Weights and graph stay as they were evaluated. A model card is written
next to the bundle. `make benchmark` then measures the policy in full, for the README.
"""

import json
from dataclasses import replace
from pathlib import Path

import onnx

from lrpilot import digests
from lrpilot.policy_file.bundle import KEY, Bundle, Manifest
from pipeline import config
from pipeline.paths import DEFAULT_MODEL, Paths, parse_root
from pipeline.reporting import model_card, result_keys


def main() -> None:
    paths = parse_root(__doc__)
    try:
        policy = promote(paths, DEFAULT_MODEL)
    except (ValueError, OSError) as error:
        raise SystemExit(f"promote: {error}") from error
    print(f"{policy}: promoted from {paths.policy}")


def promote(paths: Paths, folder: Path) -> Path:
    """Write `folder`/policy.onnx and card.md; returns the policy's path.

    Raises BundleError for a policy that does not load, ValueError if it was not evaluated and registered.
    """
    bundle, evaluation = Bundle(paths.policy), result_keys.read(paths)
    content = paths.policy.read_bytes()
    registered = _json(paths.register_metrics)
    sha256 = digests.of_bytes(content)
    if registered["sha256"] != sha256:
        raise ValueError(
            f"{paths.policy}: has sha256 {sha256}, registered was {registered['sha256']}: "
            "its evaluation is another policy's; run `dvc repro`"
        )
    manifest = replace(bundle.manifest, evaluation=result_keys.summary(evaluation))
    final = with_manifest(content, manifest)
    text = model_card.render(
        manifest,
        config.load(paths.root),
        _json(paths.collect_metrics),
        digests.of_bytes(final),
        sha256,
    )
    return ship(final, text, folder)


def ship(content: bytes, card: str, folder: Path) -> Path:
    """Write a policy and its card below `folder`; returns the policy's path.

    Raises BundleError for a policy that does not load, and OSError (a full disk), and leaves the folder as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "policy.onnx.new"
    try:
        fresh.write_bytes(content)
        Bundle(fresh)  # what cannot be loaded must not replace what can
        policy = fresh.replace(folder / "policy.onnx")
    finally:
        fresh.unlink(missing_ok=True)
    (folder / "card.md").write_text(card, encoding="utf-8")
    return policy


def with_manifest(content: bytes, manifest: Manifest) -> bytes:
    """The ONNX file `content` with this manifest instead of its own. Equal input gives equal bytes."""
    model = onnx.load_model_from_string(content)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, properties | {KEY: manifest.to_json()})
    return model.SerializeToString(deterministic=True)


def _json(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `dvc repro`")
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
