"""Memory freed in a block is there for the next step, without a page fault."""

import platform
import resource

import pytest
import torch

from tft_core.training.allocator import MMAP_LIMIT, freed_memory_kept

N_BLOCKS = 4
BLOCK = 20 << 20
"""Bytes: below the limit from which glibc maps, and together above what it keeps by itself."""


def page_faults_of_a_step() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.zeros(BLOCK, dtype=torch.uint8) for _ in range(N_BLOCKS)]
    assert len(held) == N_BLOCKS
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_a_step_finds_the_memory_of_the_one_before() -> None:
    assert BLOCK < MMAP_LIMIT and N_BLOCKS * BLOCK > 2 * MMAP_LIMIT
    pages = N_BLOCKS * BLOCK // resource.getpagesize()
    page_faults_of_a_step()
    if page_faults_of_a_step() < pages // 2:
        pytest.skip("a kernel that gives huge pages at once has few faults to save")
    with freed_memory_kept():
        page_faults_of_a_step()
        assert page_faults_of_a_step() < pages // 100
    assert page_faults_of_a_step() > pages // 2
    assert page_faults_of_a_step() > pages // 2
