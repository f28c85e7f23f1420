"""Conversations are written as transformers writes them, and templates can do nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError, UsageError
from mmworld.text import chat
from mmworld.text.chat import Chat

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = """{%- if tools %}
    {{- '<tools>' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- '</tools>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
STRICT = """{{ bos_token }}{% for m in messages %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{% if m['role'] == 'system' %}{% continue %}{% endif %}
{{ '[INST] ' + m['content'] | trim + ' [/INST]' if m['role'] == 'user' else m['content'] + eos_token }}
{% endfor %}"""
PARTS = """{% for m in messages %}{{ m.role | capitalize }}:
{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""
TEMPLATES = {"chatml": CHATML, "strict": STRICT, "parts": PARTS}


def told(template: str, messages: list[dict[str, Any]], tools: Any = None) -> str:
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "</s>": 1}, "<s>"))
    theirs = hf.PreTrainedTokenizerFast(tokenizer_object=core, **TOKENS)
    return theirs.apply_chat_template(
        messages, chat_template=template, tools=tools, add_generation_prompt=True, tokenize=False
    )


@pytest.mark.parametrize("name", TEMPLATES)
@given(said=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_it_writes_what_the_reference_writes(name: str, said: list[str]) -> None:
    roles = ["user", "assistant"] * 3
    ours = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in zip(roles, said, strict=False)]
    theirs = [{"role": r, "content": t} for r, t in zip(roles, said, strict=False)]
    assert Chat(TEMPLATES[name], TOKENS)(ours) == told(TEMPLATES[name], ours if name == "parts" else theirs)


def test_tools_and_pictures_are_written_too() -> None:
    tool = {"name": "zoom", "description": "Näher <heran>"}
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    words = [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]
    plain = [{"role": "user", "content": "what?"}]
    assert Chat(CHATML)(words, tools=[tool]) == told(CHATML, plain, [tool])
    assert Chat(PARTS)(asked) == told(PARTS, asked) == "User:\n<image>what?Assistant:"
    with pytest.raises(UsageError, match="words alone, not of a part of type image"):
        Chat(CHATML)(asked)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (STRICT, "roles must alternate"),
        ("{% for", "unexpected"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for i in range(10000000) %}x{% endfor %}", "[Rr]ange too big"),
        ("{{ messages.append(1) }}", "unsafe|not safely"),
    ],
)
def test_what_a_template_may_not_do_is_refused(template: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Chat(template)([{"role": "system", "content": "no"}])


def test_a_processor_s_template_is_taken_before_the_tokenizer_s(tmp_path: Path) -> None:
    assert chat.read(tmp_path, {}) is None
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert chat.read(tmp_path, {}).template == "default"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "processor"}))
    assert chat.read(tmp_path, {}).template == "processor"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert chat.read(tmp_path, {}).template == "file"
    (tmp_path / "chat_template.jinja").write_text("x" * ((1 << 20) + 1))
    with pytest.raises(CheckpointError, match="the limit for a template"):
        chat.read(tmp_path, {})
