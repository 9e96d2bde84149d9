"""TCP segments in Ethernet frames: read, told apart by connection, and answered by RST.

A reset that a kernel obeys has the very sequence number that its end of the connection
expects next; one that is merely near it only provokes a question (RFC 5961, 3.2: a
challenge ACK). A segment that passes tells both numbers: its own number is what the
receiver expects, if no segment before it is missing, and its acknowledgement is what
the sender expects. So a connection is reset in answer to a segment, and nothing has to
be remembered of those that are healthy.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ETHERNET_HEADER = 14
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_IPV4, _TCP, _UDP = b"\x08\x00", 6, 17
_IP_HEADER, _TCP_HEADER, _UDP_HEADER = 20, 20, 8
_SHORTEST_TCP = ETHERNET_HEADER + _IP_HEADER + _TCP_HEADER
_TTL = 64
_DONT_FRAGMENT = 0x4000
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP_FIXED = struct.Struct("!HHIIBBHHH")


class Segment(NamedTuple):
    """A TCP segment, and the frame that it came in.

    Attributes:
        frame: The whole frame.
        begins: Where the TCP header begins in the frame.
        data: The payload, without Ethernet's padding.
        flags: FIN, SYN, RST, ACK and others.
        number: Its sequence number.
        expects: The number that its sender expects next, if it has the flag ACK.
    """

    frame: bytes
    begins: int
    data: bytes
    flags: int
    number: int
    expects: int

    @property
    def connection(self) -> bytes:
        """Addresses and ports: the connection, as seen in this direction."""
        return self.frame[26:34] + self.frame[self.begins : self.begins + 4]


def segment_in(frame: bytes) -> Segment | None:
    """The TCP segment in a frame; None if it has none that is whole."""
    if frame[12:14] != _IPV4 or len(frame) < _SHORTEST_TCP or frame[23] != _TCP:
        return None
    begins = ETHERNET_HEADER + 4 * (frame[14] & 0x0F)
    if len(frame) < begins + _TCP_HEADER:
        return None
    _, _, number, expects, length, flags, _, _, _ = _TCP_FIXED.unpack_from(
        frame, begins
    )
    end = ETHERNET_HEADER + int.from_bytes(frame[16:18], "big")
    data = frame[begins + 4 * (length >> 4) : end]
    return Segment(frame, begins, data, flags, number, expects)


def payload_of(frame: bytes) -> bytes:
    """The data that a frame carries over TCP or UDP; empty if it carries none."""
    if frame[12:14] != _IPV4 or len(frame) < ETHERNET_HEADER + _IP_HEADER:
        return b""
    if frame[23] == _TCP:
        segment = segment_in(frame)
        return b"" if segment is None else segment.data
    if frame[23] != _UDP:
        return b""
    begins = ETHERNET_HEADER + 4 * (frame[14] & 0x0F) + _UDP_HEADER
    return frame[begins : ETHERNET_HEADER + int.from_bytes(frame[16:18], "big")]


def stream_of(frame: bytes) -> bytes | None:
    """A key for the TCP connection of a frame, different for data and for bare ACKs.

    None for frames that are not TCP, and for resets. Every frame that a cut takes is
    asked for its key, so this reads no more of it than that needs.
    """
    if frame[12:14] != _IPV4 or len(frame) < _SHORTEST_TCP or frame[23] != _TCP:
        return None
    tcp = ETHERNET_HEADER + 4 * (frame[14] & 0x0F)
    if len(frame) < tcp + _TCP_HEADER or frame[tcp + 13] & RST:
        return None
    end = ETHERNET_HEADER + int.from_bytes(frame[16:18], "big")
    has_data = tcp + 4 * (frame[tcp + 12] >> 4) < end
    is_bare = not has_data and not frame[tcp + 13] & (FIN | SYN)
    return frame[26:34] + frame[tcp : tcp + 4] + bytes([is_bare])


def reset_for_receiver(segment: Segment) -> bytes:
    """A frame that has the receiver of `segment` believe that its peer reset."""
    return _reset(segment, segment.number, segment.expects, back=False)


def reset_for_sender(segment: Segment) -> bytes:
    """A frame that has the sender of `segment` believe that its peer reset."""
    after = (segment.number + len(segment.data)) & 0xFFFF_FFFF
    return _reset(segment, segment.expects, after, back=True)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _reset(segment: Segment, number: int, expects: int, *, back: bool) -> bytes:
    """A bare RST, in the direction of the segment or back to its sender."""
    frame, begins = segment.frame, segment.begins
    ends = [
        (frame[6:12], frame[26:30], frame[begins : begins + 2]),
        (frame[0:6], frame[30:34], frame[begins + 2 : begins + 4]),
    ]
    (src_mac, src_ip, src_port), (dst_mac, dst_ip, dst_port) = (
        reversed(ends) if back else ends
    )
    length = _IP_HEADER + _TCP_HEADER
    ip = _IP.pack(
        0x45, 0, length, 0, _DONT_FRAGMENT, _TTL, _TCP, 0, src_ip, dst_ip
    )  # fmt: skip
    tcp = (
        src_port
        + dst_port
        + struct.pack("!IIBBHHH", number, expects, 0x50, RST | ACK, 0, 0, 0)
    )
    pseudo_header = src_ip + dst_ip + struct.pack("!BBH", 0, _TCP, len(tcp))
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    tcp = tcp[:16] + checksum(pseudo_header + tcp).to_bytes(2, "big") + tcp[18:]
    return dst_mac + src_mac + _IPV4 + ip + tcp
