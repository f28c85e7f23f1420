"""VideoCLIP and the S3D that sees for it: towers against transformers' BERT, convolutions against torch's and brute
force, the files that were released.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import hf
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from torch import Tensor
from torch.nn import functional as F

import mmworld
from mmworld.errors import CheckpointError, ConfigError, UsageError
from mmworld.modalities.video import s3d
from mmworld.models.zoo import save
from mmworld.models.zoo.parity.equations import s3d as by_hand
from mmworld.models.zoo.parity.equations import videoclip
from mmworld.models.zoo.parity.equations.videoclip import SIZES, TEXT, TEXTS, films, tiny
from mmworld.models.zoo.videoclip import VideoCLIP
from mmworld.weights.checkpoint import save_tensors

SEEDS = st.integers(0, 2**32)
NORM = "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
CLOSE = 1e-12


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_paper_s_equations_hold_to_rounding() -> None:
    assert max(relative_error(ours, theirs) for ours, theirs in videoclip.compare()) <= CLOSE


def test_every_weight_has_a_part_in_what_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().requires_grad_(True)
    monkeypatch.setattr(videoclip, "tiny", lambda: model)
    sum((ours * noise(i, *ours.shape)).sum() for i, (ours, _) in enumerate(videoclip.compare())).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@torch.no_grad()
def test_what_is_seen_of_films_differs() -> None:
    """Of a network that says the same of all films an error of 0 would say nothing."""
    x = tiny().features(films()).flatten(0, 1)
    assert float((x @ x.T - torch.eye(len(x))).max()) < 0.9


def bert(model: Any, part: str, layers: int) -> Any:
    """transformers' BERT with the weights of a tower."""
    named = model.keymap.theirs(model.state_dict())
    theirs = hf.BertModel(hf.BertConfig(**{**TEXT, "num_hidden_layers": layers})).double().eval()
    missing, other = theirs.load_state_dict(
        {n.removeprefix(part): x for n, x in named.items() if n.startswith(part)}, strict=False
    )
    assert set(missing) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(n.startswith("videomlp") for n in other)
    return theirs


@torch.no_grad()
def test_texts_are_read_as_bert_reads_them() -> None:
    model = tiny()
    theirs = bert(model, "model.text_encoder.", 3)
    want = [theirs(torch.tensor([t])).last_hidden_state[0, 1:].mean(0) for t in TEXTS]
    assert relative_error(model.embed_texts(TEXTS), torch.stack(want)) <= CLOSE


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 3, 5])
def test_films_are_read_as_bert_reads_them_with_padding(n: int) -> None:
    """As MMPT pads: features of zero up to the longest film, then [SEP]; padding is neither seen nor meant."""
    model, given = tiny(), noise(n, 2, n, 20)
    theirs, mlp = bert(model, "model.video_encoder.bert.", 2), model.video
    padded = F.pad(given, (0, 0, 0, 5 - n))
    tokens = mlp.down(F.layer_norm(F.gelu(mlp.up(padded)), (24,), mlp.norm.weight, mlp.norm.bias))
    first, last = (theirs.embeddings.word_embeddings.weight[i].expand(2, 1, -1) for i in (3, 4))
    mask = torch.tensor([[1] * (1 + n) + [0] * (5 - n) + [1]]).expand(2, -1)
    x = theirs(inputs_embeds=torch.cat((first, tokens, last), 1), attention_mask=mask).last_hidden_state
    meant = mask[:, 1:, None].double()
    want = (x[:, 1:] * meant).sum(1) / meant.sum(1)
    assert relative_error(model.embed(given), want) <= CLOSE


@torch.no_grad()
def test_features_may_be_made_before() -> None:
    model = tiny()
    given = model.features(films())
    assert torch.equal(model(given, TEXTS), model(films(), TEXTS))
    alone = tiny(s3d_config=None)
    alone.load_state_dict({n: x for n, x in model.state_dict().items() if not n.startswith("s3d.")})
    assert torch.equal(alone(given, TEXTS), model(given, TEXTS))
    assert relative_error(tiny(l2_normalize=False).features(films())[1], model.s3d(films()[1])) <= CLOSE
    with pytest.raises(UsageError, match="lacks s3d_config"):
        alone.embed(films())
    with pytest.raises(UsageError, match="lacks s3d_config"):
        mmworld.embed(b"", model=alone)


def test_what_does_not_fit_is_refused() -> None:
    model = tiny()
    for n in (0, 6):
        with pytest.raises(ValueError, match=f"a film of {n} seconds, the model has learned 1 to 5"):
            model.embed(noise(0, 1, n, 20))
    with pytest.raises(ValueError, match="behind the one that begins it"):
        model.embed_texts([(3, 4), (3,)])
    with pytest.raises(ValueError, match="the model has learned 16"):
        model.embed_texts([range(17)])
    with pytest.raises(ValueError, match="6 x 32 x 33: frames, height and width must be even"):
        model.embed(torch.zeros(1, 1, 3, 6, 32, 33))
    for changes, said in (
        ({"max_video_len": 15}, "max_video_len 15 and its ends, places are 16"),
        ({"sep_token_id": 50}, "cls_token_id or sep_token_id 50, vocab_size is 50"),
        ({"vfeat_dim": 21}, "vfeat_dim 21, its S3D gives 20"),
        ({"s3d_config": {"blocks": SIZES["s3d_config"]["blocks"][:8]}}, "8 blocks, 9 are wanted"),
        ({"s3d_config": {"fps": 25}}, "fps"),
    ):
        with pytest.raises(ConfigError, match=said):
            VideoCLIP({**SIZES, **changes})


