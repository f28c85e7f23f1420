"""What is said obeys a grammar, such as JSON by a schema: llguidance says at each step which ids may come next."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.rules import Prefix
from mmworld.generate.samplers import Sampler
from mmworld.generate.speaker import Vocabulary

S = TypeVar("S", bound=Sampler | Beam)
WHITE = r"[ \t\r\n]{0,20}"
"""Spaces about parts of JSON: enough to set it out in lines, and not so many that a model says nothing else."""
_JSON = {"whitespace_pattern": WHITE, "json_allow_general_unicode_escapes": True}
_EXACT = '%llguidance {"no_forcing": true}\n'
"""Where the text is forced, any ids that spell it may be said, not only those that encode it."""


class Spelled(Vocabulary, Protocol):
    """A vocabulary whose ids are bytes."""

    def spelling(self) -> list[bytes]:
        """The bytes that each id adds to a text; none of a special one."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Grammar:
    """A text is of this grammar, and over when the grammar is.

    Attributes:
        lark: its rules, from `start` on, as llguidance writes Lark: with regular expressions, and `%json {schema}`.

    Raises:
        UsageError: it is no grammar, or llguidance is not installed.
    """

    lark: str

    def __post_init__(self) -> None:
        if fault := _library().LLMatcher.validate_grammar(_EXACT + self.lark):
            raise UsageError(f"not a grammar: {_told(fault)}")

    @classmethod
    def json(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON by a schema; the keys of an object in the schema's order, and no DEL (U+007F) in a text.

        Raises:
            UsageError: the schema is none, or asks for what llguidance does not know, or it is not installed.
        """
        made = _library().LLMatcher
        if fault := made.validate_grammar(made.grammar_from_json_schema(dict(schema))):
            raise UsageError(f"not a schema: {_told(fault)}")
        return cls(f"start: WHITE json WHITE\nWHITE: /{WHITE}/\njson: {json_by(schema)}")

    def accepts(self, text: str) -> bool:
        """Whether a text is of this grammar as it stands, no more and no less."""
        matcher, ids = _compiled(self, BYTES).deep_copy(), list(text.encode())
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    def held(self, sampler: S, tokenizer: Spelled) -> S:
        """The way of decoding, kept to this grammar after its own rules.

        Raises:
            UsageError: the vocabulary is not of bytes, or does not say what ends a text.
        """
        made: S = replace(sampler, rules=(*sampler.rules, Held(self, tokenizer)))  # type: ignore[type-var]
        return made


def json_by(schema: Mapping[str, Any]) -> str:
    """A schema in the text of a grammar."""
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON})}"


@dataclass(frozen=True)
class Held:
    """The rule of a grammar for one vocabulary. What it knows of a text is the text: it is followed from its beginning
    at each step, which costs less than a microsecond an id."""

    grammar: Grammar
    tokenizer: Spelled

    def __post_init__(self) -> None:
        _compiled(self.grammar, self.tokenizer)

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        start, n = _compiled(self.grammar, self.tokenizer), scores.shape[-1]
        free = np.stack([_free(start.deep_copy(), text.said, n) for text in texts])
        return scores.masked_fill(~torch.from_numpy(free).to(scores.device), -torch.inf)


def _free(matcher: Any, said: Sequence[int], n: int) -> np.ndarray:
    """Which of n ids may come next, bool [n]; none where the vocabulary does not spell what must."""
    matcher.consume_tokens(list(said))
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    if fault := matcher.get_error():
        if fault.startswith("NoExtension"):
            return np.zeros(n, np.bool_)
        raise UsageError(f"the grammar cannot be followed: {_told(fault)}")
    return np.unpackbits(bits, count=n, bitorder="little").view(np.bool_)


class _Bytes:
    """The vocabulary of the 256 bytes, by which any text is followed."""

    ends = (256,)

    def spelling(self) -> list[bytes]:
        return [bytes([i]) for i in range(256)]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


BYTES = _Bytes()


@lru_cache(maxsize=16)
def _compiled(grammar: Grammar, tokenizer: Spelled) -> Any:
    """What follows a text of the grammar, at its beginning: to be copied, never to go on."""
    library = _library()
    limits = library.LLParserLimits(verbose_errors=False)
    matcher = library.LLMatcher(_vocabulary(tokenizer), _EXACT + grammar.lark, log_level=0, limits=limits)
    if matcher.is_error():
        raise UsageError(f"not a grammar: {_told(matcher.get_error())}")
    return matcher


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Spelled) -> Any:
    """As llguidance has it, with a tree of all ids: about a second for 150 thousand."""
    ends, spelled = sorted(tokenizer.ends), tokenizer.spelling()
    if not ends:
        raise UsageError("this model's vocabulary does not say which id ends a text: no grammar can be held to")
    spelled += [b""] * (ends[-1] + 1 - len(spelled))
    for i in ends:
        spelled[i] = b"<end>"
    return _library().LLTokenizer(_Wrapped(spelled, ends), eos_token=ends)


class _Wrapped:
    """What llguidance asks of a vocabulary."""

    is_tokenizer_wrapper, bos_token_id = True, None

    def __init__(self, tokens: Sequence[bytes], ends: Sequence[int]) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = tokens, ends, ends[0]

    def __call__(self, text: str) -> list[int]:
        raise NotImplementedError("nothing is encoded: no ids are forced")


def _told(fault: str) -> str:
    """What is wrong, without where in the text it stands."""
    fault = re.split(r"\n +\d+ \| |\s*<non-verbose", fault)[0]
    return re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", fault)


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise UsageError("a grammar needs llguidance", hint="pip install 'mmworld[grammar]'") from None
    return llguidance
