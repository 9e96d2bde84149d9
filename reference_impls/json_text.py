"""JSON without blanks, by the shortest way to Python's own codec.

`JSONEncoder.encode` prepares an encoder for each value, and `JSONDecoder.decode` looks
for blanks around each text. Either takes as long as the rest of the work on a short
message, and a node encodes or decodes several for each operation.
"""

from __future__ import annotations

import json
import json.encoder
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def encoder() -> Callable[[Any], str]:
    """A function that encodes a value, prepared once if Python has it in C."""
    plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)
    make: Callable[..., Any] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    chunks = make(
        None,  # no check for circles
        plain.default,
        json.encoder.encode_basestring_ascii,
        None,  # no indent
        plain.key_separator,
        plain.item_separator,
        plain.sort_keys,
        plain.skipkeys,
        plain.allow_nan,
    )
    return lambda value: "".join(chunks(value, 0))


encode = encoder()


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python knows and JSON doesn't."""
    raise ValueError(f"{name} is not JSON")


def finite(text: str) -> float:
    """The number; refuses one so large that it would be encoded as Infinity."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is too large")
    return number


_decoder = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite)


def decode(text: str) -> Any:
    """The value that `text` is, blanks around it or not.

    Raises:
        ValueError, RecursionError: It is none.
    """
    if text[:1] not in {"{", "["}:
        return _decoder.decode(text)
    value, end = _decoder.raw_decode(text)
    return value if end == len(text) else _decoder.decode(text)
