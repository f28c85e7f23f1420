"""A choice is one of the texts, scored as if each were read alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import UsageError
from mmworld.generate.choice import Choice
from mmworld.models.zoo import FAMILIES
from mmworld.nn.state import KVState

LLAMA = {"model_type": "llama", "vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}
TEXTS = st.lists(st.text("abcdefghij", min_size=1, max_size=7), min_size=1, max_size=6, unique=True)


def encode(text: str, *, whole: bool) -> list[int]:
    assert not whole
    return [ord(c) - ord("a") + 5 for c in text]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    model: Any = FAMILIES.get("llama")(LLAMA).eval()
    for x in model.parameters():
        torch.nn.init.normal_(x, std=0.4)
    return model


@given(texts=TEXTS, ends=st.sampled_from([(), (2,), (2, 3)]))
@torch.no_grad()
def test_each_is_scored_as_if_alone(model: Any, texts: list[str], ends: tuple[int, ...]) -> None:
    model.tokenizer = SimpleNamespace(encode=encode, ends=frozenset(ends))
    prompt, state = [1, 7, 8], model.init_state()
    logits = model.read(torch.tensor([prompt]), state)
    choice = Choice(tuple(texts))
    got, want = choice.scores(model, state, logits), {}
    for text in texts:
        ids = encode(text, whole=False)
        log_p = model(torch.tensor([[*prompt, *ids]]))[0, len(prompt) - 1 :].double().log_softmax(-1)
        end = log_p[-1, list(ends)].exp().sum().log() if ends else 0.0
        want[text] = float(log_p[range(len(ids)), ids].sum() + end)
    assert got == pytest.approx(want, abs=1e-4)
    assert len(state) == len(prompt)


def test_what_is_no_choice_is_refused() -> None:
    for texts in ((), ("",), ("a", "a")):
        with pytest.raises(UsageError, match="different texts"):
            Choice(texts)
    same = SimpleNamespace(tokenizer=SimpleNamespace(encode=lambda text, whole: [0], ends=()))
    with pytest.raises(UsageError, match="to the model's vocabulary"):
        Choice(("a", "b")).scores(same, KVState(), torch.zeros(1, 3))
