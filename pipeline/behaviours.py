"""Names of what a recorded run may follow besides a schedule (`pipeline.simulation.schedules.SCHEDULES`)."""

HOLD = "hold"  # the level that the run draws, or starts from
POLICY = "policy"  # an earlier policy, with noise
