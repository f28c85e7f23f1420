"""Systems that transformers has not: their papers' equations in float64, written without the modules' code, as loops
over single things where that is plainer.
"""

from __future__ import annotations

from collections.abc import Callable

from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.parity.equations import (
    flamingo,
    grounding3d,
    pointbert,
    pointllm,
    pointnet2,
    show_and_tell,
    silero_vad,
    videoclip,
    vilbert,
)

EQUATIONS: dict[str, Callable[[], Pairs]] = {
    "3D grounding": grounding3d.compare,
    "Flamingo": flamingo.compare,
    "Point-BERT": pointbert.compare,
    "PointLLM": pointllm.compare,
    "PointNet++": pointnet2.compare,
    "Show and Tell": show_and_tell.compare,
    "Silero VAD": silero_vad.compare,
    "VideoCLIP": videoclip.compare,
    "ViLBERT": vilbert.compare,
}
"""By the name of the system: what ours gives and what the equations give, of a tiny model with random weights."""
