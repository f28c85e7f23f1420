"""Models composed of parts of several checkpoints: their parts stay as they were, their bridges learn, and they come
back from their folder.
"""

from __future__ import annotations

import json
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
from mmworld.models.looking import parts
from mmworld.models.message import Message
from mmworld.models.zoo.composed import Composed
from mmworld.models.zoo.parity import CASES
from mmworld.train.bridge import Fit, fit
from mmworld.types import Chunk, Takes
from mmworld.weights.quantise import floats, is_quantised

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
FUSIONS = ("projection", "qformer", "cross", "early")
COLOURS = {"a dog": (230, 20, 20), "the snow": (20, 230, 20), "two boys": (20, 20, 230)}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP, a VideoMAE that knows its films as pictures, as it was released, a Whisper and a LLaMA."""
    folder = tmp_path_factory.mktemp("parts")
    for name in ("clip", "videomae", "whisper", "llama"):
        (folder / name).mkdir()
    matcher(folder / "clip")
    saved(CASES["videomae"], folder / "videomae")
    told = {"image_processor_type": "VideoMAEImageProcessor", "size": 16, "crop_size": 16, "do_center_crop": True}
    told |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7], "resample": 2}
    (folder / "videomae" / "preprocessor_config.json").write_text(json.dumps(told))
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
def says(model: Any, *messages: Message, n: int = 8) -> str:
    state, logits = model.begin(messages)
    return decode(model, state, logits, stop=Stop(n))[0].text


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
def test_bridges_learn_around_weights_of_int8(fusion: str, at: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="the extra 'quantise' is not installed")
    torch.manual_seed(0)
    clip, llama = (mmworld.load(at / name, quantise="int8") for name in ("clip", "llama"))
    model: Composed = mmworld.World.compose(vision=clip, language=llama, fusion=fusion, n=4, depth=1)
    assert sum(is_quantised(p) for p in model.parameters()) > sum(is_quantised(p) for p in llama.parameters()) > 0
    with pytest.raises(UsageError, match=r"language\..* is quantised and cannot be trained"):
        model.freeze(("encoders",))
    before = floats(model.state_dict())
    before = {name: x.clone() for name, x in before.items()}
    losses = list(fit(model, examples(20 * 12), Fit(20, 12, 5e-3)))
    assert losses[-1] < losses[0]
    now = floats(model.state_dict())
    moved = {name for name, x in before.items() if not torch.equal(x, now[name])}
    assert moved
    assert all(name.startswith(("bridges.", "nothing")) or ".look." in name for name in moved)
    model.save(tmp_path)
    again: Any = mmworld.load(tmp_path)
    assert all(torch.equal(x, now[name]) for name, x in again.state_dict().items())
    assert float(again([example("a dog", 0)])) == pytest.approx(float(model([example("a dog", 0)])), rel=1e-4)
    with pytest.raises(UsageError, match="nothing can be trained around weights of int4"):
        mmworld.World.compose(vision=at / "clip", language=mmworld.load(at / "llama", quantise="int4"))


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


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["projection", "cross"])
def test_pictures_and_films_each_come_by_their_own_encoder(fusion: str, at: Path, tmp_path: Path) -> None:
    """Each is prepared as its encoder's folder says, at first and in a folder that was saved and read twice."""
    torch.manual_seed(0)
    clip_, videomae = at / "clip", at / "videomae"
    model = mmworld.World.compose(vision=clip_, video=videomae, language=at / "llama", fusion=fusion, n=4, depth=1)
    model.save(tmp_path / "once")
    mmworld.load(tmp_path / "once").save(tmp_path / "twice")
    film = Chunk(torch.randint(0, 256, (4, 3, 20, 30), dtype=torch.uint8), 0.0, 2.0, "video")
    looked = picture((200, 0, 0), 0)
    import transformers

    frames = [f.permute(1, 2, 0).numpy() for f in film.data]
    prepare = transformers.VideoMAEImageProcessorPil.from_pretrained(videomae, do_center_crop=True)
    pixels = prepare(frames, return_tensors="pt").pixel_values
    tokens = transformers.VideoMAEModel.from_pretrained(videomae)(pixels).last_hidden_state
    eyes = transformers.CLIPModel.from_pretrained(clip_).vision_model
    shown = transformers.CLIPImageProcessorPil.from_pretrained(clip_)(looked.data[0], return_tensors="pt").pixel_values
    seen = eyes(shown).last_hidden_state
    message = Message("user", (looked, "and", film, "?"))
    want = says(model, message)
    for again in (model, mmworld.load(tmp_path / "once"), mmworld.load(tmp_path / "twice")):
        assert again.takes == Takes(("image", "video"), frames=4)
        assert torch.allclose(again.see(film), model.bridges["video"](tokens)[0], atol=1e-4)
        assert torch.allclose(again.see(looked), model.bridges["image"](seen)[0], atol=1e-4)
        assert says(again, message) == want


@torch.no_grad()
def test_a_composed_model_tells_of_films(at: Path, tmp_path: Path) -> None:
    """Of what is too short for its encoder some frames are shown twice; pictures are as many as it takes."""
    torch.manual_seed(0)
    (tmp_path / "film.mp4").write_bytes(clip(12, fps=10))
    for senses, frames in (({"video": at / "videomae"}, 4), ({"vision": at / "clip"}, 8)):
        model = mmworld.World.compose(**senses, language=at / "llama")
        shown = parts(tmp_path / "film.mp4", model.takes)
        assert sum(len(chunk.data) for chunk in shown) == frames
        assert mmworld.ask("what?", tmp_path / "film.mp4", model=model, stop=Stop(4)) == says(
            model, Message("user", (*shown, "what?")), n=4
        )
        captions = mmworld.caption(tmp_path / "film.mp4", model=model, policy=mmworld.Every(0.5))
        assert [c.start for c in captions] == pytest.approx([0.0, 0.5, 1.0])
    film = Chunk(torch.arange(3)[:, None, None, None].expand(3, 3, 16, 16).to(torch.uint8) * 80, 0.0, 1.0, "video")
    model = mmworld.World.compose(video=at / "videomae", language=at / "llama")
    assert torch.equal(model.see(film), model.see(replace(film, data=film.data[[0, 1, 1, 2]])))


def test_what_cannot_be_composed_is_refused(at: Path) -> None:
    with pytest.raises(UsageError, match="nothing to perceive with"):
        mmworld.World.compose(language=at / "llama")
    with pytest.raises(UsageError, match="a CLIP is no language model"):
        mmworld.World.compose(vision=at / "clip", language=at / "clip")
    with pytest.raises(UsageError, match="a Llama encodes nothing for another"):
        mmworld.World.compose(vision=at / "llama", language=at / "llama")
    with pytest.raises(UsageError, match="a CLIP encodes image, not video"):
        mmworld.World.compose(video=at / "clip", language=at / "llama")
    model = mmworld.World.compose(vision=at / "clip", language=at / "llama")
    model.freeze(("encoders", "language", "bridges"))
    with pytest.raises(UsageError, match="all of the model is frozen"):
        next(fit(model, examples(4)))
    with pytest.raises(UsageError, match="takes image, not audio"):
        model.begin([Message("user", (Chunk(torch.zeros(100, 1), 0, 1, "audio"),))])
