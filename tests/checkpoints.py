"""Tiny checkpoints as their makers write them: weights, vocabulary, preprocessing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from mmworld.models.zoo.parity.case import Case

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
