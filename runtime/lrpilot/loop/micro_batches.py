"""How many batches go into an optimizer step, as the loop shows it before its first one. Needs torch."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from lrpilot.loop.announcer import Announcer
from lrpilot.loop.calls import uncompiled
from lrpilot.loop.plan import Plan

REPORTED_EARLY = "step(loss) came before optimizer.step(); call optimizer.step() first, then scheduler.step(loss)"


class MicroBatches:
    """Counts backward passes that accumulate in the gradient of one parameter, and losses reported, until `close`.

    A gradient that was zeroed or replaced in between begins both counts anew, as that of a step that a GradScaler skips
    does. Where none was noticed, as in an optimizer's closure, there are 0 passes.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.reports = 0
        self.passes = 0
        self._gradient: weakref.ref[Tensor] | None = None
        self._version = 0
        first: Any = next((p for p in params if p.requires_grad and p.is_leaf), None)
        self._hook: Any = None if first is None else first.register_post_accumulate_grad_hook(uncompiled(self._count))

    def close(self) -> None:
        """Stop counting: what was counted belongs to the coming optimizer step."""
        if self._hook is not None:
            self._hook.remove()

    @property
    def reported_early(self) -> bool:
        """Whether the loss of the last backward pass was reported before the optimizer step, not after it."""
        return 0 < self.passes <= self.reports

    def settled(self, plan: Plan, announcer: Announcer) -> Plan | None:
        """The plan that follows where the loop reports each batch: those of its first optimizer step make every one.

        None where that is no news. A loop that does not is asked for the number.
        """
        self.close()
        if self.reported_early:
            announcer.warn("order", REPORTED_EARLY)
        passes = self.passes
        if not plan.depends_on_accumulation or passes < 2:
            return None
        if self.reports >= passes - 1:
            return plan.accumulated(passes)
        announcer.warn(
            "accumulate",
            f"{passes} backward passes made the first optimizer step; where these accumulate batches, pass "
            f"accumulate={passes}, else accumulate=1, for the training's length and data follow from it",
        )
        return None

    def _count(self, p: Tensor) -> None:
        gradient: Any = p.grad
        if gradient is None:
            return
        # Accumulating is one change in place of the same tensor; zeroing it is another one, or makes a new tensor.
        same = self._gradient is not None and self._gradient() is gradient
        if same and gradient._version == self._version + 1:
            self.passes += 1
        else:
            # A loop may report a loss before its backward pass: of the first one, that report counts.
            self.reports = self.reports if self.passes == 0 else 0
            self.passes = 1
        self._gradient, self._version = weakref.ref(gradient), gradient._version
