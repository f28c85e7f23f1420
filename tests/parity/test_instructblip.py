"""InstructBLIP says of pictures and films what the reference says, which is given the same by its own processors: of
LLaMA's vocabulary, and for the Q-Former one of BERT's kind.
"""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from checkpoints import TEXTS, saved, sized
from clips import clip, numbered
from tokenizers import pre_tokenizers, trainers

import mmworld
from mmworld.cli import command
from mmworld.generate.stop import Stop
from mmworld.media.gate import open_media
from mmworld.media.video import frames_at
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import DESCRIBE
from mmworld.models.zoo.parity import CASES
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SIZE = {"height": 8, "width": 8}
QUESTION = "what is in the picture? a naïve café, 3 dogs!"


def asks() -> Any:
    """A tokenizer of BERT's kind, with [CLS] and [SEP] at a text's ends."""
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=marks))
    return hf.BertTokenizer(vocab=core.get_vocab())


def made(name: str, folder: Path, shared_data: Path) -> tuple[Any, Any]:
    """An InstructBLIP of pictures or films and its processor, saved in the folder."""
    shutil.copy(shared_data / "tokenizers/llama2/tokenizer.model", folder)
    told, read = hf.LlamaTokenizer.from_pretrained(folder), asks()
    if name == "instructblip":
        processor = hf.InstructBlipProcessor(hf.BlipImageProcessorPil(size=SIZE), told, read, num_query_tokens=3)
    else:
        prepare = hf.InstructBlipVideoVideoProcessor(size=SIZE)
        processor = hf.InstructBlipVideoProcessor(prepare, told, read, num_query_tokens=3)
    processor.save_pretrained(folder)
    (folder / "tokenizer.model").unlink()
    place = "image_token_index" if name == "instructblip" else "video_token_index"
    case = sized(CASES[name], len(told), **{place: len(told) - 1})
    case.sizes["text_config"] |= {"eos_token_id": 2, "bos_token_id": 1}
    case.sizes["qformer_config"] |= {"vocab_size": len(read), "max_position_embeddings": 64}
    return saved(case, folder), processor


@torch.no_grad()
def told(theirs: Any, processor: Any, shown: Any, text: str = QUESTION) -> str:
    given = processor(images=shown, text=text, return_tensors="pt")
    ids = theirs.generate(**given, max_new_tokens=8, do_sample=False)[0, given["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()


@torch.no_grad()
def test_ids_and_words_about_a_picture_are_those_of_its_processor(tmp_path: Path, shared_data: Path) -> None:
    theirs, processor = made("instructblip", tmp_path, shared_data)
    picture = torch.randint(0, 256, (3, 11, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = processor(images=picture, text=QUESTION, return_tensors="pt")
    ours: Any = mmworld.load(tmp_path)
    assert [ours.config.place] * 3 + ours.tokenizer.encode(QUESTION) == given["input_ids"][0].tolist()
    assert ours.asks.encode(QUESTION) == given["qformer_input_ids"][0].tolist()
    shown = Chunk(picture[None], 0.0, 0.0, "image")
    logits = ours.begin([Message("user", (shown, QUESTION))])[1]
    assert torch.allclose(logits, theirs(**given).logits[:, -1], atol=1e-4)
    assert mmworld.ask(QUESTION, shown, model=ours, stop=Stop(8)) == told(theirs, processor, picture)


@torch.no_grad()
def test_a_film_is_asked_about_and_captioned(tmp_path: Path, shared_data: Path, capsys: Any) -> None:
    theirs, processor = made("instructblipvideo", tmp_path, shared_data)
    data = {"moving": clip(40, fps=10), "still": clip(40, fps=10, pictures=[numbered(5)] * 40)}
    films = {n: [f.data for f in frames_at(open_media(BytesIO(d)), [0.5, 1.5, 2.5, 3.5])] for n, d in data.items()}
    for name, film in data.items():
        (tmp_path / f"{name}.mp4").write_bytes(film)
    flags = ["--model", str(tmp_path)]
    assert command(["ask", QUESTION, str(tmp_path / "moving.mp4"), *flags, "--max-tokens", "8"]) == 0
    assert capsys.readouterr().out.strip() == told(theirs, processor, torch.stack(films["moving"]))
    want = told(theirs, processor, torch.stack(films["still"]), DESCRIBE["video"])  # whichever frames are shown
    assert command(["caption", str(tmp_path / "still.mp4"), *flags, "--at-end", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"].strip().startswith(want)
