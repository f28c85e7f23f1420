"""`mmworld.embed("a.jpg", model=…)`: one vector for each thing; and how well things and texts fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.errors import UsageError
from mmworld.fusion.late import Late
from mmworld.media.gate import Media, open_media
from mmworld.models.looking import parts
from mmworld.models.zoo.conversation import prepared, vocabulary
from mmworld.types import Chunk, Source, Takes
from mmworld.verbs.model import able, loaded

Shown = Source | Media | Chunk
SHORTEST = 0.1
"""Seconds of a rest that is not looked at."""


@torch.no_grad()
def embed(*things: Shown, texts: Sequence[str] = (), model: Any, device: str = "cpu", **span: Any) -> Tensor:
    """One row for each of the things and then for each of the texts [N, E].

    Of a model that brings things and texts to one space they are directions, whose products say how well things fit
    each other: of length 1, but where lengths count, too (VideoCLIP). Of an encoder of one sense they are what it pools
    its tokens to. A model of pictures is shown the frames of a film, and gives their mean.

    Args:
        things: pictures, films or sounds.
        span: start and end in seconds.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model does not embed things, or texts, or gives many directions for a thing (BLIP-2).
        MediaError: a thing is refused, or holds nothing that the model takes.
    """
    encoder = loaded(model, device)
    rows = [_embedded(encoder, thing, span) for thing in things]
    if texts:
        rows.append(able(encoder, "embed_texts", "bring texts to a space", "match").embed_texts(ids(encoder, texts)))
    return torch.cat(rows).float().cpu() if rows else torch.zeros(0, 0)


@torch.no_grad()
def match(*things: Shown, texts: Sequence[str], model: Any, device: str = "cpu", **span: Any) -> Tensor:
    """How well each text fits each thing [things, texts], from 0 to 1: the probability of each pair alone (SigLIP), or
    of each text among the others, whose row sums to 1 (CLIP).

    Args and errors as of `embed`.
    """
    found = loaded(model, device)
    late: Late = able(found, "compare", "match things and texts", "match")
    scores = [_scores(late, thing, ids(late, texts), span) for thing in things]
    whole = torch.cat(scores).float().cpu() if scores else torch.zeros(0, len(texts))
    return whole.sigmoid() if late.alone else whole.softmax(-1)


def ids(model: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts."""
    return [vocabulary(model).encode(text) for text in texts]


def shown(model: Any, thing: Shown, start: float = 0.0, end: float | None = None) -> Iterator[Tensor]:
    """A thing, prepared, in the parts in which the model is shown it: stretches of what is longer than it takes."""
    takes: Takes = able(model, "takes", "be shown anything", "encode", "match", "classify").takes
    if isinstance(thing, Chunk):
        yield prepared(model, thing)
        return
    media = open_media(thing)
    last = min((t for t in (end, media.duration) if t is not None), default=start)
    while True:
        for chunk in parts(media, takes, start=start, end=end):
            yield prepared(model, chunk)
        start += takes.seconds
        if start >= last - SHORTEST:
            return


def _embedded(model: Any, thing: Shown, span: dict[str, Any]) -> Tensor:
    if isinstance(model, Late):
        mean = torch.cat([model.embed(x) for x in shown(model, thing, **span)]).mean(0, keepdim=True)
        if mean.ndim > 2:
            raise UsageError(
                f"a {type(model).__name__} has many directions for a thing, not one", hint="match compares"
            )
        return F.normalize(mean, dim=-1) if model.unit else mean
    pool = able(model, "pool", "give a vector for a thing", "encode", "match").pool
    return torch.cat([pool(model(x)) for x in shown(model, thing, **span)]).mean(0, keepdim=True)


def _scores(model: Late, thing: Shown, texts: list[list[int]], span: dict[str, Any]) -> Tensor:
    """The mean over the parts of a thing: for directions, the score of their mean."""
    try:
        return torch.cat([model(x, texts) for x in shown(model, thing, **span)]).mean(0, keepdim=True)
    except ValueError as e:
        raise UsageError(f"the texts do not go into this model: {e}") from None
