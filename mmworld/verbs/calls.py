"""Calls of functions as assistants write them: what may be called, how it is read, and a grammar of it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, create_model

from mmworld.generate.grammar import WHITE, Grammar, json_by
from mmworld.models.message import Part

_OPENED, _CLOSE = re.compile(r"<tool_call>\s*"), "</tool_call>"
_PYTHON = r"[\s\x1c-\x1f]*(<\|python_tag\|>)?[\s\x1c-\x1f]*"
"""What may stand before a call that is the whole text, as `calls` passes it over."""
_LARK = rf"""
one[lazy]: /{_PYTHON}\x7b/
many[lazy]: /{_PYTHON}\x5b/
WORDS: /(?s:.*)/ & ~/(?s:.*<tool_call>.*)/ & ~/(?s:{_PYTHON}[\x7b\x5b].*)/
object: LEFT call
call: NAME given RIGHT
WHITE: /{WHITE}/
LEFT: /{WHITE}\x7b/
NAME: /{WHITE}"name"{WHITE}:{WHITE}/
KEY: /{WHITE},{WHITE}"(arguments|parameters)"{WHITE}:{WHITE}/
RIGHT: /{WHITE}\x7d/
COMMA: /{WHITE},/
LAST: /{WHITE}\x5d{WHITE}/
CLOSE: /{WHITE}<\/tool_call>/
"""
"""A call, by itself or within tags: what is lazy is a mark behind which nothing but a call may follow."""


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
    bare = text.strip().removeprefix("<|python_tag|>").strip()
    if bare[:1] in ("{", "[") and (whole := [call for call in _read(bare) if not call.fault]):
        return whole
    return [call for part in _tagged(text) for call in _read(part)]


def _tagged(text: str) -> Iterator[str]:
    """What stands within the tags; one in a string of a call is part of the string."""
    at = 0
    while opened := _OPENED.search(text, at):
        start = at = opened.end()
        with suppress(ValueError, RecursionError):
            at = json.JSONDecoder().raw_decode(text, start)[1]
        at = found if (found := text.find(_CLOSE, at)) >= 0 else len(text)
        yield text[start:at]


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


def grammar(tools: Sequence[Tool], *, must: bool = False) -> Grammar:
    """What an assistant may say: words, and calls that the tools take, as `calls` reads them. Words do not begin with {
    or [, for what does is a call.

    Args:
        tools: one or more.
        must: calls alone, at least one.

    Raises:
        UsageError: llguidance is not installed, or a tool's arguments are of a type that it does not know.
    """
    said, before = ("(tag object CLOSE)+", WHITE) if must else ("(tag object CLOSE)* WORDS", "(?s:.*)")
    names = " | ".join(f"{json.dumps(json.dumps(tool.name))} KEY given_{i}" for i, tool in enumerate(tools))
    given = (f"given_{i}: {json_by(tool.arguments.model_json_schema())}" for i, tool in enumerate(tools))
    start = f"start: {said} | one call WHITE | many object (COMMA object)* LAST\ntag[lazy]: /{before}<tool_call>/"
    return Grammar("\n".join((start + _LARK, f"given: {names}", *given)))
