"""Tools that an assistant may call while it answers: checked, and run only if they were given to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field, ValidationError

from mmworld.errors import MMWorldError
from mmworld.generate.decode import decode
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import Stop
from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.video import frames_at
from mmworld.models.message import RATE, Assistant, Message, Part
from mmworld.types import Chunk, Source
from mmworld.verbs.calls import Call, Tool, calls, grammar

ANSWER = Stop(512)
HEARD = 30.0
"""Seconds that `listen` gives at most."""
CALLS = 8
"""Calls of one message that are run; the others are refused."""
ASKED = """You may call these functions to look again. For each call write a JSON object with its name and arguments
within <tool_call></tool_call>, and then wait for what comes back within <tool_response></tool_response>.
<tools>
{tools}
</tools>"""
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


def answered(asked: Sequence[Call], tools: Sequence[Tool]) -> Message:
    """What comes back to the model: of each call what its tool gives, or why it was not run."""
    named = {tool.name: tool for tool in tools}
    parts: list[Part] = []
    for i, call in enumerate(asked):
        given = _run(call, named) if i < CALLS else (f"error: at most {CALLS} calls at once",)
        parts += ["<tool_response>\n", *given, "\n</tool_response>"]
    return Message("user", tuple(parts))


def _run(call: Call, tools: dict[str, Tool]) -> Sequence[Part]:
    if call.fault:
        return (f"error: {call.fault}",)
    if call.name not in tools:
        return (f"error: no function {call.name!r}; there are {', '.join(tools)}",)
    tool = tools[call.name]
    try:
        given = tool.arguments.model_validate(call.arguments)
        return tool.run(**{name: getattr(given, name) for name in type(given).model_fields})
    except ValidationError as e:
        told = "; ".join(f"{'.'.join(map(str, x['loc']))}: {x['msg']}" for x in e.errors()[:3])
        return (f"error: {call.name}: {told}",)
    except (MMWorldError, ValueError) as e:
        return (f"error: {call.name}: {e}",)


@torch.no_grad()
def converse(
    model: Assistant,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    sampler: Sampler = GREEDY,
    stop: Stop = ANSWER,
    rounds: int = 4,
    held: bool = False,
) -> Iterator[Message]:
    """The messages that follow, as they are made: what the assistant says, and what its calls give; its answer last.

    Args:
        tools: the only ones that are run.
        rounds: messages with calls, at most; the calls of a later one are not run.
        held: the model may say what it likes, but once it begins a call, only one that a tool takes.

    Raises:
        UsageError: the model cannot be asked so, or not be held: llguidance is not installed, or the vocabulary is not
            of bytes.
    """
    told = Message("system", (ASKED.format(tools="\n".join(json.dumps(t.schema) for t in tools)),))
    said = [told, *messages]
    if held and tools:
        sampler = grammar(tools).held(sampler, model.tokenizer)
    for i in range(rounds + 1):
        state, logits = model.begin(said)
        answer = Message("assistant", (decode(model, state, logits, sampler, stop)[0].text,))
        yield answer
        if i == rounds or not (asked := calls(str(answer.parts[0]))):
            return
        given = answered(asked, tools)
        yield given
        said += [answer, given]


def looking(source: Source | Media) -> list[Tool]:
    """`seek`, `zoom` and `listen` in a film or sound, as far as it has pictures and sound."""
    media = open_media(source)

    def seek(time: Seconds) -> Sequence[Part]:
        """The picture at a time in seconds."""
        return (f"at {time:g} s: ", _picture(media, time))

    def zoom(time: Seconds, box: tuple[Share, Share, Share, Share]) -> Sequence[Part]:
        """A part of the picture at a time in seconds: box is left, top, right, bottom, from 0 to 1."""
        left, top, right, bottom = box
        whole = _picture(media, time).data
        high, wide = whole.shape[2:]
        part = whole[:, :, round(top * high) : round(bottom * high), round(left * wide) : round(right * wide)]
        if not part.numel():
            raise ValueError(f"the box {box} has nothing in it")
        return (f"at {time:g} s: ", Chunk(part, time, time, "image"))

    def listen(start: Seconds, end: Seconds) -> Sequence[Part]:
        """The sound from start to end in seconds."""
        if not start < end <= start + HEARD:
            raise ValueError(f"from {start:g} to {end:g} s: the end must be up to {HEARD:g} s after the start")
        heard = [piece for _, piece in samples(media, rate=RATE, start=start, end=end, mono=True)]
        if not heard:
            raise ValueError(f"there is no sound from {start:g} to {end:g} s")
        sound = torch.cat(heard)
        return (f"from {start:g} s: ", Chunk(sound, start, start + len(sound) / RATE, "audio"))

    seen = (seek, zoom) if media.has_video else ()
    return [Tool.of(f) for f in (*seen, *((listen,) if media.has_audio else ()))]


def _picture(media: Media, time: float) -> Chunk:
    return Chunk(frames_at(media, [time])[0].data[None], time, time, "image")
