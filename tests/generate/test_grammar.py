"""What is said by a grammar: valid whoever says it, and what a model would say anyway where that is valid."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from test_decode import Table
from tokenizers import decoders, models
from torch import Tensor
from vocabularies import KINDS, vocabulary

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import complete, decode
from mmworld.generate.grammar import Grammar, Held
from mmworld.generate.rules import Prefix, Suppress
from mmworld.generate.samplers import GREEDY, Greedy, Sample
from mmworld.generate.stop import Stop
from mmworld.models.zoo import FAMILIES
from mmworld.nn.state import KVState, Row
from mmworld.text.pretrained import Pretrained

N = 400
WAYS = [Greedy(), Sample(seed=1), Sample(0.5, top_p=0.9, seed=2), Beam(2)]
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 4)),
    st.builds(
        lambda a, n: {"type": "integer", "minimum": a, "maximum": a + n}, st.integers(-20, 20), st.integers(0, 9)
    ),
    st.builds(lambda a, n: {"enum": [a, n]}, st.text(max_size=5), st.integers(-5, 5)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "pattern": "^[a-c]{1,3}$"}]),
)


def objects(of: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def made(fields: dict[str, Any], n: int) -> dict[str, Any]:
        said = {"type": "object", "properties": fields, "required": list(fields)[:n], "additionalProperties": False}
        return {**said, "title": "T"}

    return st.builds(made, st.dictionaries(st.text(max_size=4), of, max_size=3), st.integers(0, 3))


SCHEMAS = st.recursive(
    LEAVES, lambda of: objects(of) | st.builds(lambda x: {"type": "array", "items": x, "maxItems": 2}, of), max_leaves=4
)


class Noise:
    """A model that says anything: its logits are random, and some more than its vocabulary has ids."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self.tokenizer, self.numbers = tokenizer, torch.Generator().manual_seed(seed)
        self.width = len(tokenizer.spelling()) + 5

    def begin(self, rows: int) -> tuple[KVState, Tensor]:
        ids = torch.zeros(rows, 1, dtype=torch.long)
        return KVState(keys=[Row(ids[:, :0])]), self.read(ids, KVState())

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        return torch.randn(len(ids), self.width, generator=self.numbers)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    return vocabulary(request.param, folder, lambda: request.getfixturevalue("shared_data"))


def obeys(text: str, schema: dict[str, Any]) -> bool:
    """By another's reading of the schema."""
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))


@torch.no_grad()
@given(schema=SCHEMAS, seed=st.integers(0, 999), way=st.sampled_from(WAYS))
def test_whatever_is_said_obeys_the_schema(tokenizer: Any, schema: dict[str, Any], seed: int, way: Any) -> None:
    grammar, model = Grammar.json(schema), Noise(tokenizer, seed)
    said = decode(model, *model.begin(3), grammar.held(way, tokenizer), Stop(N))
    for one in said:
        assert one.ids == one.ids[:N]
        assert grammar.accepts(one.text) or len(one.ids) == N
        assert not grammar.accepts(one.text) or obeys(one.text, schema)
    assert any(grammar.accepts(one.text) for one in said)


@dataclass(frozen=True)
class Letters:
    """A vocabulary whose tokens are these, and an end behind them."""

    tokens: tuple[str, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        return (len(self.tokens),)

    def spelling(self) -> list[bytes]:
        return [token.encode() for token in self.tokens]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.tokens[i] for i in ids)


TOKENS = ("a", "b", "ab", '"', '":', '{"', ",", 'a"', '",', "ba", "", ":", "}", '"}', "a")


