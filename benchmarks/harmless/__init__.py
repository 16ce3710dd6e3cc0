"""Small healthy trainings that no pilot may ruin."""
