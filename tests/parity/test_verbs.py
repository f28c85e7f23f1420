"""Borrowed models through the verbs, from files: the numbers of the reference, which is given the same by its own
processors.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import SIDE, answerer, ended, matcher, saved, sized, vocabulary
from clips import clip
from masks import relative_error
from PIL import Image

import mmworld
from mmworld.cli import command
from mmworld.errors import MediaError, UsageError
from mmworld.generate.stop import Stop
from mmworld.media.gate import open_media
from mmworld.media.video import frames_at, uniform
from mmworld.models.zoo import save
from mmworld.models.zoo.parity import CASES
from mmworld.models.zoo.parity.equations import videoclip

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
TEXTS = ["two boys play in the snow", "a dog", "naïve café"]
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def photograph(path: Path, seed: int = 0) -> Path:
    data = np.random.default_rng(seed).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(data).save(path)
    return path


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clip")
    return folder, *matcher(folder)


@torch.no_grad()
def test_pictures_and_texts_are_matched_embedded_and_named(clip_folder: Any, tmp_path: Path) -> None:
    folder, theirs, fast, prepare = clip_folder
    files = [photograph(tmp_path / f"{i}.png", i) for i in range(2)]
    pixels = prepare([Image.open(f) for f in files], return_tensors="pt")
    told = theirs(**pixels, **fast(TEXTS, padding=True, return_tensors="pt"))
    got = mmworld.match(*files, texts=TEXTS, model=folder)
    assert torch.allclose(got, told.logits_per_image.softmax(-1), **CLOSE)
    rows = mmworld.embed(*files, texts=TEXTS, model=folder)
    assert torch.allclose(rows, torch.cat((told.image_embeds, told.text_embeds)), **CLOSE)
    named = mmworld.classify(files[0], labels=["dog", "cat"], model=folder)[0]
    texts = fast(["a photo of a dog", "a photo of a cat"], padding=True, return_tensors="pt")
    shares = theirs(pixel_values=pixels.pixel_values[:1], **texts).logits_per_image.softmax(-1)[0]
    assert named == pytest.approx(dict(zip(("dog", "cat"), shares.tolist(), strict=True)), rel=1e-4)
    assert list(named.values()) == sorted(named.values(), reverse=True)


@torch.no_grad()
def test_a_film_is_the_mean_of_its_frames_to_a_model_of_pictures(clip_folder: Any) -> None:
    folder, theirs, _, prepare = clip_folder
    data = clip(30, fps=10)
    model = mmworld.load(folder)
    model.takes = mmworld.types.Takes(("image",), frames=3)
    frames = [f.data for f in uniform(open_media(BytesIO(data)), 3)]
    pixels = prepare([f.permute(1, 2, 0).numpy() for f in frames], return_tensors="pt").pixel_values
    want = theirs.get_image_features(pixels).pooler_output
    want = torch.nn.functional.normalize(want, dim=-1).mean(0)
    assert torch.allclose(mmworld.embed(BytesIO(data), model=model)[0], want / want.norm(), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ImageProcessorPil", "VideoProcessor"])
def test_a_film_is_named_by_a_model_of_films(kind: str, tmp_path: Path) -> None:
    theirs = saved(CASES["videomae, classes"], tmp_path)
    prepare = getattr(hf, f"VideoMAE{kind}")(size={"shortest_edge": 16}, crop_size=SIDE)
    prepare.save_pretrained(tmp_path)
    data = clip(40, fps=10)
    frames = [f.data for f in frames_at(open_media(BytesIO(data)), [0.5, 1.5, 2.5, 3.5])]
    film = torch.stack(frames) if kind == "VideoProcessor" else [f.permute(1, 2, 0).numpy() for f in frames]
    given = prepare(film, return_tensors="pt")
    pixels = given.get("pixel_values", given.get("pixel_values_videos"))
    shares = theirs(pixel_values=pixels).logits.softmax(-1)[0]
    (named,) = mmworld.classify(BytesIO(data), model=tmp_path)
    assert named == pytest.approx(
        {f"{n}": float(s) for n, s in zip(("cat", "dog", "owl"), shares, strict=True)}, rel=1e-3
    )
    with pytest.raises(UsageError, match="labels of its own"):
        mmworld.classify(BytesIO(data), model=tmp_path, labels=["a"])
    with pytest.raises(UsageError, match="cannot match things and texts"):
        mmworld.match(BytesIO(data), model=tmp_path, texts=["a"])


@torch.no_grad()
def test_films_and_texts_are_matched_by_a_model_that_lets_texts_see_the_film(tmp_path: Path) -> None:
    theirs, fast, prepare = matcher(tmp_path, "xclip", "VideoMAEImageProcessorPil")
    films = [clip(n, fps=10) for n in (30, 60)]
    pixels = []
    for film, step in zip(films, (1.0, 2.0), strict=True):
        frames = frames_at(open_media(BytesIO(film)), [(i + 0.5) * step for i in range(3)])
        shown = [f.data.permute(1, 2, 0).numpy() for f in frames]
        pixels.append(prepare(shown, return_tensors="pt").pixel_values)
    told = theirs(pixel_values=torch.cat(pixels), **fast(TEXTS, padding=True, return_tensors="pt"))
    sources = [BytesIO(film) for film in films]
    got = mmworld.match(*sources, texts=TEXTS, model=tmp_path)
    assert torch.allclose(got, told.logits_per_video.softmax(-1), **CLOSE)
    assert torch.allclose(mmworld.embed(*sources, model=tmp_path), told.video_embeds, **CLOSE)
    assert not torch.allclose(told.video_embeds[0], told.video_embeds[1], **CLOSE)


@torch.no_grad()
def test_a_film_is_seen_second_by_second_by_a_model_of_features(tmp_path: Path, capsys: Any) -> None:
    """VideoCLIP by its paper's equations, of frames as the reader gives them; a film of eight seconds in two parts."""
    fast = ended(tmp_path)
    sizes = {"text_config": {**videoclip.TEXT, "vocab_size": len(fast), "max_position_embeddings": 40}}
    save(videoclip.tiny(**sizes, cls_token_id=0, sep_token_id=len(fast) - 1).float(), tmp_path)
    model = mmworld.load(tmp_path).double()

    def seen(data: bytes, start: float, end: float) -> torch.Tensor:
        times = [start + i / 6 for i in range(round(6 * (end - start) + 0.4))]
        film = torch.stack([f.data for f in frames_at(open_media(BytesIO(data)), times, size=32)])
        black = torch.zeros(-len(film) % 6, 3, 32, 32, dtype=torch.uint8)
        seconds = torch.cat((film, black)).view(-1, 6, 3, 32, 32).transpose(1, 2)
        return videoclip.watched(model, videoclip.features(model, seconds.double() / 255))

    short, long = clip(36, fps=10), clip(80, fps=10)
    want = torch.stack((seen(short, 0, 3.6), (seen(long, 0, 5) + seen(long, 5, 8)) / 2))
    told = torch.stack([videoclip.told(model, fast(text).input_ids) for text in TEXTS])
    rows = mmworld.embed(BytesIO(short), BytesIO(long), texts=TEXTS, model=tmp_path)
    assert relative_error(rows, torch.cat((want, told))) <= 2e-5
    shares = (want @ told.T).softmax(-1).float()
    got = mmworld.match(BytesIO(short), BytesIO(long), texts=TEXTS, model=tmp_path)
    assert torch.allclose(got, shares, rtol=1e-3)  # scores, not directions, stand in the exponent
    texts = [videoclip.told(model, fast(f"a video of {label}").input_ids) for label in ("dog", "snow")]
    named = mmworld.classify(BytesIO(short), labels=["dog", "snow"], model=tmp_path)[0]
    p = (torch.stack(texts) @ want[0]).softmax(-1).tolist()
    assert named == pytest.approx(dict(zip(("dog", "snow"), p, strict=True)), rel=1e-3)
    (tmp_path / "film.mp4").write_bytes(short)
    flags = [flag for text in TEXTS for flag in ("--text", text)]
    assert command(["match", str(tmp_path / "film.mp4"), *flags, "--model", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["shares"]
    assert printed == pytest.approx(dict(zip(TEXTS, shares[0].tolist(), strict=True)), rel=1e-3)


def test_what_does_not_fit_is_refused(clip_folder: Any, tmp_path: Path) -> None:
    folder, *_ = clip_folder
    picture = photograph(tmp_path / "a.png")
    with pytest.raises(UsageError, match="it needs labels"):
        mmworld.classify(picture, model=folder)
    with pytest.raises(UsageError, match="the texts do not go into this model"):
        mmworld.match(picture, texts=["x" * 200], model=folder)
    with pytest.raises(MediaError, match="wanted is image"):
        mmworld.embed(Path(mmworld.__file__).parent / "samples" / "sounds.wav", model=folder)
    with pytest.raises(UsageError, match="a CLIP cannot be shown something and tell of it"):
        mmworld.ask("what?", picture, model=folder)


@torch.no_grad()
def test_a_conversation_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, fast, processor = answerer(tmp_path)
    picture = photograph(tmp_path / "a.png")

    def told(text: str) -> str:
        given = processor(text=text, images=Image.open(picture), return_tensors="pt")
        ids = theirs.generate(**given, max_new_tokens=8, do_sample=False)[0, given["input_ids"].shape[1] :]
        return fast.decode(ids, skip_special_tokens=True).strip()

    talk = mmworld.Conversation(tmp_path, stop=Stop(8))
    talk.show(picture)
    first = talk.ask("what is this?")
    assert first == told("USER: <image>\nwhat is this? ASSISTANT:")
    assert "".join(talk.stream("and then?")).strip() == told(
        f"USER: <image>\nwhat is this? ASSISTANT: {first}</s>USER: and then? ASSISTANT:"
    )
    assert mmworld.ask("what is this?", picture, model=tmp_path, stop=Stop(8)) == first
    ranked = talk.choose("sure?", ("dog", "cat"))
    assert [m.parts[-1] for m in talk.messages[-2:]] == ["sure?", next(iter(ranked))]
    assert set(ranked) == {"dog", "cat"}
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    answer = mmworld.ask("what is this?", picture, model=tmp_path, choices=("dog", "cat"))
    flags = ["--model", str(tmp_path), "--choice", "dog", "--choice", "cat"]
    capsys.readouterr()
    assert command(["ask", "what is this?", str(picture), *flags]) == 0
    assert capsys.readouterr().out == f"{answer}\n"
    with pytest.raises(MediaError):
        talk.show(BytesIO(b"nothing"))


@torch.no_grad()
def test_a_language_model_is_asked_in_words(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path)
    fast.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant]"
    fast.save_pretrained(tmp_path)
    theirs = saved(sized(CASES["llama"], len(fast)), tmp_path)
    given = fast("[user] what is this? [assistant]", return_tensors="pt").input_ids
    ids = theirs.generate(given, max_new_tokens=8, do_sample=False)[0, given.shape[1] :]
    told = fast.decode(ids, skip_special_tokens=True).strip()
    assert mmworld.ask("what is this?", model=tmp_path, stop=Stop(8)) == told
    with pytest.raises(MediaError):
        mmworld.ask("what?", photograph(tmp_path / "a.png"), model=tmp_path)


def test_a_schema_holds_in_a_conversation(tmp_path: Path) -> None:
    answerer(tmp_path)
    picture, schema = photograph(tmp_path / "a.png"), {"type": "array", "items": {"enum": [1, "a dog"]}, "maxItems": 2}
    for sampler in (mmworld.generate.samplers.Greedy(), mmworld.generate.beam.Beam(2)):
        talk = mmworld.Conversation(tmp_path, sampler=sampler, stop=Stop(120))
        talk.show(picture)
        said = talk.ask("what?", schema=schema)
        assert set(json.loads(said)) <= {1, "a dog"}
        assert talk.messages[-1].parts == (said,)
        assert talk.sampler == sampler
    before = list(talk.messages)
    with pytest.raises(UsageError, match=r"was cut before it was whole JSON \(let it be longer: max_tokens is 120\)"):
        talk.ask("and?", schema={"type": "string", "minLength": 500})
    assert talk.messages == before
    with pytest.raises(UsageError, match="begin and schema both say"):
        talk.ask("and?", "so", schema)
    with pytest.raises(UsageError, match="choices and schema both say"):
        mmworld.ask("and?", model=tmp_path, choices=("a",), schema=schema)
