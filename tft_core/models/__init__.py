"""X-Trend and its rivals as plain modules: variable selection, encoders, contexts, losses."""
