"""Calls are read, checked and run only if they may be; a conversation with them ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Literal

import jsonschema
import pytest
import torch
from clips import clip, number, tone
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from torch import Tensor

from mmworld.generate.decode import decode
from mmworld.generate.samplers import GREEDY
from mmworld.generate.stop import Stop
from mmworld.models.message import Message, Part
from mmworld.nn.state import KVState, Row
from mmworld.types import Chunk, Takes
from mmworld.verbs.calls import Call, Tool, calls, grammar
from mmworld.verbs.tools import CALLS, answered, converse, looking

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


def test_a_tag_in_a_string_of_a_call_does_not_close_it() -> None:
    notes = "</tool_call>", "<tool_call>{}", '"</tool_call>'
    said = [{"name": "jump", "arguments": {"time": 1, "note": note}} for note in notes]
    text = "".join(f"<tool_call>{json.dumps(one)}</tool_call>" for one in said)
    assert [c.arguments for c in calls(text)] == [one["arguments"] for one in said]
    assert [c.arguments for c in calls(json.dumps(said))] == [one["arguments"] for one in said]


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

    def spelling(self) -> list[bytes]:
        return [b"", *(bytes([i]) for i in range(1, 256))]

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        self.heard.append(list(messages))
        self.left = [*map(ord, self.lines.pop(0)), 0]
        return KVState(), self._next()

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        return self._next()

    def _next(self) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([self.left.pop(0)]), 256).float()


class Steered(Script):
    """One whose line goes on as it was, whatever was said in place of it; it likes to end, and then to close things."""

    def _next(self) -> Tensor:
        logits = torch.zeros(1, 256)
        for i, c in enumerate('>}1"]'):
            logits[0, ord(c)] = 1 + 0.1 * i
        logits[0, 0] = 2.0
        logits[0, self.left.pop(0) if self.left else 0] = 3.0
        return logits


class Noise(Script):
    """An assistant that says anything, marks of calls above all."""

    MARKS = ("<tool_call>", "</tool_call>", '"name"', '{"', "jump", '"place"', "arguments", "}}", "[{", "time", "x")

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.numbers = torch.Generator().manual_seed(seed)

    def spelling(self) -> list[bytes]:
        return [*super().spelling(), *(m.encode() for m in self.MARKS)]

    def decode(self, ids: Sequence[int]) -> str:
        spelled = self.spelling()
        return b"".join(spelled[i] for i in ids).decode(errors="replace")

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        return KVState(keys=[Row(torch.zeros(1, 0, dtype=torch.long))]), self._next()

    def _next(self) -> Tensor:
        logits = torch.randn(1, 256 + len(self.MARKS), generator=self.numbers)
        logits[0, 256:] += 1.5
        logits[0, list(b' {}",:[]0123456789')] += 0.5
        logits[0, 0] += 1.0
        return logits


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


class Place(BaseModel):
    where: Literal["left", "right"]
    near: Place | None = None


def place(places: list[Place], sure: bool = False) -> Sequence[Part]:
    """Looks at places."""
    return ("there",)


BOTH = [*TOOLS, Tool.of(place)]


def valid(call: Call) -> bool:
    """By another's reading of the schemas."""
    schemas = {tool.name: tool.schema["function"]["parameters"] for tool in BOTH}
    return jsonschema.Draft202012Validator(schemas[call.name]).is_valid(call.arguments)


@torch.no_grad()
@pytest.mark.parametrize("must", [True, False])
@given(seed=st.integers(0, 9999))
def test_one_who_is_held_makes_valid_calls_alone(must: bool, seed: int) -> None:
    model, may = Noise(seed), grammar(BOTH, must=must)
    (said,) = decode(model, *model.begin([]), may.held(GREEDY, model), Stop(600))
    if not may.accepts(said.text):
        assert len(said.ids) == 600
        return
    asked = calls(said.text)
    assert asked or not must
    assert all(not c.fault and valid(c) for c in asked)
    assert not any("error" in str(p) for p in answered(asked[:CALLS], BOTH).parts)


def test_noise_calls_and_talks() -> None:
    """So that the test above has something to say."""
    said = []
    for seed in range(30):
        model = Noise(seed)
        (one,) = decode(model, *model.begin([]), grammar(BOTH).held(GREEDY, model), Stop(600))
        said += [one.text] if grammar(BOTH).accepts(one.text) else []
    assert {bool(calls(text)) for text in said} == {True, False}
    free = [decode(m, *m.begin([]), GREEDY, Stop(600))[0].text for m in map(Noise, range(30))]
    assert any(c.fault for text in free for c in calls(text))


@given(st.text(max_size=12), st.lists(st.sampled_from(["<tool_call>", "{", "[", "</tool_call>", "x", " "])))
def test_words_are_free_up_to_a_call(text: str, marks: list[str]) -> None:
    words = text + "".join(marks)
    held = "<tool_call>" in words or words.strip()[:1] in ("{", "[")
    assert grammar(BOTH).accepts(words) == (not held)
    if not held:
        assert not calls(words)
        one = call("jump", time=1)
        assert [c.name for c in calls(words + one)] == ["jump"]
        assert grammar(BOTH).accepts(words + one + text.replace("{", "").replace("[", ""))


@pytest.mark.parametrize("key", ["arguments", "parameters"])
@pytest.mark.parametrize("form", ["look.\n<tool_call>\n{}\n</tool_call>", "{}", "[{}]", " \n{}\n", "[{}, {}]"])
def test_a_call_in_any_form_may_be_said(form: str, key: str) -> None:
    for given_ids, fits in ((ARGUMENTS, True), ({"time": "soon"}, False), ({}, False), ({"time": 1, "rm": 1}, False)):
        for indent in (None, 2):
            text = form.replace("{}", json.dumps({"name": "jump", key: given_ids}, indent=indent))
            assert grammar(BOTH).accepts(text) == fits
            assert grammar(BOTH, must=True).accepts(text.removeprefix("look.")) == fits
    assert not grammar(BOTH).accepts(form.replace("{}", json.dumps({"name": "rm", key: {}})))


def test_a_conversation_that_is_held_is_the_same_where_it_was_valid() -> None:
    lines = "look. " + call("jump", time=1.5), "it is [here] {so}"
    free, held = (
        list(converse(Script(*lines), [Message("user", ("go",))], TOOLS, held=held)) for held in (False, True)
    )
    assert free == held
    assert len(held) == 3


def test_a_bad_call_is_not_said_by_one_who_is_held() -> None:
    RAN.clear()
    bad = call("jump", tiem=1).replace(" ", "")
    model = Steered(bad)
    said = next(converse(model, [Message("user", ("go",))], TOOLS, held=True, rounds=0, stop=Stop(200)))
    (found,) = calls(str(said.parts[0]))
    assert (found.name, found.fault) == ("jump", "")
    assert isinstance(found.arguments["time"], float | int)