def test_batch_norms_keep_their_statistics_in_training() -> None:
    model = tiny().train()
    before = {n: x.clone() for n, x in model.s3d.state_dict().items()}
    model(films(), TEXTS).sum().backward()
    assert all(torch.equal(x, before[n]) for n, x in model.s3d.state_dict().items())
    assert all(p.grad is None for p in model.s3d.parameters())
    assert model.video.up.weight.grad.any()


@given(SEEDS, *[st.integers(1, 3)] * 3, *[st.integers(0, 2)] * 3)
def test_convolutions_by_hand_are_torch_s(seed: int, i: int, j: int, k: int, t: int, h: int, w: int) -> None:
    x, weight = noise(seed, 3, 4, 5, 3), noise(seed + 1, 2, 3, i, j, k)
    want = F.conv3d(x[None], weight, padding=(t, h, w))[0]
    assert relative_error(by_hand.convolved(weight, x, (t, h, w), (t, h, w)), want) <= CLOSE


@given(SEEDS, st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_the_stem_is_one_convolution_with_a_stride(seed: int, half: list[int]) -> None:
    """Of 4 x 8 x 8 at every other frame, row and column, over the film and zeros about it."""
    film, stem = noise(seed, 1, 3, *(2 * n for n in half)), s3d.Conv(24, 4, (2, 4, 4), (1, 2, 2)).double()
    got = stem.conv(s3d.folded(film))[:, :, 1:, 1:, 1:]
    offsets = stem.conv.weight.unflatten(1, (2, 2, 2, 3))  # [O, a, b, c, C, i, j, k]
    weight = offsets.permute(0, 4, 5, 1, 6, 2, 7, 3).reshape(4, 3, 4, 8, 8)
    want = F.conv3d(F.pad(film, (2, 4, 2, 4, 0, 2)), weight, stride=2)
    assert relative_error(got, want) <= CLOSE


@given(SEEDS, st.sampled_from([(1, 2), (3, 2), (2, 2)]), st.lists(st.integers(1, 7), min_size=3, max_size=3))
def test_a_pool_is_the_largest_of_each_window(seed: int, ends: tuple[int, int], sizes: list[int]) -> None:
    x = noise(seed, 2, *sizes).clamp_min(0)
    kernel, stride = ((1, 3, 3), (1, 2, 2)) if ends[0] == 1 else ((ends[0],) * 3, (ends[1],) * 3)
    assert torch.equal(s3d.Pool(kernel, stride)(x[None])[0], by_hand.largest_of(x, kernel, stride))


@given(st.integers(1, 20), st.sampled_from([2, 4, 6]))
def test_seconds_are_filled_up_with_black(n: int, fps: int) -> None:
    frames = torch.randint(1, 256, (n, 3, 2, 4), dtype=torch.uint8)
    got = s3d.Seconds(fps)(frames)
    assert got.shape == (-(-n // fps), 3, fps, 2, 4)
    flat = got.transpose(1, 2).flatten(0, 1)
    assert torch.equal((flat[:n] * 255).round().to(torch.uint8), frames)
    assert not flat[n:].any()


def bert_names(depth: int) -> dict[str, tuple[int, ...]]:
    table = {"word_embeddings": (30522, 768), "position_embeddings": (512, 768), "token_type_embeddings": (2, 768)}
    found: dict[str, tuple[int, ...]] = {f"embeddings.{n}.weight": shape for n, shape in table.items()}
    found |= {f"embeddings.LayerNorm.{p}": (768,) for p in ("weight", "bias")}
    layers = {f"attention.self.{n}": (768, 768) for n in ("query", "key", "value")}
    layers |= {"attention.output.dense": (768, 768), "intermediate.dense": (3072, 768), "output.dense": (768, 3072)}
    for at in (f"encoder.layer.{i}" for i in range(depth)):
        for name, shape in layers.items():
            found |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        for norm in ("attention.output", "output"):
            found |= {f"{at}.{norm}.LayerNorm.{p}": (768,) for p in ("weight", "bias")}
    return found


def s3d_names() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"fc.weight": (512, 1024), "fc.bias": (512,)}

    def conv(name: str, c_out: int, c_in: int, *kernels: tuple[int, int, int]) -> None:
        for i, kernel in enumerate(kernels, 1):
            found[f"{name}.conv{i}.weight"] = (c_out, c_in if i == 1 else c_out, *kernel)
            found.update({f"{name}.bn{i}.{p}": () if p == NORM[-1] else (c_out,) for p in NORM})

    def gate(name: str, dim: int) -> None:
        found.update({f"{name}.fc.weight": (dim, dim), f"{name}.fc.bias": (dim,)})

    one, apart = (1, 1, 1), ((1, 3, 3), (3, 1, 1))
    conv("conv1", 64, 24, (2, 4, 4))
    conv("conv_2b", 64, 64, one)
    conv("conv_2c", 192, 64, *apart)
    gate("gating", 192)
    widths = {
        "3b": (192, 64, 96, 128, 16, 32, 32),
        "3c": (256, 128, 128, 192, 32, 96, 64),
        "4b": (480, 192, 96, 208, 16, 48, 64),
        "4c": (512, 160, 112, 224, 24, 64, 64),
        "4d": (512, 128, 128, 256, 24, 64, 64),
        "4e": (512, 112, 144, 288, 32, 64, 64),
        "4f": (528, 256, 160, 320, 32, 128, 128),
        "5b": (832, 256, 160, 320, 32, 128, 128),
        "5c": (832, 384, 192, 384, 48, 128, 128),
    }
    for name, (c_in, b0, b1a, b1b, b2a, b2b, b3b) in widths.items():
        at = f"mixed_{name}"
        conv(f"{at}.conv_b0", b0, c_in, one)
        conv(f"{at}.conv_b1_a", b1a, c_in, one)
        conv(f"{at}.conv_b1_b", b1b, b1a, *apart)
        conv(f"{at}.conv_b2_a", b2a, c_in, one)
        conv(f"{at}.conv_b2_b", b2b, b2a, *apart)
        conv(f"{at}.conv_b3_b", b3b, c_in, one)
        for i, dim in enumerate((b0, b1b, b2b, b3b)):
            gate(f"{at}.gating_b{i}", dim)
    return found


def test_names_and_shapes_are_those_that_were_released() -> None:
    text = {**TEXT, "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    text |= {"intermediate_size": 3072, "max_position_embeddings": 512}
    with torch.device("meta"):
        model = VideoCLIP({"model_type": "videoclip", "text_config": text, "s3d_config": {}})
    named = {n: tuple(x.shape) for n, x in model.keymap.theirs(model.state_dict()).items()}
    mlp = {"linear1.weight": (768, 512), "linear2.weight": (768, 768)}
    mlp |= {f"{n}.bias": (768,) for n in ("linear1", "LayerNorm", "linear2")} | {"LayerNorm.weight": (768,)}
    want = {f"model.text_encoder.{n}": shape for n, shape in bert_names(12).items()}
    want |= {f"model.video_encoder.bert.{n}": shape for n, shape in bert_names(6).items()}
    want |= {f"model.video_encoder.videomlp.{n}": shape for n, shape in mlp.items()}
    want |= {f"video_encoder.{n}": shape for n, shape in s3d_names().items()}
    assert named == want


def idle(*roots: str) -> dict[str, Tensor]:
    """What is released beside it and has no part in what it says."""
    found = {f"{root}pooler.dense.weight": torch.zeros(24, 24) for root in roots}
    found |= {f"{root}pooler.dense.bias": torch.zeros(24) for root in roots}
    return found | {f"{root}embeddings.position_ids": torch.arange(16)[None] for root in roots}


WORDS = {f"text_module.{n}": torch.zeros(2, 2) for n in ("word_embd.weight", "fc1.weight", "fc2.weight")}
WORDS |= {f"text_module.{n}": torch.zeros(2) for n in ("fc1.bias", "fc2.bias")}


@torch.no_grad()
def test_folders_are_read_whole_by_the_names_of_either_program(tmp_path: Path) -> None:
    model = tiny().float()
    save(model, tmp_path)
    own = model.state_dict()
    assert all(torch.equal(x, own[n]) for n, x in mmworld.load(tmp_path).state_dict().items())

    theirs = model.keymap.theirs(own) | {f"video_encoder.{n}": x for n, x in WORDS.items()}
    theirs |= idle("model.text_encoder.", "model.video_encoder.bert.")
    trained = {n.replace("model.", "mmmodel.", 1) if n.startswith("model.") else n: x for n, x in theirs.items()}
    for named in (theirs, trained):
        save_tensors(named, tmp_path / "model.safetensors")
        again = mmworld.load(tmp_path)
        assert all(torch.equal(x, own[n]) for n, x in again.state_dict().items())
    assert again.processors["video"] == s3d.Seconds(6)
    save_tensors({**theirs, "model.scale": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown: model\.scale"):
        mmworld.load(tmp_path)


def test_the_released_file_of_s3d_is_read_as_tensors_alone(tmp_path: Path) -> None:
    small = tiny().float().s3d
    torch.save(small.keymap.theirs(small.state_dict()) | WORDS, tmp_path / "s3d_howto100m.pth")
    again = s3d.S3D.load(tmp_path / "s3d_howto100m.pth", SIZES["s3d_config"])
    assert all(torch.equal(x, small.state_dict()[n]) for n, x in again.state_dict().items())
