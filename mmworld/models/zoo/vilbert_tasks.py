"""ViLBERT taught twelve data sets at once (Lu et al. 2020, 12-in-1): what is asked of a text and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmworld.errors import ConfigError
from mmworld.models.zoo.vilbert import Classifier, ViLBERT
from mmworld.weights.keymap import KeyMap, Place

VQA, GQA = 3129, 1533
"""Answers that there are: the released code fixes them."""


class ViLBERTTasks(ViLBERT):
    """One model of twelve tasks (Lu et al. 2020, section 3.2).

    Args:
        source: what config.json says, of `VILBertForVLTasks`.

    Attributes:
        vqa, gqa: pairs [B, P] to the scores of answers [B, 3129] of VQA and Visual Genome, and [B, 1533] of GQA.
        fits: pairs to how well the text fits the picture [B, 1], among others: retrieval, and choices of VCR.
        entails: pairs to [B, 3]: the picture contradicts the text, says neither, entails it.
        true: pairs of one text with two pictures, side by side [B, 2 * P], to [B, 2]: it is false, or true (NLVR2).
        meant: regions [B, R, E] to how likely the text means each [B, R, 1].

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source)
        p = self.config.bi_hidden_size
        self.vqa, self.gqa = Classifier(p, 2 * p, VQA), Classifier(p, 2 * p, GQA)
        self.true, self.entails = Classifier(2 * p, 2 * p, 2), nn.Linear(p, 3)
        self.fits, self.meant = nn.Linear(p, 1), nn.Linear(self.config.v_hidden_size, 1)

    @property
    def keymap(self) -> KeyMap:
        """Of `VILBertForVLTasks`'s names; its score of single words is asked for by no task."""
        heads = {"fits": "vil_logit", "entails": "vil_tri_prediction", "meant": "vision_logit"}
        own: dict[str, Place] = {f"{ours}.*": f"{theirs}.*" for ours, theirs in heads.items()}
        for ours, theirs in (
            ("vqa", "vil_prediction"),
            ("gqa", "vil_prediction_gqa"),
            ("true", "vil_binary_prediction"),
        ):
            own |= {f"{ours}.{n}.*": f"{theirs}.logit_fc.{i}.*" for n, i in (("dense", 0), ("norm", 2), ("out", 3))}
        return super().keymap | KeyMap(own, unused=("linguisic_logit.*",))


ARCHITECTURES: dict[str, type[ViLBERT]] = {
    "BertForMultiModalPreTraining": ViLBERT,
    "VILBertForVLTasks": ViLBERTTasks,
}


def vilbert(source: Mapping[str, Any]) -> ViLBERT:
    """The model of the architecture that config.json names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """
    name = next(iter(source.get("architectures") or ()), "BertForMultiModalPreTraining")
    if name not in ARCHITECTURES:
        raise ConfigError(f"config.json: architectures: {name} is none of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](source)
