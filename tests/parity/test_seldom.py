"""Systems whose weights have no config.json of their own are saved, loaded and asked as the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import vocabulary

import mmworld
from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo import save
from mmworld.models.zoo.flamingo import Flamingo
from mmworld.models.zoo.parity.equations import flamingo, show_and_tell
from mmworld.models.zoo.show_and_tell import ShowAndTell
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
IMAGE, CHUNK = 2, 3


def picture(seed: int) -> Chunk:
    made = torch.Generator().manual_seed(seed)
    return Chunk(torch.randint(0, 256, (1, 3, 9, 12), dtype=torch.uint8, generator=made), 0.0, 0.0, "image")


def saved(family: Any, source: dict[str, Any], folder: Path) -> Any:
    torch.manual_seed(0)
    model = family(source)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    save(model, folder)
    hf.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}).save_pretrained(folder)
    again = mmworld.load(folder)
    assert all(torch.equal(x, again.state_dict()[n]) for n, x in model.state_dict().items())
    return again


@torch.no_grad()
def test_flamingo_reads_what_it_is_shown_in_its_places(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>", "<|endofchunk|>")
    source = {**flamingo.tiny(3).source, "image_token_index": IMAGE}
    source["text_config"] = {**source["text_config"], "vocab_size": len(fast), "eos_token_id": 1}
    model = saved(Flamingo, source, tmp_path)
    first, second = picture(0), picture(1)
    state, logits = model.begin(
        [Message("user", (first,)), Message("assistant", ("a dog",)), Message("user", (second, "what?"))]
    )
    text = "<image>a dog<|endofchunk|><image>what?"
    prepare = model.processors["image"]
    pixels = torch.stack([prepare(c.data[0]) for c in (first, second)])[:, None]
    ids = torch.tensor([fast(text).input_ids])
    assert int((ids == IMAGE).sum()) == 2
    assert torch.allclose(logits, model(ids, pixels)[:, -1], atol=1e-5)
    assert len(state) == ids.shape[1]
    film = Chunk(torch.cat([first.data, second.data, first.data]), 0.0, 1.0, "video")
    _, logits = model.begin([Message("user", (film,))])
    frames = torch.stack([prepare(x) for x in film.data])[None]
    ids = torch.tensor([fast("<image>Describe what happens in the video in one sentence.").input_ids])
    assert torch.allclose(logits, model(ids, frames)[:, -1], atol=1e-5)


@torch.no_grad()
def test_show_and_tell_captions_a_picture(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path)
    model = saved(ShowAndTell, {**show_and_tell.SOURCE, "vocab_size": len(fast)}, tmp_path)
    shown = picture(0)
    ids = torch.tensor([[0, *fast("a dog", add_special_tokens=False).input_ids]])
    want = model(ids, model.show(model.processors["image"](shown.data[0])[None]))[:, -1]
    _, logits = model.begin([Message("user", (shown,)), Message("assistant", ("a dog",))])
    assert torch.allclose(logits, want, atol=1e-5)
    with pytest.raises(UsageError, match="ask nothing"):
        model.begin([Message("user", (shown, "what is this?"))])
