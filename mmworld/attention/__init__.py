"""One attention: masks, backends, and the reasons a backend gives when it declines."""

from mmworld.attention.dispatch import attention, backends, why_not
from mmworld.attention.mask import CAUSAL, FULL, Mask

__all__ = ["CAUSAL", "FULL", "Mask", "attention", "backends", "why_not"]
