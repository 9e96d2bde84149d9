"""Writes the frames that the switch saw as pcapng, for Wireshark, tshark and tcpdump.

There is one interface per node, and one record per frame as it came from that node. A
frame that a rule touched has a comment that tells its fate ("n1 -> n3: cut"), so that a
capture shows what should have arrived and why it didn't. In Wireshark it is
`frame.comment`.

A capture takes `BYTES_MAX` at most. The frames that come after are counted, and the
counts stand at the end of the file: `capinfos` and Wireshark's file properties show
them as dropped.

Format: draft-ietf-opsawg-pcapng; section header, interface description, enhanced
packet and interface statistics blocks.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BYTES_MAX = 256 << 20
"""Some minutes of a busy five-node cluster."""

_SECTION_HEADER, _INTERFACE, _PACKET, _STATISTICS = 0x0A0D_0D0A, 1, 6, 5
_BYTE_ORDER_MAGIC = 0x1A2B_3C4D
_LENGTH_UNKNOWN = -1
_ETHERNET = 1
_OPTION_END, _OPTION_COMMENT, _OPTION_NAME, _OPTION_RESOLUTION = 0, 1, 2, 9
_OPTION_RECEIVED, _OPTION_DROPPED = 4, 5
_NANOSECONDS = b"\x09"


class Capture:
    """An open capture file with one interface per name."""

    def __init__(
        self, path: Path, names: Sequence[str], bytes_max: int = BYTES_MAX
    ) -> None:
        self._file = path.open("wb")
        self._bytes_left = bytes_max
        self._received = [0] * len(names)
        self._dropped = [0] * len(names)
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
        self._received[interface] += 1
        if self._bytes_left <= 0:
            self._dropped[interface] += 1
            return
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

    def close(self) -> None:
        """Write how many frames there were, and end the file."""
        now_ns = time.time_ns()
        for interface, counts in enumerate(
            zip(self._received, self._dropped, strict=True)
        ):
            header = struct.pack("=III", interface, now_ns >> 32, now_ns & 0xFFFF_FFFF)
            options = b"".join(
                _option(code, struct.pack("=Q", count))
                for code, count in zip(
                    (_OPTION_RECEIVED, _OPTION_DROPPED), counts, strict=True
                )
            )
            self._write(_STATISTICS, header + options + _option(_OPTION_END, b""))
        self._file.close()

    def _write(self, kind: int, body: bytes) -> None:
        length = struct.pack("=I", len(body) + 12)
        self._bytes_left -= len(body) + 12
        self._file.write(struct.pack("=I", kind) + length + body + length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
