"""How a checkpoint writes a conversation as text: the jinja template that its files bring."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from mmworld.errors import UsageError
from mmworld.weights.shards import bounded, read_json

SETTINGS = "tokenizer_config.json"
FILES = "chat_template.jinja", "chat_template.json", SETTINGS
"""Where a template may stand; a processor's, in the first two, knows of pictures where the tokenizer's may not."""
MAX_BYTES = 1 << 20
_PARTS = re.compile(r"""\.type\b|['"]type['"]""")


class Chat:
    """A conversation as text.

    Args:
        template: in jinja's language. It is run in a sandbox: it can make text and nothing else.
        tokens: special tokens that it may name: "bos_token" and so on.
    """

    def __init__(self, template: str, tokens: Mapping[str, str] | None = None) -> None:
        self.template, self.tokens = template, dict(tokens or {})

    @property
    def shows(self) -> bool:
        """Whether the template knows of more than words."""
        return bool(_PARTS.search(self.template))

    def __call__(self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text up to where the assistant begins to speak.

        Args:
            messages: each a "role" and a "content": parts with a "type" of "text" (and the "text"), "image", "video" or
                "audio". A template that knows of words alone is given those.
            tools: JSON schemas of functions that may be called.

        Raises:
            UsageError: the template refuses the conversation.
        """
        import jinja2

        given = [m if self.shows else {**m, "content": _words(m["content"])} for m in messages]
        try:
            return _compiled(self.template).render(
                messages=given, tools=list(tools) or None, add_generation_prompt=True, **self.tokens
            )
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as e:
            raise UsageError(f"the checkpoint's chat template does not take this conversation: {e}") from None


def read(folder: Path, tokens: Mapping[str, str]) -> Chat | None:
    """The template of a checkpoint's folder; None if it has none.

    Raises:
        CheckpointError: a file is larger than MAX_BYTES, or not JSON.
    """
    for path in (folder / name for name in FILES):
        if path.is_file() and (template := _template(path)):
            return Chat(template, tokens)
    return None


def _template(path: Path) -> str | None:
    if path.suffix == ".jinja":
        bounded(path, MAX_BYTES, "template")
        return path.read_text(encoding="utf-8")
    found = read_json(path).get("chat_template")
    if isinstance(found, list):  # several by name
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _words(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    if other := [p["type"] for p in parts if p["type"] != "text"]:
        raise UsageError(f"the checkpoint's chat template knows of words alone, not of a part of type {other[0]}")
    return "".join(p["text"] for p in parts)


@lru_cache(maxsize=8)  # compiling takes a hundred times as long as writing a conversation
def _compiled(template: str) -> Any:
    """In an environment as transformers makes it, which templates are written for."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda x, **options: json.dumps(x, **{"ensure_ascii": False, **options})
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)
