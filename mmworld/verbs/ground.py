"""`mmworld.ground("a.jpg", model=…)`: what is in a picture and where, or where what a phrase names is."""

from __future__ import annotations

from typing import Any

import torch

from mmworld.errors import UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.looking import parts
from mmworld.models.zoo.conversation import vocabulary
from mmworld.text.grounding import Grounded, asked, parse
from mmworld.types import Chunk
from mmworld.verbs.ask import Shown
from mmworld.verbs.model import able, loaded

LONG = Stop(256)


@torch.no_grad()
def ground(
    picture: Shown, *, model: Any, phrase: str | None = None, device: str = "cpu", stop: Stop = LONG
) -> Grounded:
    """A text about a picture, and the boxes of what it speaks of.

    Args:
        picture: of a film the frame in its middle.
        model: a borrowed model that names places: its name, its folder, or itself.
        phrase: what to look for; None tells of the whole picture.
        stop: how long the text may be.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model names no places, or the phrase is empty or has tags.
        MediaError: the picture is refused, or is none.
    """
    if phrase is not None and (not phrase.strip() or "<" in phrase):
        raise UsageError(f"a phrase is plain words, without <: {phrase!r} is not")
    found = grounder(loaded(model, device))
    shown = picture if isinstance(picture, Chunk) else parts(picture, found.takes)[0]
    text = asked(phrase)
    state, logits = found.look(list(shown.data), text)
    made = decode(found, state, logits, stop=stop)[0]
    tokenizer = vocabulary(found)
    return parse(tokenizer.decode([*tokenizer.encode(text, whole=False), *made.ids]))


def grounder(model: Any) -> Any:
    """The model as one that says where things are; UsageError, with those that can, if it is none."""
    return able(model, "look", "say where things are", "ask, ground")
