"""Models composed of parts of several checkpoints: their parts stay as they were, their bridges learn, and they come
back from their folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import matcher, saved, sized, vocabulary
from clips import clip

import mmworld
from mmworld.errors import UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.modalities.pointcloud.pointbert import PointBert, PointBertConfig
from mmworld.models.looking import parts as looked_at
from mmworld.models.message import Message
from mmworld.models.zoo.composed import Composed
from mmworld.models.zoo.parity import CASES
from mmworld.train.bridge import Fit, fit
from mmworld.types import Chunk

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
FUSIONS = ("projection", "qformer", "cross", "early")
COLOURS = {"a dog": (230, 20, 20), "the snow": (20, 230, 20), "two boys": (20, 20, 230)}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP, a Whisper and a LLaMA."""
    folder = tmp_path_factory.mktemp("parts")
    for name in ("clip", "whisper", "llama"):
        (folder / name).mkdir()
    matcher(folder / "clip")
    whisper = CASES["whisper"]
    saved(replace(whisper, sizes={**whisper.sizes, "max_source_positions": 50}), folder / "whisper")
    import transformers

    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder / "whisper")
    saved(sized(CASES["llama"], len(vocabulary(folder / "llama"))), folder / "llama")
    return folder


def picture(colour: tuple[int, int, int], seed: int) -> Chunk:
    noise = torch.randint(-20, 20, (3, 16, 16), generator=torch.Generator().manual_seed(seed))
    return Chunk((torch.tensor(colour)[:, None, None] + noise).clamp(0, 255).to(torch.uint8)[None], 0, 0, "image")


def example(name: str, seed: int) -> tuple[Message, Message]:
    return Message("user", (picture(COLOURS[name], seed), "what?")), Message("assistant", (name,))


def examples(n: int) -> Iterator[tuple[Message, Message]]:
    names = list(COLOURS)
    return (example(names[i % 3], i) for i in range(n))


@torch.no_grad()
def says(model: Any, *messages: Message) -> str:
    state, logits = model.begin(messages)
    return decode(model, state, logits, stop=Stop(8))[0].text


