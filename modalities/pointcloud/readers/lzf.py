"""LZF decompression (Lehmann's liblzf), as PCD's binary_compressed uses it; every reference is checked."""

from __future__ import annotations

MAX_RATIO = 90  # three bytes make at most 264


def decompress(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes from LZF `data`.

    Raises:
        ValueError: the data end early, refer to before their beginning, or make another number of bytes.
    """
    if size > MAX_RATIO * len(data):
        raise ValueError(f"{len(data)} bytes cannot make {size}")
    out = bytearray()
    i, end = 0, len(data)
    try:
        while i < end:
            control = data[i]
            i += 1
            if control < 32:  # a run of control + 1 literal bytes
                out += data[i : i + control + 1]
                i += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[i]
                i += 1
            start = len(out) - ((control & 31) << 8) - data[i] - 1
            i += 1
            if start < 0 or len(out) > size:
                raise ValueError("a reference to before the beginning" if start < 0 else "more bytes than declared")
            length += 2
            piece = out[start : start + length]
            out += (piece * (length // len(piece) + 1))[:length] if len(piece) < length else piece
    except IndexError:
        raise ValueError("the data end inside a reference") from None
    if i != end or len(out) != size:
        raise ValueError(f"{len(out)} bytes came out, {size} were declared")
    return bytes(out)
