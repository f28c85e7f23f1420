"""Clouds without a header: which column is which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.modalities.pointcloud.readers.scan import COLUMNS, Block, malformed

_XYZ, _RGB, _NORMAL = COLUMNS[:3], COLUMNS[3:6], COLUMNS[6:9]
_WIDTHS = {
    3: _XYZ,
    4: (*_XYZ, "intensity"),
    5: (*_XYZ, "velocity", "intensity"),
    6: (*_XYZ, *_RGB),
    7: (*_XYZ, "intensity", *_RGB),
    9: (*_XYZ, *_RGB, *_NORMAL),
    11: COLUMNS,
}


def check_width(width: int, name: str) -> None:
    if width not in _WIDTHS:
        raise malformed(name, f"{width} columns", f"read are {', '.join(map(str, _WIDTHS))} columns: x y z first")


class Layout:
    """Columns by their number: 3 xyz; 4 and intensity; 5 and velocity, intensity; 6 and colour, or normals if a
    value is negative or the file ends in .xyzn; 7 and intensity, colour (PTS); 9 and colour, normals; 11 COLUMNS.

    The first block decides once for the file, also whether colours run to 1 or to 255.
    """

    def __init__(self, first: NDArray[Any], name: str) -> None:
        width = first.shape[1]
        check_width(width, name)
        self.names = _WIDTHS[width]
        if width == 6 and (name.lower().endswith(".xyzn") or bool((first[:, 3:] < 0).any())):
            self.names = (*_XYZ, *_NORMAL)
        colours = [i for i, n in enumerate(self.names) if n in _RGB]
        self.scale = 255.0 if bool((first[:, colours] > 1).any()) else 1.0

    def columns(self, values: NDArray[Any]) -> Block:
        block: Block = {}
        for i, name in enumerate(self.names):
            column = values[:, i]
            block[name] = np.clip(column / self.scale, 0, 1) if name in _RGB else column
        return block
