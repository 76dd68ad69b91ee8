"""Dagster's view of the lifecycle: assets, partitions, checks, jobs and schedules. No science.

``tft_assets.definitions`` is the code location; ``build.build_defs`` assembles it.
"""
