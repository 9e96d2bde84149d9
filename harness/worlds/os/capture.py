"""Writes the frames that the switch saw as pcapng, for Wireshark, tshark and tcpdump.

There is one interface per node, and one record per frame as it came from that node. A
frame that a rule touched has a comment that tells its fate ("n1 -> n3: cut"), so that a
capture shows what should have arrived and why it didn't. In Wireshark it is
`frame.comment`.

Format: draft-ietf-opsawg-pcapng; section header, interface description and enhanced
packet blocks.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SECTION_HEADER, _INTERFACE, _PACKET = 0x0A0D_0D0A, 1, 6
_BYTE_ORDER_MAGIC = 0x1A2B_3C4D
_LENGTH_UNKNOWN = -1
_ETHERNET = 1
_OPTION_END, _OPTION_COMMENT, _OPTION_NAME, _OPTION_RESOLUTION = 0, 1, 2, 9
_NANOSECONDS = b"\x09"


class Capture:
    """An open capture file with one interface per name."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("wb")
        header = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        self._write(_SECTION_HEADER, header)
        for name in names:
            options = _option(_OPTION_NAME, name.encode())
            options += _option(_OPTION_RESOLUTION, _NANOSECONDS)
            header = struct.pack("=HHI", _ETHERNET, 0, 0)
            self._write(_INTERFACE, header + options + _option(_OPTION_END, b""))
        self.flush()

    def record(self, interface: int, frame: bytes, comment: str) -> None:
        """Record a frame that has just come in; the comment may be empty."""
        now_ns = time.time_ns()
        header = struct.pack(
            "=IIIII",
            interface,
            now_ns >> 32,
            now_ns & 0xFFFF_FFFF,
            len(frame),
            len(frame),
        )
        options = b""
        if comment:
            options = _option(_OPTION_COMMENT, comment.encode())
            options += _option(_OPTION_END, b"")
        self._write(_PACKET, header + _padded(frame) + options)

    def flush(self) -> None:
        """Write all frames recorded so far to the file."""
        self._file.flush()

    def _write(self, kind: int, body: bytes) -> None:
        length = struct.pack("=I", len(body) + 12)
        self._file.write(struct.pack("=I", kind) + length + body + length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
