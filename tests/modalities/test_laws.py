"""Every built-in modality obeys the laws, on streams of any length, longer than its window too."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import NAMES, SECONDS, stream, tiny

from mmworld.models.modality import check_modality

KINDS = pytest.mark.parametrize("name", NAMES)


@KINDS
@settings(max_examples=8)
@given(seed=st.integers(0, 2**20), part=st.floats(0.0, 1.0), start=st.floats(0.0, 1e5))
def test_laws(name: str, seed: int, part: float, start: float) -> None:
    check_modality(tiny(name), stream(name, part * SECONDS[name], seed=seed, start=start), seed=seed)
