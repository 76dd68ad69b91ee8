"""Settings that no phase could use are told before the first one begins."""

from dataclasses import replace

import pytest

from tests.support.tiny import SECTIONS, load_store, tiny_bars, tiny_settings
from tft_core.errors import ConfigError
from tft_core.training_pipeline import TrainingPipeline


@pytest.mark.parametrize(
    ("section", "entry", "said"),
    [
        ("gate", {"min_sharp_net": 0.5}, "min_sharp_net"),
        ("serving", {"max_drift_psi": "high"}, "max_drift_psi"),
        ("operations", {"nightly_hour": 24}, "nightly_hour"),
        ("tuning", {"space": {"dropuot": [0.1, 0.2]}}, "dropuot"),
    ],
)
def test_a_mistake_in_any_section_stops_a_run_before_its_first_build(
    tmp_path, section, entry, said
) -> None:
    changed = {**SECTIONS, section: {**SECTIONS[section], **entry}}
    settings = replace(tiny_settings(tmp_path), sections=changed)
    load_store(settings, tiny_bars())
    with pytest.raises(ConfigError, match=said):
        TrainingPipeline(settings=settings).run()
    assert not any((tmp_path / "artifacts").rglob("*.json"))
