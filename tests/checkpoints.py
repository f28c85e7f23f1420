"""Tiny checkpoints as their makers write them: weights, vocabulary, preprocessing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from mmworld.models.zoo.parity import CASES, Case

TEXTS = ["a dog runs over the grass", "two boys play in the snow", "naïve café, 3 dogs!", "what is in the picture?"] * 3


def vocabulary(folder: Path, *special: str, size: int = 330) -> Any:
    """A fast tokenizer of transformers with <s>, </s> and the special tokens, saved in the folder."""
    import transformers

    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet, marks = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>", *special]
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=marks, initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


def sized(case: Case, n: int, **places: int) -> Case:
    """The case with a vocabulary of n ids, and its special ids."""
    sizes = dict(case.sizes)
    if "text_config" in sizes:
        sizes["text_config"] = {**sizes["text_config"], "vocab_size": n, "eos_token_id": 1, "bos_token_id": 0}
    else:
        sizes |= {"vocab_size": n, "eos_token_id": 1, "bos_token_id": 0}
    return replace(case, sizes={**sizes, **places})


def saved(case: Case, folder: Path) -> Any:
    """Theirs, saved in the folder."""
    theirs = case.build()
    theirs.save_pretrained(folder)
    return theirs


SIDE = {"height": 16, "width": 16}


def captioner(folder: Path) -> tuple[Any, Any, Any]:
    """A BLIP, its vocabulary and its processor."""
    import transformers

    fast = vocabulary(folder)
    case = sized(CASES["blip"], len(fast))
    case.sizes["text_config"] |= {"bos_token_id": 5, "sep_token_id": 1}
    prepare = transformers.BlipImageProcessorPil(size={"height": 8, "width": 8})
    prepare.save_pretrained(folder)
    return saved(case, folder), fast, prepare


def answerer(folder: Path) -> tuple[Any, Any, Any]:
    """A LLaVA, its vocabulary and its processor."""
    import transformers

    fast = vocabulary(folder, "<image>")
    prepare = transformers.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    prepare.save_pretrained(folder)
    theirs = saved(sized(CASES["llava"], len(fast), image_token_index=2), folder)
    strategy = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return theirs, fast, transformers.LlavaProcessor(prepare, fast, patch_size=4, **strategy)


QWEN_MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_CHAT = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% for content in message['content'] %}{% if content['type'] in ('image', 'video') %}<|vision_start|><|{{
content['type'] }}_pad|><|vision_end|>{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
QWEN_BUDGET: dict[str, Any] = {"size": {"shortest_edge": 8 * 8 * 2, "longest_edge": 8 * 8 * 12}, "patch_size": 4}


def conversant(folder: Path, name: str = "qwen2_5_vl") -> tuple[Any, Any, Any]:
    """A Qwen-VL, its vocabulary and its processor of pictures."""
    import transformers

    fast = vocabulary(folder, *QWEN_MARKS)
    places = {f"{kind}_token_id": fast.convert_tokens_to_ids(f"<|{kind}_pad|>") for kind in ("image", "video")}
    prepare = transformers.Qwen2VLImageProcessorPil(**QWEN_BUDGET)
    prepare.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(QWEN_CHAT)
    return saved(sized(CASES[name], len(fast), **places), folder), fast, prepare


def speaker(folder: Path) -> tuple[Any, Any]:
    """A LLaMA and its vocabulary."""
    fast = vocabulary(folder)
    return saved(sized(CASES["llama"], len(fast)), folder), fast


def matcher(folder: Path, name: str = "clip", kind: str = "CLIPImageProcessorPil") -> tuple[Any, Any, Any]:
    """A CLIP or one of its kin, its vocabulary and its processor of pictures or films."""
    import transformers

    fast = ended(folder)
    case = CASES[name]
    ends = {"vocab_size": len(fast), "bos_token_id": 0, "eos_token_id": len(fast) - 1, "pad_token_id": 2}
    text = {**case.sizes["text_config"], **ends, "max_position_embeddings": 40}
    theirs = saved(replace(case, sizes={**case.sizes, "text_config": text}), folder)
    prepare = getattr(transformers, kind)(size={"shortest_edge": 16}, crop_size=SIDE)
    prepare.save_pretrained(folder)
    return theirs, fast, prepare


def ended(folder: Path) -> Any:
    """A vocabulary that puts <s> and, with the largest id as in CLIP's, <end> at a text's ends and can pad."""
    fast = vocabulary(folder, "<pad>")
    fast.add_special_tokens({"eos_token": "<end>"})
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A <end>", special_tokens=[("<s>", 0), ("<end>", len(fast) - 1)]
    )
    fast.pad_token = "<pad>"
    fast.save_pretrained(folder)
    return fast


PLACED = (
    "An image of<phrase> a dog</phrase><object><patch_index_0101><patch_index_0567></object> and"
    "<phrase> two boys</phrase><object><patch_index_0044><patch_index_0236></delimiter_of_multi_objects/>"
    "<patch_index_0688><patch_index_0983></object> in the snow."
)
"""What a tiny Kosmos-2 has learned to say of any picture."""


def grounder(folder: Path) -> tuple[Any, Any]:
    """A Kosmos-2 that has learned `PLACED`, and its processor."""
    import transformers

    core = tokenizers.Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    core.train_from_iterator(
        [*TEXTS, "An image of: 0123456789 Question Answer where"],
        trainers.UnigramTrainer(vocab_size=100, special_tokens=marks, unk_token="<unk>", show_progress=False),
    )
    pieces = [tuple(piece) for piece in json.loads(core.to_str())["model"]["vocab"]]
    prepare = transformers.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    processor = transformers.Kosmos2Processor(prepare, transformers.XLMRobertaTokenizer(vocab=pieces))
    processor.num_image_tokens = 3
    processor.save_pretrained(folder)
    text = {**CASES["kosmos-2"].sizes["text_config"], "vocab_size": len(processor.tokenizer)}
    theirs = replace(CASES["kosmos-2"], sizes={**CASES["kosmos-2"].sizes, "text_config": text}).build()
    _learn(theirs, processor)
    theirs.save_pretrained(folder)
    return theirs, processor


def _learn(theirs: Any, processor: Any) -> None:
    """`PLACED`, after noise, and where one phrase of it is."""
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    phrase, boxes = "<phrase> two boys</phrase>", PLACED.split("</phrase>")[2].partition(" in")[0]
    texts = (f"<grounding> {PLACED}</s>", f"<grounding>{phrase}{boxes}</s>")
    given = [processor(text=t, images=torch.zeros(3, 8, 8), return_tensors="pt") for t in texts]
    adam = torch.optim.Adam(theirs.text_model.parameters(), 0.01)
    for _ in range(60):
        adam.zero_grad()
        sum(theirs(**{**g, "pixel_values": noise}, labels=g["input_ids"]).loss for g in given).backward()
        adam.step()
