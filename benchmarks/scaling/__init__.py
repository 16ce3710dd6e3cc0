"""How far the collection of trainings and the offline training scale, and what survives a crash."""
