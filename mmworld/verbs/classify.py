"""`mmworld.classify("a.jpg", model=…, labels=…)`: which of the labels fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmworld.errors import UsageError
from mmworld.verbs.embed import Shown, match, shown
from mmworld.verbs.model import loaded

TEMPLATES = {"image": "a photo of a {}", "video": "a video of {}", "audio": "the sound of {}"}
"""What a label is called in a text, as the authors of CLIP, X-CLIP and CLAP did."""


@torch.no_grad()
def classify(
    *things: Shown,
    labels: Sequence[str] = (),
    model: Any,
    template: str | None = None,
    device: str = "cpu",
    **span: Any,
) -> list[dict[str, float]]:
    """The probability of each label for each thing, likeliest first.

    Args:
        labels: any, with a model that matches things and texts; none with one that was trained on its own.
        template: the text that a label stands in, as "{}".
        span: start and end in seconds.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model needs labels, or takes none, or does not classify.
        MediaError: a thing is refused, or holds nothing that the model takes.
    """
    found = loaded(model, device)
    if hasattr(found, "compare"):
        if not labels:
            raise UsageError("this model tells apart what it is told of: it needs labels")
        text = template or TEMPLATES.get(found.takes.senses[0], "{}")
        rows = match(*things, texts=[text.format(label) for label in labels], model=found, **span)
        return [_ranked(labels, row.tolist()) for row in rows]
    if labels:
        raise UsageError(f"a {type(found).__name__} has labels of its own, and takes no others")
    return [_own(found, thing, span) for thing in things]


def _own(model: Any, thing: Shown, span: dict[str, Any]) -> dict[str, float]:
    if not any("Classification" in name for name in getattr(model, "source", {}).get("architectures") or ()):
        raise UsageError(f"this {type(model).__name__} has no classifier", hint="embed gives what it encodes")
    logits = torch.cat([model.pool(model(x)) for x in shown(model, thing, **span)]).float().mean(0)
    named = {int(i): str(name) for i, name in dict(model.source.get("id2label") or {}).items()}
    return _ranked([named.get(i, str(i)) for i in range(len(logits))], logits.softmax(-1).tolist())


def _ranked(labels: Sequence[str], shares: Sequence[float]) -> dict[str, float]:
    return dict(sorted(zip(labels, shares, strict=True), key=lambda pair: -pair[1]))
