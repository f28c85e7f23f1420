"""Calls are read, checked and run only if they may be; a conversation with them ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO

import pytest
import torch
from clips import clip, number, tone
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.models.message import Message, Part
from mmworld.nn.state import KVState
from mmworld.types import Chunk, Takes
from mmworld.verbs.tools import CALLS, Tool, answered, calls, converse, looking

ARGUMENTS = {"time": 2.5, "note": 'a "quoted" {brace}'}
RAN: list[float] = []


def jump(time: float, note: str = "") -> Sequence[Part]:
    """Goes to a time."""
    RAN.append(time)
    return (f"went to {time}",)


TOOLS = [Tool.of(jump)]


@pytest.mark.parametrize("key", ["arguments", "parameters"])
@pytest.mark.parametrize(
    "form",
    ["look.\n<tool_call>\n{}\n</tool_call>", "<tool_call>{}", "<|python_tag|>{}", "{}", "[{}]", " \n{}\n"],
)
def test_a_call_is_read_in_every_form(form: str, key: str) -> None:
    text = form.replace("{}", json.dumps({"name": "jump", key: ARGUMENTS}))
    assert [(c.name, c.arguments, c.fault) for c in calls(text)] == [("jump", ARGUMENTS, "")]


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert all(c.fault or isinstance(c.arguments, dict) for c in calls(text))
    faulty = calls(f"<tool_call>{text}</tool_call>")
    assert faulty
    assert answered(faulty, TOOLS).role == "user"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"name": "rm", "arguments": {}}', "no function 'rm'; there are jump"),
        ('{"name": "jump", "arguments": {}}', "time: Field required"),
        ('{"name": "jump", "arguments": {"time": "soon"}}', "time: Input should be a valid number"),
        ('{"name": "jump", "arguments": {"time": 1, "shell": "x"}}', "shell: Extra inputs are not permitted"),
        ('{"name": "jump", "arguments": [1]}', "a call is an object with a name and arguments"),
        ('{"name": "jump", ', "this is not JSON"),
    ],
)
def test_a_bad_call_is_not_run_and_the_model_is_told(said: str, why: str) -> None:
    RAN.clear()
    given = answered(calls(f"<tool_call>{said}</tool_call>"), TOOLS)
    assert why in str(given.parts[1])
    assert not RAN


def test_no_more_calls_are_run_than_may_be() -> None:
    RAN.clear()
    one = '<tool_call>{"name": "jump", "arguments": {"time": 1}}</tool_call>'
    given = answered(calls(one * (CALLS + 3)), TOOLS)
    assert len(RAN) == CALLS
    assert sum("at most" in str(p) for p in given.parts) == 3


class Script:
    """An assistant that says its lines, a character an id."""

    takes = Takes(("image", "audio"))
    ends = (0,)

    def __init__(self, *lines: str) -> None:
        self.lines, self.tokenizer, self.heard = list(lines), self, []
        self.left: list[int] = []

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        self.heard.append(list(messages))
        self.left = [*map(ord, self.lines.pop(0)), 0]
        return KVState(), self._next()

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        return self._next()

    def _next(self) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([self.left.pop(0)]), 256).float()


def call(name: str, **given: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': given})}</tool_call>"


def test_an_assistant_looks_and_listens_again() -> None:
    film = BytesIO(clip(40, fps=10, sound=tone(4.0)))
    lines = call("seek", time=2.0), call("zoom", time=1.0, box=[0, 0, 1, 0.5]) + call("listen", start=1.0, end=1.5)
    model = Script(*lines, "a tone")
    made = list(converse(model, [Message("user", ("what is heard?",))], looking(film)))
    assert [m.role for m in made] == ["assistant", "user", "assistant", "user", "assistant"]
    assert made[-1].parts == ("a tone",)
    seen = [p for m in made for p in m.parts if isinstance(p, Chunk)]
    assert [(c.modality, number(c.data[0])) for c in seen[:1]] == [("image", 20)]
    assert seen[1].data.shape == (1, 3, 32, 64)
    assert (seen[2].modality, len(seen[2].data)) == ("audio", 8000)
    assert "seek" in str(model.heard[0][0].parts[0])
    assert model.heard[-1][1:] == [Message("user", ("what is heard?",)), *made[:-1]]


def test_what_a_tool_refuses_comes_back_as_words() -> None:
    tools = looking(BytesIO(clip(10, fps=10, sound=tone(1.0))))
    for said, why in (
        (call("zoom", time=0.1, box=[0.5, 0, 0.5, 1]), "has nothing in it"),
        (call("zoom", time=0.1, box=[0, 0, 2, 1]), "less than or equal to 1"),
        (call("listen", start=3, end=2), "must be up to 30 s after"),
        (call("listen", start=0, end=100), "must be up to 30 s after"),
    ):
        assert why in str(answered(calls(said), tools).parts[1])


def test_a_conversation_that_only_calls_ends() -> None:
    RAN.clear()
    model = Script(*[call("jump", time=1)] * 10)
    made = list(converse(model, [Message("user", ("go",))], TOOLS, rounds=3))
    assert len(made) == 7
    assert made[-1].role == "assistant"
    assert len(RAN) == 3
