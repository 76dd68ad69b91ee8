"""The assets, one phase of the lifecycle a file; each body is one call into the core."""
