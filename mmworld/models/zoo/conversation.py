"""A conversation as a borrowed model reads it: its ids, and what is shown, prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmworld.errors import UsageError
from mmworld.models.message import Message, Part
from mmworld.nn.state import KVState
from mmworld.text.chat import Chat
from mmworld.text.decoder import Decoder
from mmworld.text.pretrained import Pretrained
from mmworld.types import Chunk, Takes

DESCRIBE = {
    "image": "Describe the image in one sentence.",
    "video": "Describe what happens in the video in one sentence.",
    "audio": "Describe the sound in one sentence.",
    "points": "Describe the object in one sentence.",
}
"""What is asked where someone shows something and says nothing."""


def vocabulary(model: Any) -> Pretrained:
    """The model's vocabulary; UsageError if its folder has none."""
    if model.tokenizer is None:
        raise UsageError("this model has no vocabulary: its folder has no tokenizer.json or tokenizer.model")
    found: Pretrained = model.tokenizer
    return found


def processor(model: Any, modality: str) -> Any:
    """What prepares things of a modality for the model; UsageError if its folder does not say."""
    if modality not in model.processors:
        files = "preprocessor_config.json says nothing that is known here"
        raise UsageError(f"this model cannot be shown anything of {modality}: {files}")
    return model.processors[modality]


def shown(messages: Sequence[Message], *modalities: str) -> list[Chunk]:
    """What of the modalities the messages show, in order."""
    return [p for m in messages for p in m.parts if isinstance(p, Chunk) and p.modality in modalities]


def check(messages: Sequence[Message], takes: Takes) -> None:
    """UsageError if something is shown that the model does not take: a template may well leave it out."""
    if other := [c.modality for c in shown(messages, *DESCRIBE) if c.modality not in takes.senses]:
        raise UsageError(f"this model takes {', '.join(takes.senses) or 'words alone'}, not {other[0]}")


def prepared(model: Any, chunk: Chunk) -> Tensor:
    """A chunk as the model's encoder takes it [B, ...]: a picture or frame a row, or a whole film or sound in one."""
    if chunk.modality == "audio":
        return like(model, processor(model, "audio")(chunk.data)[None])
    if chunk.modality not in ("image", "video"):
        raise UsageError(f"a {type(model).__name__} embeds no {chunk.modality}")
    if chunk.modality == "video" and "video" in model.processors:
        return like(model, model.processors["video"](chunk.data)[None])
    prepare = processor(model, "image")
    frames = like(model, torch.stack([prepare(x) for x in chunk.data]))
    return frames[None] if chunk.modality == "video" else frames


def pictures(model: nn.Module, messages: Sequence[Message]) -> Tensor | None:
    """The images that are shown, prepared, where the model is [P, 3, h, w]; None if there are none."""
    prepare = processor(model, "image")
    found = [prepare(x) for chunk in shown(messages, "image") for x in chunk.data]
    return like(model, torch.stack(found)) if found else None


def like(model: nn.Module, x: Tensor) -> Tensor:
    """On the device and in the dtype of the model's weights."""
    weight = next(model.parameters())
    return x.to(weight.device, weight.dtype)


def written(messages: Sequence[Message], chat: Chat, mark: str | None = None) -> str:
    """The conversation as text, up to what the model says; what the assistant has begun to say stands at the end.

    Args:
        mark: what stands for a thing in a template that knows of words alone.
    """
    before, answer = _split(messages)
    return chat([_content(m, mark) for m in _spoken(before)]) + answer


def read(model: Any, messages: Sequence[Message], template: str = "") -> list[int]:
    """The ids of the conversation, what is shown by the ids that the checkpoint's template writes for it.

    Args:
        template: of a checkpoint whose files bring none that knows of more than words; "" if there is no common one.

    Raises:
        UsageError: there is no vocabulary or template, or the template or the model does not take the conversation.
    """
    check(messages, getattr(model, "takes", Takes(())))
    tokenizer = vocabulary(model)
    chat = tokenizer.chat
    if template and not (chat and chat.shows):
        chat = Chat(template, tokenizer.tokens)
    if chat is None:
        raise UsageError("this checkpoint has no chat template", hint="its folder lacks chat_template.jinja")
    return ids_of(tokenizer, written(messages, chat))


def ids_of(tokenizer: Pretrained, text: str) -> list[int]:
    """The ids of a rendered conversation: with those at a text's ends, unless the template wrote them."""
    first = tokenizer.tokens.get("bos_token")
    return tokenizer.encode(text, whole=not (first and text.startswith(first)))


def spread(ids: Sequence[int], place: int, counts: Sequence[int]) -> list[int]:
    """The ids, the i-th `place` among them counts[i] times.

    Raises:
        UsageError: there are not as many places as counts.
    """
    if (n := sum(i == place for i in ids)) != len(counts):
        raise UsageError(f"the conversation has places for {n} things and shows {len(counts)}")
    left = iter(counts)
    return [i for one in ids for i in ([one] * next(left) if one == place else [one])]


def start(model: Decoder, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
    """A conversation in words alone, as the beginning of what a language model writes."""
    return model.start(model.embed(row(model, read(model, messages))))


def row(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Ids [1, T] where the model is."""
    return torch.tensor([list(ids)], dtype=torch.long, device=next(model.parameters()).device)


def words(message: Message) -> str:
    """What a message says in words."""
    return " ".join(p.strip() for p in message.parts if isinstance(p, str) and p.strip())


def asked(messages: Sequence[Message]) -> str:
    """What is said to the assistant in words."""
    return " ".join(words(m) for m in messages if m.role != "assistant" and words(m))


def begun(messages: Sequence[Message]) -> str:
    """What the assistant has said in words."""
    return " ".join(words(m) for m in messages if m.role == "assistant")


def heard(messages: Sequence[Message]) -> Tensor:
    """The last sound that is shown, to a model that writes down what it hears.

    Raises:
        UsageError: there is none, or something is asked.
    """
    sounds = shown(messages, "audio")
    if not sounds or asked(messages):
        raise UsageError("this model writes down what is said: let it hear a sound, and ask nothing")
    return sounds[-1].data


def _split(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """What comes before the answer, and how the answer begins."""
    if not messages or messages[-1].role != "assistant":
        return messages, ""
    return messages[:-1], "".join(p for p in messages[-1].parts if isinstance(p, str))


def _spoken(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages; one that only shows something asks what it is."""
    for i, m in enumerate(messages):
        only = [p.modality for p in m.parts if isinstance(p, Chunk)] if not words(m) else []
        asks = only and i == len(messages) - 1
        yield Message(m.role, (*m.parts, DESCRIBE.get(only[-1], DESCRIBE["image"]))) if asks else m


def _content(message: Message, mark: str | None) -> dict[str, Any]:
    return {"role": message.role, "content": [_part(p, mark) for p in message.parts]}


def _part(part: Part, mark: str | None) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part if mark is None else part.replace(mark, "")}
    return {"type": part.modality} if mark is None else {"type": "text", "text": mark}
