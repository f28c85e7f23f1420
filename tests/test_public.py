"""The public names: all there, lazy, and the same code behind `caption` and `stream`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mmworld


@pytest.mark.parametrize("name", mmworld.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(mmworld, name) is not None
    assert name in dir(mmworld)


def test_import_is_light() -> None:
    code = "import sys, mmworld; print(sorted({'torch', 'av', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_stream_can_be_called_whatever_was_imported_before() -> None:
    import mmworld.stream.policy

    assert callable(mmworld.stream)
    with pytest.raises(mmworld.errors.CheckpointError, match="no model"):
        mmworld.stream("a.mp4", model="none")
    assert mmworld.stream.policy.Every(2.0) == mmworld.Every(2.0)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'hallucinate'"):
        _ = mmworld.hallucinate
