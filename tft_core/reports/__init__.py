"""Pages and plots: self-contained HTML and PNG bytes, the same for the same data."""