@pytest.mark.parametrize("fusion", FUSIONS)
def test_its_bridges_learn_and_its_parts_stay(fusion: str, at: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Composed = mmworld.World.compose(vision=at / "clip", language=at / "llama", fusion=fusion, n=4, depth=1)
    model.freeze(("encoders",))  # a language model of random weights has to learn to speak
    before = {n: x.clone() for n, x in model.state_dict().items()}
    losses = list(fit(model, examples(90 * 12), Fit(90, 12, 5e-3)))
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    for name in COLOURS:
        assert says(model, example(name, 1000)[0]) == name
    now = model.state_dict()
    assert all(torch.equal(x, now[n]) for n, x in before.items() if n.startswith("encoders."))
    assert any(not torch.equal(x, now[n]) for n, x in before.items() if n.startswith("bridges."))
    model.save(tmp_path)
    again: Any = mmworld.load(tmp_path)
    assert all(torch.equal(x, now[n]) for n, x in again.state_dict().items())
    assert says(again, example("the snow", 1000)[0]) == "the snow"
    again.save(tmp_path / "twice")
    assert says(mmworld.load(tmp_path / "twice"), example("a dog", 1000)[0]) == "a dog"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_packed_examples_have_the_loss_of_each_alone(fusion: str, at: Path) -> None:
    torch.manual_seed(1)
    model: Composed = mmworld.World.compose(vision=at / "clip", language=at / "llama", fusion=fusion, n=4, depth=1)
    model.requires_grad_(False)
    for p in model.parameters():
        p.add_(torch.randn_like(p) * 0.1)  # gates begin closed
    words = (Message("user", ("what is this?",)), Message("assistant", ("a naïve dog",)))
    both = [example("a dog", 0), words]
    each = [float(model([e])) for e in both]
    n = [len(model.tokenizer.encode(e[-1].parts[0], whole=False)) + 1 for e in both]
    assert float(model(both)) == pytest.approx((each[0] * n[0] + each[1] * n[1]) / sum(n), rel=1e-4)


@torch.no_grad()
def test_what_is_begun_goes_on_as_it_was_learned(at: Path) -> None:
    """The loss of an answer is that of its ids, read one by one."""
    torch.manual_seed(2)
    for fusion in FUSIONS:
        model: Composed = mmworld.World.compose(vision=at / "clip", language=at / "llama", fusion=fusion, n=4, depth=1)
        asked, answer = example("two boys", 3)
        ids = [*model.tokenizer.encode("two boys", whole=False), min(model.tokenizer.ends)]
        state, logits = model.begin([asked])
        total = 0.0
        for i in ids:
            total -= float(logits.log_softmax(-1)[0, i])
            logits = model.read(torch.tensor([[i]]), state)
        assert float(model([(asked, answer)])) == pytest.approx(total / len(ids), rel=1e-4)


@torch.no_grad()
def test_all_senses_come_together(at: Path) -> None:
    torch.manual_seed(0)
    points = PointBert(PointBertConfig(trans_dim=24, depth=1, num_heads=2, group_size=4, num_group=8, encoder_dims=16))
    model = mmworld.World.compose(vision=at / "clip", audio=at / "whisper", points=points, language=at / "llama")
    cloud = Chunk(torch.randn(200, 3), 0.0, 0.0, "points")
    sound = Chunk(torch.randn(8000, 1) * 0.1, 0.0, 0.5, "audio")
    asked = Message("user", (picture((200, 0, 0), 0), "and", sound, cloud, "?"))
    x, _ = model.embed([asked])
    seen = [model.see(c) for c in (asked.parts[0], sound, cloud)]
    assert model.takes.senses == ("image", "audio", "points")
    assert len(x) > sum(map(len, seen))
    at_rows = [int((x[:, None] == s[0]).all(-1).any(1).nonzero()[0]) for s in seen]
    assert at_rows == sorted(at_rows)
    for row, tokens in zip(at_rows, seen, strict=True):
        assert torch.equal(x[row : row + len(tokens)], tokens)
    assert isinstance(says(model, asked), str)


@pytest.fixture(scope="module")
def watcher(at: Path) -> Path:
    """A VideoMAE whose folder says how pictures are prepared, as released ones do: another way than CLIP's."""
    import transformers

    (at / "videomae").mkdir()
    saved(CASES["videomae"], at / "videomae")
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3}
    side = CASES["videomae"].sizes["image_size"]
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    transformers.VideoMAEImageProcessorPil(**said, **sizes).save_pretrained(at / "videomae")
    return at / "videomae"


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_pictures_and_films_are_prepared_each_in_its_way(fusion: str, at: Path, watcher: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = {"vision": at / "clip", "video": watcher, "language": at / "llama"}
    model = mmworld.World.compose(**parts, fusion=fusion, n=4, depth=1)
    clip, films = (mmworld.load(path) for path in (at / "clip", watcher))
    film = torch.randint(0, 256, (model.takes.frames, 3, 20, 30), dtype=torch.uint8)
    shown, image = Chunk(film, 0.0, 2.0, "video"), picture((200, 0, 0), 0)
    frames = torch.stack([films.processors["image"](frame) for frame in film])
    assert model.takes.frames == CASES["videomae"].sizes["num_frames"]
    assert torch.equal(model.see(shown), model.bridges["video"](films(frames[None]))[0])
    pixels = clip.processors["image"](image.data[0])[None]
    assert torch.equal(model.see(image), model.bridges["image"](clip.vision(pixels))[0])
    model.save(tmp_path / "once")
    once: Any = mmworld.load(tmp_path / "once")
    once.save(tmp_path / "twice")
    for again in (once, mmworld.load(tmp_path / "twice")):
        assert all(torch.equal(again.see(x), model.see(x)) for x in (shown, image))
    asked = Message("user", (image, "and", shown, "?"))
    assert says(once, asked) == says(model, asked)


@pytest.mark.parametrize("senses", [("video",), ("vision", "video"), ("vision",)])
def test_a_film_is_shown_to_what_is_composed(senses: tuple[str, ...], at: Path, watcher: Path, tmp_path: Path) -> None:
    parts = {name: {"vision": at / "clip", "video": watcher}[name] for name in senses}
    mmworld.World.compose(**parts, language=at / "llama").save(tmp_path / "model")
    (tmp_path / "film.mp4").write_bytes(clip(60, fps=10))
    model: Any = mmworld.load(tmp_path / "model")
    found = looked_at(tmp_path / "film.mp4", model.takes)
    assert [(c.modality, len(c.data)) for c in found] == ([("video", 4)] if "video" in senses else [("image", 1)] * 8)
    told = says(model, Message("user", (*found, "what?")))
    assert mmworld.ask("what?", tmp_path / "film.mp4", model=model, stop=Stop(8)) == told
    said = mmworld.caption(tmp_path / "film.mp4", model=model, policy=mmworld.Every(3.0))
    assert [(c.start, c.end) for c in said] == [(0.0, 3.0), (3.0, 6.0)]


def test_what_cannot_be_composed_is_refused(at: Path) -> None:
    with pytest.raises(UsageError, match="nothing to perceive with"):
        mmworld.World.compose(language=at / "llama")
    with pytest.raises(UsageError, match="a CLIP is no language model"):
        mmworld.World.compose(vision=at / "clip", language=at / "clip")
    with pytest.raises(UsageError, match="a Llama encodes nothing for another"):
        mmworld.World.compose(vision=at / "llama", language=at / "llama")
    model = mmworld.World.compose(vision=at / "clip", language=at / "llama")
    model.freeze(("encoders", "language", "bridges"))
    with pytest.raises(UsageError, match="all of the model is frozen"):
        next(fit(model, examples(4)))
    with pytest.raises(UsageError, match="takes image, not audio"):
        model.begin([Message("user", (Chunk(torch.zeros(100, 1), 0, 1, "audio"),))])
