"""Measurements. Nothing here is a test; figures go to docs/BENCHMARKS.md with their machine."""
