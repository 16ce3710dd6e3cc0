"""What the Makefile runs beside the stages: profiles, the promotion of a policy, the stages' dependencies."""
