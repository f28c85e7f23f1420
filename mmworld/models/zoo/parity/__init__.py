"""How far each system is from the library that its checkpoints come from, on tiny models with random weights.

The weights go the way of a real checkpoint: transformers saves shards, `mmworld.load` reads them.
"""

from __future__ import annotations

from mmworld.models.systems import System
from mmworld.models.zoo.parity import audio, gated, grids, joint, squares, text, tiled, video, vision
from mmworld.models.zoo.parity.case import LIMIT, Case, error, largest
from mmworld.models.zoo.parity.equations import EQUATIONS

__all__ = ["CASES", "EQUATIONS", "LIMIT", "Case", "errors"]

CASES: dict[str, Case] = (
    text.CASES
    | vision.CASES
    | video.CASES
    | audio.CASES
    | joint.CASES
    | tiled.CASES
    | grids.CASES
    | gated.CASES
    | squares.CASES
)
"""By model type, and what is particular after a comma."""


def errors(system: System) -> dict[str, float]:
    """The error of each case of a system's model types, or of its paper's equations."""
    found = {name: error(case) for name, case in CASES.items() if name.split(",")[0] in system.types}
    if system.name in EQUATIONS:
        found[system.name] = largest(EQUATIONS[system.name]())
    return found
