"""What the registry must survive, counted: ``make test-faults``."""
