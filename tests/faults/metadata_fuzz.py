"""Any bytes and any values as metadata: taken, or refused by a typed error that names them."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.report import Row
from tests.support.checkpoints import metadata
from tft_core.checkpoint_manager import CheckpointMetadata
from tft_core.errors import CheckpointError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = [field.name for field in dataclasses.fields(CheckpointMetadata)]
TEXT = metadata().to_json()


@st.composite
def edited_texts(draw: st.DrawFn) -> bytes:
    """A valid document with a piece cut out and another put in: close to what a parser takes."""
    data = TEXT.encode()
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    return data[:start] + draw(st.binary(max_size=20)) + data[end:]


def check_value(name: str, value: object) -> str:
    """Put a value into a field; the outcome in a word."""
    table = {**json.loads(TEXT), name: value}
    try:
        meta = CheckpointMetadata.from_json(json.dumps(table))
    except CheckpointError as error:
        assert name in str(error) or "JSON" in str(error) or "names" in str(error)
        return "refused"
    assert CheckpointMetadata.from_json(meta.to_json()) == meta
    return "taken"


def check_bytes(data: bytes) -> str:
    """Parse bytes; the outcome in a word."""
    try:
        meta = CheckpointMetadata.from_json(data)
    except CheckpointError as error:
        assert "checkpoint metadata" in str(error)
        return "refused"
    assert CheckpointMetadata.from_json(meta.to_json()) == meta
    return "taken"


def metadata_fuzz(folder: Path, n_examples: int = 2000) -> Row:
    """Hypothesis on the parser: arbitrary values, arbitrary bytes, edited documents."""
    outcomes, problems = Counter[str](), []
    quiet = settings(
        max_examples=-(-n_examples // 3),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @quiet
    @given(st.sampled_from(FIELDS), JSON_VALUES)
    def values(name: str, value: object) -> None:
        outcomes[check_value(name, value)] += 1

    @quiet
    @given(st.binary(max_size=200))
    def anything(data: bytes) -> None:
        outcomes[check_bytes(data)] += 1

    @quiet
    @given(edited_texts())
    def edited(data: bytes) -> None:
        outcomes[check_bytes(data)] += 1

    for run in (values, anything, edited):
        try:
            run()
        except Exception as error:  # noqa: BLE001 - an error that is not ours is the finding
            problems.append(f"{run.__name__}: {type(error).__name__}: {str(error)[:300]}")
    return Row(
        "metadata texts and values made by hypothesis",
        outcomes.total(),
        len(problems),
        2000,
        f"{outcomes['refused']:,} refused by a typed error, {outcomes['taken']:,} taken and "
        "written back to the same object",
        tuple(problems),
    )
