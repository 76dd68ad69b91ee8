"""Days drawn again from a record, in blocks, so that what hangs together stays together."""

import numpy as np
from jaxtyping import Int64


def stationary_bootstrap(
    n_record: int, shape: tuple[int, int], block_days: float, rng: np.random.Generator
) -> Int64[np.ndarray, "resample day"]:
    """Day numbers of blocks with random starts and geometric lengths, which wrap around.

    Args:
        n_record: Days that can be drawn.
        shape: Resamples, and days of each.
        block_days: Mean length of a block.

    Source:
        Politis & Romano 1994, "The Stationary Bootstrap" (circular).
    """
    starts = rng.integers(n_record, size=shape)
    begins = rng.random(shape) < 1.0 / block_days
    begins[:, 0] = True
    day = np.arange(shape[1])
    block = np.maximum.accumulate(np.where(begins, day, 0), axis=1)
    return (np.take_along_axis(starts, block, axis=1) + day - block) % n_record
