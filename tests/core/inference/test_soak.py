"""A process that predicts session after session neither grows nor slows down."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is not told")
def test_250_sessions_in_one_process_neither_grow_nor_slow_down(model, store, served):
    seconds, pages = [], []
    for turn in range(250):
        started = time.process_time()
        model.predict(served.sessions[turn % len(served.sessions)], store)
        seconds.append(time.process_time() - started)
        pages.append(resident_pages())
    megabytes = np.array(pages) * resource.getpagesize() / 1e6
    assert megabytes[-1] < 1.05 * megabytes[25]
    early, late = np.quantile(seconds[25:125], 0.99), np.quantile(seconds[150:], 0.99)
    assert late < 1.5 * early
