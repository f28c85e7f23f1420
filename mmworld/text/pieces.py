"""The vocabularies of SentencePiece (Kudo and Richardson 2018) as they were released, read by that library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmworld.errors import CheckpointError, UsageError
from mmworld.text.spelling import piece
from mmworld.weights.shards import bounded, read_json

FILES = {"tokenizer.model": (True, False), "spiece.model": (False, True), "spm_char.model": (False, True)}
"""Names, and whether a whole text begins with <s> and ends with </s> where the settings do not say: LLaMA's; T5's and
SpeechT5's."""
SETTINGS, ADDED = "tokenizer_config.json", "added_tokens.json"
CLASSES = {None, "LlamaTokenizer", "LlamaTokenizerFast", "T5Tokenizer", "T5TokenizerFast", "SpeechT5Tokenizer"}
"""Of the settings; others change the text before it is cut, or the ids after."""
MAX_BYTES = 16 << 20
_SPACES = r"\s*"
_NO_PREFIX = b"\x1a\x02\x18\x00"
"""Behind a model's bytes: normalizer_spec { add_dummy_prefix: false }."""


class Added(NamedTuple):
    """A token that is found in a text before it is cut into pieces; spaces beside it may be part of it."""

    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


class Encoded(NamedTuple):
    ids: list[int]


class Pieces:
    """What `Pretrained` asks of a `tokenizers.Tokenizer`, from a model of SentencePiece.

    Args:
        model: bytes of its file.
        added: tokens beside its own control tokens.
        ends: whether a whole text begins with <s>, and ends with </s>.
        prefix: where a space is put before a text: "always", also after an added token; "first"; "never".

    Raises:
        UsageError: sentencepiece is not installed.
        ValueError: the model is none.
    """

    def __init__(self, model: bytes, added: Mapping[str, Added], ends: tuple[bool, bool], prefix: str) -> None:
        self._spaced, self._bare = _processor(model), _processor(model + _NO_PREFIX)
        core = self._spaced
        own = [i for i in range(core.get_piece_size()) if core.is_control(i) or core.is_unknown(i)]
        self._added = {core.id_to_piece(i): Added(i) for i in own} | dict(added)
        self._text = {a.id: text for text, a in self._added.items()}
        longest = sorted(self._added.items(), key=lambda item: -len(item[0]))
        marks = (_SPACES * a.lstrip + re.escape(text) + _SPACES * a.rstrip for text, a in longest)
        self._marks = re.compile(f"({'|'.join(marks)})")
        self._first, self._later = (self._bare if p else self._spaced for p in (prefix == "never", prefix != "always"))
        self._ends = ends
        self.eos: int = core.eos_id()

    def get_vocab_size(self) -> int:
        return max(self._spaced.get_piece_size(), *(a.id + 1 for a in self._added.values()))

    def token_to_id(self, token: str) -> int | None:
        if token in self._added:
            return self._added[token].id
        i: int = self._spaced.piece_to_id(token)
        return i if self._spaced.id_to_piece(i) == token else None

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoded:
        first, last = self._ends if add_special_tokens else (False, False)
        return Encoded([*[self._spaced.bos_id()] * first, *self._cut(text), *[self.eos] * last])

    def _cut(self, text: str) -> Iterator[int]:
        cut = self._first
        for i, part in enumerate(self._marks.split(text)):
            if i % 2:
                yield (self._added.get(part) or self._added[part.strip()]).id
            elif part:
                yield from cut.encode(part)
            if part:
                cut = self._later

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; those of no piece and no token are left out."""
        texts: list[str] = []
        run: list[int] = []
        for i in [*ids, None]:
            if i is not None and i not in self._text:
                run += [i] if i < self._spaced.get_piece_size() else []
                continue
            if i is not None and skip_special_tokens and self._added[self._text[i]].special:
                continue
            texts += [(self._bare if texts else self._spaced).decode(run), "" if i is None else self._text[i]]
            run = []
        return "".join(texts)

    def spelling(self) -> list[bytes]:
        """The bytes that each id adds to a text; none of special ones, and of those of no piece and no token."""
        n, core = self._spaced.get_piece_size(), self._spaced
        found = [piece(core.id_to_piece(i)) if i < n else b"" for i in range(self.get_vocab_size())]
        for text, added in self._added.items():
            found[added.id] = b"" if added.special else text.encode()
        return found


def read(folder: Path) -> Pieces | None:
    """The vocabulary of a folder that has one of FILES; None if it has none.

    Raises:
        UsageError: sentencepiece is not installed.
        CheckpointError: the file is too large or no model, or the settings ask for what is not supported.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    bounded(path, MAX_BYTES, "vocabulary")
    said = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    if said.get("tokenizer_class") not in CLASSES:
        kind = said["tokenizer_class"]
        raise CheckpointError(f"{path}: {kind} is not supported", hint="a tokenizer.json would be read")
    first, last = FILES[path.name]
    ends = bool(said.get("add_bos_token", first)), bool(said.get("add_eos_token", last))
    prefix = "never" if said.get("add_prefix_space") is False else "always" if said.get("legacy") else "first"
    try:
        return Pieces(path.read_bytes(), _added(folder, said), ends, prefix)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise CheckpointError(f"{path}: not a vocabulary: {e}") from None


def _added(folder: Path, said: Mapping[str, Any]) -> dict[str, Added]:
    """As the settings list them, or a file beside them."""
    listed = said.get("added_tokens_decoder", {}).items()
    found = {t["content"]: Added(int(i), *(bool(t.get(k)) for k in Added._fields[1:])) for i, t in listed}
    others = read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
    return {text: Added(int(i)) for text, i in others.items()} | found


def _processor(model: bytes) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise UsageError("this vocabulary needs sentencepiece", hint="pip install 'mmworld[sentencepiece]'") from None
    try:
        made = SentencePieceProcessor(model_proto=model)
    except RuntimeError as e:
        raise ValueError(str(e)) from None
    if not made.get_piece_size():
        raise ValueError("it has no pieces")
    return made
