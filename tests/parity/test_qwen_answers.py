"""Qwen's models read a conversation token for token as their processors write it, and answer as transformers does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import QWEN_BUDGET as BUDGET
from checkpoints import QWEN_CHAT as CHAT
from checkpoints import conversant
from torch import Tensor

import mmworld
from mmworld.errors import UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.message import Message
from mmworld.types import Chunk
from mmworld.vision.boxes import Boxes
from mmworld.vision.budget import FilmBudget

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
N = 20


class Films:
    """Stands in for `Qwen2VLVideoProcessor` where torchvision, which that needs, is not installed."""

    merge_size = temporal_patch_size = 2

    def __call__(self, videos: list[Tensor], **said: Any) -> Any:
        ours, boxes = FilmBudget.read(BUDGET, "here"), Boxes(2, 4, 2)
        films = [ours(v) for v in videos]
        rates = [hf.video_utils.VideoMetadata(**m) for m in said["video_metadata"]]
        return hf.BatchFeature(
            {
                "pixel_values_videos": torch.cat([boxes.cut(f) for f in films]),
                "video_grid_thw": torch.tensor([boxes.grid(f) for f in films]),
                "video_metadata": rates,
            }
        )


def processor(name: str, pictures: Any, fast: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    kind = hf.Qwen2VLProcessor if name == "qwen2_vl" else hf.Qwen2_5_VLProcessor
    if importlib.util.find_spec("torchvision") is not None:
        return kind(pictures, fast, hf.Qwen2VLVideoProcessor(**BUDGET), chat_template=CHAT)
    monkeypatch.setattr(kind, "check_argument_for_proper_class", lambda *_: None)
    return kind(pictures, fast, Films(), chat_template=CHAT)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


SHOWN = {
    "image": (noise(1, 1, 3, 20, 33), noise(2, 1, 3, 41, 9)),
    "video": (noise(3, 7, 3, 17, 30), noise(4, 2, 3, 12, 12)),
}
SECONDS = 9.1, 1.3
CONVERSATION = (
    ("user", "what is this?", "image", "and what happens here?", "video"),
    ("assistant", "two boys"),
    ("user", "video", "image", "image", "a dog, too?"),
)


def conversation() -> tuple[tuple[Message, ...], list[dict[str, Any]], dict[str, list[int]]]:
    """As ours and as theirs, and which of each kind are shown."""
    seen: dict[str, list[int]] = {"image": [], "video": []}
    ours, theirs = [], []
    for role, *said in CONVERSATION:
        parts: list[Any] = []
        for part in said:
            if part not in seen:
                parts.append(part)
                continue
            i = len(seen[part]) % 2
            seen[part].append(i)
            parts.append(Chunk(SHOWN[part][i], 3.0, 3.0 + SECONDS[i] * (part == "video"), part))
        ours.append(Message(role, tuple(parts)))
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": p.modality} for p in parts]
        theirs.append({"role": role, "content": content})
    return tuple(ours), theirs, seen


def told(seen: dict[str, list[int]]) -> dict[str, Any]:
    """What their processor is given beside the text."""
    videos, times = [SHOWN["video"][i] for i in seen["video"]], [SECONDS[i] for i in seen["video"]]
    about = [
        {"fps": len(v) / t, "total_num_frames": len(v), "duration": t, "frames_indices": list(range(len(v)))}
        for v, t in zip(videos, times, strict=True)
    ]
    return {"images": [SHOWN["image"][i][0] for i in seen["image"]], "videos": videos, "video_metadata": about}


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_it_answers_about_pictures_and_films(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, fast, pictures = conversant(tmp_path, name)  # of films an old folder says nothing
    if name == "qwen2_5_vl":
        said = {"video_processor_type": "Qwen2VLVideoProcessor", **BUDGET}
        (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(said))
    process = processor(name, pictures, fast, monkeypatch)
    messages, said, seen = conversation()
    text = process.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    given = process(text=text, **told(seen), return_tensors="pt")
    given.pop("video_metadata", None)
    ours = mmworld.load(tmp_path)
    ids, shown = ours.conversation(messages)
    assert ids.tolist() == given["input_ids"].tolist()
    assert len(shown) == 5
    state, logits = ours.begin(messages)
    want = theirs.generate(**given, max_new_tokens=N, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(decode(ours, state, logits, stop=Stop(N))[0].ids) == [i for i in want if i != 1]
    sound = Chunk(torch.zeros(160, 1), 0.0, 0.01, "audio")
    with pytest.raises(UsageError, match="this model takes image, video, not audio"):
        ours.begin([Message("user", (sound, "what is this?"))])