@given(
    st.lists(st.text('ab{}":,', min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    st.permutations(TOKENS),
    st.data(),
)
def test_what_may_come_next_is_what_begins_a_text(texts: list[str], tokens: list[str], data: st.DataObject) -> None:
    """Of a language that is a list, so that it can be looked up; its tokens lie across letters and marks."""
    letters = Letters(tuple(tokens))
    rule = Held(Grammar(f"start: {' | '.join(map(json.dumps, texts))}"), letters)
    said: list[int] = []
    while True:
        so_far = letters.decode(said)
        may = [bool(t) and any(text.startswith(so_far + t) for text in texts) for t in tokens]
        may.append(so_far in texts)
        got = rule([Prefix((), said)], torch.zeros(1, len(tokens) + 3))[0]
        assert (got == 0).tolist() == [*may, False, False]
        if not any(may):  # no tokens spell the text
            break
        i = data.draw(st.sampled_from([i for i, free in enumerate(may) if free]))
        if i in letters.ends:
            break
        said.append(i)


@given(st.integers(0, 999))
def test_a_wide_beam_finds_the_best_text_of_the_grammar(seed: int) -> None:
    table, letters, texts = Table(4, seed), Letters(("", "a", "b", "ab")), ("a", "ab", "aba", "bb")
    one = dict(enumerate(letters.tokens))

    @dataclass(frozen=True)
    class First(Letters):
        ends: tuple[int, ...] = (0,)  # type: ignore[assignment]

    rule = Held(Grammar(f"start: {' | '.join(map(json.dumps, texts))}"), First(letters.tokens))
    state = KVState(keys=[Row(torch.zeros(1, 0, dtype=torch.long))])
    (found,) = Beam(200, 1.0, (rule,)).search(table.read, state, table.logits(())[None], [0], 5)
    spelled = [ids for text in texts for ids in spellings(text, one)]
    log_p = {ids: sum(float(table.logits(ids[:i]).log_softmax(-1)[t]) for i, t in enumerate(ids)) for ids in spelled}
    assert tuple(found[0]) == max(log_p, key=lambda ids: log_p[ids] / len(ids))


def spellings(text: str, tokens: dict[int, str]) -> list[tuple[int, ...]]:
    """All ways to write a text, with the id 0 behind it."""
    if not text:
        return [(0,)]
    starts = [(i, t) for i, t in tokens.items() if t and text.startswith(t)]
    return [(i, *rest) for i, t in starts for rest in spellings(text[len(t) :], tokens)]


class Script(Noise):
    """A model that would say these ids, and nearly as likely anything else."""

    def __init__(self, tokenizer: Any, ids: Sequence[int]) -> None:
        super().__init__(tokenizer, 0)
        self.left = [*ids, min(tokenizer.ends)]

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        logits = super().read(ids, state).clamp(max=3.0)
        logits[:, self.left.pop(0)] = 4.0
        return logits


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=4), of, max_size=3),
    max_leaves=6,
)


