"""Every system that is built here gives transformers' numbers, and what it saves transformers reads whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from borrowed import check_saved

from mmworld.models.systems import SYSTEMS
from mmworld.models.zoo import FAMILIES
from mmworld.models.zoo.parity import CASES, LIMIT, Case, error


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_gives_what_the_reference_gives(case: Case) -> None:
    assert error(case) <= LIMIT


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


def test_every_model_type_stands_in_the_table_and_is_compared() -> None:
    types = [t for system in SYSTEMS for t in system.types]
    assert sorted(types) == list(FAMILIES) == sorted({name.split(",")[0] for name in CASES})
