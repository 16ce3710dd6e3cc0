"""When a pilot decides, and which steps it looks at."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.decisions.cadence import Cadence, CadenceSpec

steps = st.one_of(st.integers(1, 300), st.integers(1, 10_000_000))


@given(n=steps, probed=st.booleans())
def test_grid_increases_strictly_and_covers(n: int, probed: bool) -> None:
    c = Cadence(CadenceSpec(), n, probed)
    assert np.all(np.diff(c.bounds) > 0)
    assert c.bounds[0] == c.probe_steps and c.bounds[-1] == n
    assert 1 <= c.decisions <= c.spec.early + c.spec.late + 1
    assert (c.probe_steps == 0) == (not probed or n < c.spec.probe_from)
    if c.probe_steps:
        assert c.spec.probe_min <= c.probe_steps <= min(c.spec.probe_max, n - 1)


@given(n=st.integers(1, 3000), probed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_windows_and_wanted_losses_lie_in_their_interval(n: int, probed: bool) -> None:
    c = Cadence(CadenceSpec(), n, probed)
    for i, (begin, end) in enumerate(zip(c.bounds[:-1], c.bounds[1:], strict=True)):
        assert max(begin, end - c.spec.window) == c.window_start(i) < end
        wanted = [s for s in range(begin + 1, end + 1) if (end - s) % c.stride(i) == 0]
        assert begin < wanted[0] and wanted[-1] == end and len(wanted) <= c.spec.losses
        assert len(wanted) > min(end - begin, c.spec.losses) // 2


def test_ten_million_steps_cost_no_more_decisions_than_thousands() -> None:
    decisions = {n: Cadence(CadenceSpec(), n, True).decisions for n in (2_000, 10_000, 10_000_000)}
    assert len(set(decisions.values())) == 1
