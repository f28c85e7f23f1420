"""Qwen2-Audio: sounds of all lengths packed; conversations token for token as its processor writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from checkpoints import saved, sized, vocabulary
from clips import sound_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mmworld
from mmworld.errors import UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.message import RATE, Message
from mmworld.models.zoo.parity.audio import CASES, asked
from mmworld.models.zoo.parity.audio import given as told
from mmworld.models.zoo.parity.case import both, noise
from mmworld.models.zoo.qwen2_audio import Sound
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
CASE = CASES["qwen2_audio"]
MARKS = ("<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
N = 32


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return both(CASE, tmp_path_factory.mktemp("qwen2_audio"))


def sounds(*lengths: int) -> list[Sound]:
    return [Sound(mel, n) for mel, n in zip(noise(len(lengths), 30, 8), lengths, strict=True)]


@torch.no_grad()
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_sounds_of_any_length_are_heard_packed(pair: Any, lengths: list[int]) -> None:
    ours, theirs = pair
    heard = sounds(*lengths)
    split = heard[:2], heard[2:]
    texts = [asked(part) for part in split]
    sizes = tuple(t.shape[1] for t in texts)
    packed = ours(torch.cat(texts, dim=1), heard, lengths=sizes).split(sizes, dim=1)
    for part, got in zip(split, packed, strict=True):
        if any(s.n > 6 for s in part):  # theirs takes single places for those of old texts, which it spreads itself
            check(got, theirs(**told(part)).logits)


@torch.no_grad()
def test_it_goes_on_as_the_reference_does(pair: Any) -> None:
    ours, theirs = pair
    heard = sounds(21, 30)
    want = theirs.generate(**told(heard), max_new_tokens=N, do_sample=False, pad_token_id=0)
    state = ours.init_state()
    logits = ours(asked(heard)[:, :9], heard[:1], state)[:, -1]
    logits = ours(asked(heard)[:, 9:], heard[1:], state)[:, -1]
    assert goes_on(ours, logits, state, N) == want[0, asked(heard).shape[1] :].tolist()


@torch.no_grad()
def test_sounds_fill_their_places(pair: Any) -> None:
    ours, _ = pair
    with pytest.raises(ValueError, match="has 5 places for tokens of what it shows, which gives 7"):
        ours(asked(sounds(20)), sounds(30))
    with pytest.raises(ValueError, match="position 19, the model has learned 15"):
        ours.hear([Sound(noise(40, 8), 40)])


def chunks(*heard: Tensor) -> tuple[Chunk, ...]:
    return tuple(Chunk(x[:, None], 0.0, len(x) / RATE, "audio") for x in heard)


@torch.no_grad()
def checked(folder: Path, heard: list[Tensor]) -> None:
    """Two sounds in a conversation, one with words and one by itself."""
    fast = vocabulary(folder, *MARKS)
    case = sized(CASE, len(fast), audio_token_index=fast.convert_tokens_to_ids("<|AUDIO|>"))
    case.sizes["audio_config"] = {**case.sizes["audio_config"], "max_source_positions": 50}
    theirs = saved(case, folder)
    extract = hf.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    extract.save_pretrained(folder)
    process = hf.Qwen2AudioProcessor(extract, fast)
    ours, (first, second) = mmworld.load(folder), chunks(*heard)
    text = process.apply_chat_template(
        [
            {"role": "user", "content": [{"type": "text", "text": "what is this?"}, {"type": "audio"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "a dog"}]},
            {
                "role": "user",
                "content": [{"type": "audio"}, {"type": "text", "text": "Describe the sound in one sentence."}],
            },
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    given = process(text=text, audio=[x.numpy() for x in heard], sampling_rate=RATE, return_tensors="pt")
    messages = (
        Message("user", ("what is this?", first)),
        Message("assistant", ("a dog",)),
        Message("user", (second,)),
    )
    ids, _ = ours.conversation(messages)
    assert ids.tolist() == given["input_ids"].tolist()
    state, logits = ours.begin(messages)
    want = theirs.generate(**given, max_new_tokens=N, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(decode(ours, state, logits, stop=Stop(N))[0].ids) == [i for i in want if i != 1]
    with pytest.raises(UsageError, match="this model takes audio, not image"):
        ours.begin([Message("user", (Chunk(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0.0, 0.0, "image"),))])


@pytest.mark.parametrize("lengths", [(9_000, 20_000), (16_000, 1_601)])
def test_it_answers_about_sounds(lengths: tuple[int, int], tmp_path: Path) -> None:
    checked(tmp_path, [0.1 * noise(n) for n in lengths])


def test_it_answers_about_speech(shared_data: Path, tmp_path: Path) -> None:
    speech = sound_of(shared_data / "media" / "audio" / "jfk.flac", RATE, end=2.0)
    checked(tmp_path, [speech[: RATE // 2], speech[RATE // 2 :]])
