"""What the guards catch of injected faults, and how often they fire on sound trainings."""
