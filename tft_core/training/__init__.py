"""From rows to an ensemble: steps, epochs, early stopping, refits, exploration."""