@torch.no_grad()
@given(value=VALUES, indent=st.sampled_from([None, 0, 2, "\t"]), tight=st.booleans(), plain=st.booleans())
def test_a_valid_answer_stays_as_it_is(
    tokenizer: Any, value: Any, indent: int | str | None, tight: bool, plain: bool
) -> None:
    marks = (",", ":") if tight else None
    text = json.dumps(value, indent=indent, separators=marks, ensure_ascii=plain)
    assume("\x7f" not in text)  # which llguidance leaves out
    ids = tokenizer.encode(text, whole=False) if isinstance(tokenizer, Pretrained) else tokenizer.encode(text)
    assume(tokenizer.decode(ids).strip() == text)  # SentencePiece writes some characters otherwise
    model = Script(tokenizer, ids)
    (said,) = decode(model, *model.begin(1), Grammar.json({}).held(GREEDY, tokenizer), Stop(len(ids) + 1))
    assert list(said.ids) == ids
    assert not model.left
    assert json.loads(said.text) == value


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny language model with random weights and a vocabulary."""
    torch.manual_seed(0)
    tokenizer = vocabulary("byte-level", tmp_path_factory.mktemp("llama"), Path)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "rms_norm_eps": 1e-5, "max_position_embeddings": 512}
    model: Any = FAMILIES.get("llama")({"model_type": "llama", "vocab_size": len(tokenizer) + 2, **sizes}).eval()
    for x in model.parameters():
        torch.nn.init.normal_(x, std=0.4)
    model.tokenizer = tokenizer
    return model


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_rows_of_a_batch_keep_to_their_own_texts(llama: Any, way: Any) -> None:
    schema = {"type": "array", "items": {"enum": ["a dog", "two", 3, None]}, "maxItems": 3}
    held = Grammar.json(schema).held(way, llama.tokenizer)
    prompts = torch.randint(3, 300, (6, 5), generator=torch.Generator().manual_seed(3)).tolist()
    together = complete(llama, prompts, held, Stop(200))
    assert [g.ids for g in together] == [complete(llama, [p], held, Stop(200))[0].ids for p in prompts]
    assert len({len(g.ids) for g in together}) > 1
    assert all(obeys(g.text, schema) for g in together)


def test_other_rules_hold_as_well() -> None:
    letters = Letters(("a", "b"))
    held = Grammar('start: "a" | "b"').held(Greedy((Suppress((0,)),)), letters)
    model = Noise(letters, 0)
    assert decode(model, *model.begin(1), held)[0].text == "b"
    with pytest.raises(UsageError, match="leave no id"):
        decode(model, *model.begin(1), Grammar('start: "a"').held(Greedy((Suppress((0,)),)), letters))
    with pytest.raises(UsageError, match="leave no id"):  # there is no token for it
        decode(model, *model.begin(1), Grammar('start: "c"').held(GREEDY, letters))


def test_a_text_is_accepted_when_it_is_whole() -> None:
    grammar = Grammar.json({"type": "integer", "minimum": 100})
    assert [grammar.accepts(t) for t in ("100", " 100\n", "10", "", "100.5", "100 1", "é")] == [
        True,
        True,
        *[False] * 5,
    ]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "thing"}, "not a schema: Invalid type: thing"),
        ({"type": "string", "pattern": "("}, "not a schema: regex parse error: .* unclosed group"),
        ({"uniqueItems": True}, r'not a schema: Unimplemented keys: \["uniqueItems"\]'),
        ({"$ref": "#/$defs/x"}, r"not a schema: Pointer '/\$defs/x' does not exist"),
        ({"enum": []}, "not a schema: Unsatisfiable"),
    ],
)
def test_what_is_no_schema_is_told_in_a_line(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=rf"^{why}[^|]*$"):
        Grammar.json(schema)


def test_what_cannot_be_held_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r'^not a grammar: unknown name: "foo"$'):
        Grammar("start: foo")
    grammar, core = Grammar('start: "a"'), tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}))
    core.decoder = decoders.WordPiece()
    with pytest.raises(UsageError, match="of words, not of bytes"):
        grammar.held(GREEDY, Pretrained(core, frozenset({0})))
    core.decoder = decoders.ByteLevel()
    with pytest.raises(UsageError, match="does not say which id ends a text"):
        grammar.held(GREEDY, Pretrained(core, frozenset()))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UsageError, match=r"needs llguidance \(pip install 'mmworld\[grammar\]'\)"):
        Grammar.json({})


@given(st.integers(1, 40), st.integers(0, 9))
def test_scores_that_may_be_said_are_those_of_the_model(rows: int, seed: int) -> None:
    letters = Letters(("a", "b", "ab"))
    scores = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before = scores.clone()
    got = Held(Grammar('start: "a" "b"'), letters)([Prefix((1,), (0,) * (i % 2)) for i in range(rows)], scores)
    free = np.array([[True, False, True, *[False] * 3], [False, True, *[False] * 4]])[np.arange(rows) % 2]
    assert torch.equal(got, torch.where(torch.from_numpy(free), before, -torch.inf))
    assert torch.equal(scores, before)
