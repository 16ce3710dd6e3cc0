"""Accelerate's checkpoints without the probe's weights. Needs torch.

Nothing else of Accelerate needs an integration: give `PilotLR` the prepared optimizer and loader.
"""

from __future__ import annotations

from typing import Any

from lrpilot.torch import PilotLR


def end_probe_on_save(accelerator: Any, scheduler: PilotLR) -> None:
    """Have `accelerator.save_state` end the probe first, so that the files hold a sound model.

    Without this call `save_state` saves what there is, and a training that was saved within the probe resumes in it. An
    exception or a break in the loop is the business of `with scheduler:`.

    Args:
        accelerator: an `Accelerator` whose `save_state` every process calls.
        scheduler: the pilot itself, not what `accelerator.prepare` makes of it.

    Raises:
        TypeError: `scheduler` is no `PilotLR`.
    """
    if not isinstance(scheduler, PilotLR):  # pyright: ignore[reportUnnecessaryIsInstance] -- a prepared one
        name = type(scheduler).__name__
        raise TypeError(f"scheduler: {name}, want the PilotLR; pass the one that was given to accelerator.prepare()")
    save_state = accelerator.save_state

    def save_after_probe(*args: Any, **kwargs: Any) -> Any:
        scheduler.end_probe()
        return save_state(*args, **kwargs)

    accelerator.save_state = save_after_probe
