"""Checkpoints by their name on the hub, from its cache or downloaded into it."""

from __future__ import annotations

import re
from pathlib import Path

from mmworld.errors import CheckpointError, UsageError

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.txt", "*.tiktoken"]
FILES += ["tokenizer.model", "spiece.model", "spm_char.model"]
"""What a checkpoint is read from; anything else, pickles too, is not fetched."""


def fetch(name: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of the model `name` ("organisation/model"), as huggingface-hub keeps it: HF_HOME says where,
    HF_HUB_OFFLINE that nothing may be downloaded.

    Args:
        revision: a branch, tag or commit; None is main.
        token: of a user who may read the model; None is that of HF_TOKEN or of `hf auth login`.

    Raises:
        UsageError: huggingface-hub is not installed.
        CheckpointError: the hub has no such model, does not give it to this user, or cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UsageError("models of the hub need huggingface-hub", hint="pip install 'mmworld[hub]'") from None
    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as e:
        why = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
        hint = "a folder's path, or a name as on the hub"
        raise CheckpointError(f"no folder {name!r}, and the hub does not give it: {why}", hint=hint) from None
