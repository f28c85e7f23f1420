"""Tools that an assistant may call while it answers: parsed, checked, and run only if they were given to it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mmworld.errors import MMWorldError
from mmworld.generate.decode import decode
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import Stop
from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.video import frames_at
from mmworld.models.message import RATE, Assistant, Message, Part
from mmworld.types import Chunk, Source

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
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Call(NamedTuple):
    """What a model asks for; `fault` says why it cannot be."""

    name: str
    arguments: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Attributes:
        arguments: what they must be; nothing else may be given.
        run: gives the parts of the message that comes back.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[..., Sequence[Part]]

    @classmethod
    def of(cls, function: Callable[..., Sequence[Part]]) -> Tool:
        """From a function with typed parameters and a docstring."""
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        fields: dict[str, Any] = {
            p.name: (p.annotation, ... if p.default is p.empty else p.default) for p in parameters
        }
        made = create_model(function.__name__, __config__=ConfigDict(extra="forbid", strict=False), **fields)
        return cls(function.__name__, inspect.getdoc(function) or "", made, function)

    @property
    def schema(self) -> dict[str, Any]:
        """As chat templates take it."""
        said = {"name": self.name, "description": self.description, "parameters": self.arguments.model_json_schema()}
        return {"type": "function", "function": said}


def calls(text: str) -> list[Call]:
    """The calls in what a model said: within <tool_call> (Hermes, Qwen), or the whole text as one JSON object or a list
    of them, after <|python_tag|> or not (LLaMA 3)."""
    if tagged := _TAGGED.findall(text):
        return [call for part in tagged for call in _read(part)]
    bare = text.strip().removeprefix("<|python_tag|>").strip()
    return [c for c in _read(bare) if not c.fault] if bare[:1] in ("{", "[") else []


def _read(text: str) -> list[Call]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as e:
        return [Call("", {}, f"this is not JSON: {e}")]
    return [_call(one) for one in (said if isinstance(said, list) else [said])]


def _call(said: Any) -> Call:
    given = said.get("arguments", said.get("parameters", {})) if isinstance(said, dict) else None
    if not isinstance(given, dict) or not isinstance(said.get("name"), str):
        return Call("", {}, "a call is an object with a name and arguments")
    return Call(said["name"], given)


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
) -> Iterator[Message]:
    """The messages that follow, as they are made: what the assistant says, and what its calls give; its answer last.

    Args:
        tools: the only ones that are run.
        rounds: messages with calls, at most; the calls of a later one are not run.
    """
    told = Message("system", (ASKED.format(tools="\n".join(json.dumps(t.schema) for t in tools)),))
    said = [told, *messages]
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
