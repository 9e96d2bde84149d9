"""TCP segments in frames, and the resets that are forged in answer to them."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from harness.worlds.os.segments import (
    ACK,
    RST,
    Segment,
    checksum,
    payload_of,
    reset_for_receiver,
    reset_for_sender,
    segment_in,
    stream_of,
)

numbers = st.integers(0, 2**32 - 1)
ports = st.integers(0, 2**16 - 1)
addresses = st.binary(min_size=4, max_size=4)
macs = st.binary(min_size=6, max_size=6)


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame with a TCP segment, options and padding included; and its data."""
    data = draw(st.binary(max_size=40))
    ip_options = draw(st.sampled_from([b"", bytes(4)]))
    tcp_options = draw(st.sampled_from([b"", b"\x01" * 12]))
    length = 20 + len(ip_options) + 20 + len(tcp_options) + len(data)
    ihl, offset = 5 + len(ip_options) // 4, 5 + len(tcp_options) // 4
    ip = struct.pack(
        *("!BBHIBBH4s4s", 0x40 | ihl, 0, length, 0, 64, 6, 0),
        *(draw(addresses), draw(addresses)),
    )
    tcp = struct.pack(
        *("!HHIIBBHHH", draw(ports), draw(ports), draw(numbers), draw(numbers)),
        *(offset << 4, draw(st.integers(0, 255)), 0, 0, 0),
    )
    frame = draw(macs) + draw(macs) + b"\x08\x00" + ip + ip_options + tcp + tcp_options
    return frame + data + bytes(draw(st.integers(0, 6))), data


def ends(frame: bytes) -> list[bytes]:
    """MAC address, IP address and port of the sender; and those of the receiver."""
    tcp = 14 + 4 * (frame[14] & 0x0F)
    return [
        frame[6:12] + frame[26:30] + frame[tcp : tcp + 2],
        frame[:6] + frame[30:34] + frame[tcp + 2 : tcp + 4],
    ]


def adds_up(words: bytes) -> bool:
    """Whether words with a checksum among them sum up as RFC 1071 demands."""
    total = sum(
        int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2)
    )
    return total % 0xFFFF == 0 and total > 0


@given(frames())
def test_a_segment_is_read_as_it_was_made(made: tuple[bytes, bytes]) -> None:
    frame, data = made
    segment = segment_in(frame)
    assert segment is not None
    assert (segment.data, payload_of(frame)) == (data, data)
    header = frame[segment.begins :]
    assert segment.number == int.from_bytes(header[4:8], "big")
    assert segment.expects == int.from_bytes(header[8:12], "big")
    assert segment.flags == header[13]


@given(frames())
def test_a_forged_reset_has_the_numbers_and_checksums_that_a_kernel_demands(
    made: tuple[bytes, bytes],
) -> None:
    frame, data = made
    segment = segment_in(frame)
    assert segment is not None
    there = (reset_for_receiver(segment), segment.number, ends(frame))
    back = (reset_for_sender(segment), segment.expects, ends(frame)[::-1])
    for reset, number, expected_ends in (there, back):
        assert len(reset) == 54
        assert ends(reset) == expected_ends
        read = segment_in(reset)
        assert read is not None
        assert (read.flags, read.data) == (RST | ACK, b"")
        assert read.number == number
        assert adds_up(reset[14:34])
        assert adds_up(reset[26:34] + struct.pack("!BBH", 0, 6, 20) + reset[34:])
    answer = segment_in(back[0])
    assert answer is not None
    assert answer.expects == (segment.number + len(data)) % 2**32


@given(data=st.binary(max_size=60).filter(lambda data: len(data) % 2 == 0))
def test_a_checksum_completes_the_sum(data: bytes) -> None:
    whole = data + checksum(data).to_bytes(2, "big")
    assert adds_up(whole)


@given(made=frames(), at=st.integers(0, 200))
def test_a_frame_that_ends_anywhere_is_read_without_harm(
    made: tuple[bytes, bytes], at: int
) -> None:
    frame = made[0][:at]
    segment = segment_in(frame)
    assert segment is None or isinstance(segment, Segment)
    assert payload_of(frame) in made[1] or at >= len(made[0])
    assert stream_of(frame) is None or segment is not None


@given(st.binary(max_size=100))
def test_any_bytes_are_read_without_harm(frame: bytes) -> None:
    for read in (segment_in, payload_of, stream_of):
        read(frame)


@given(data=st.binary(max_size=40), padding=st.integers(0, 6))
def test_a_datagram_has_a_payload_and_no_segment(data: bytes, padding: int) -> None:
    udp = struct.pack("!HHHH", 1, 2, 8 + len(data), 0)
    ip = struct.pack("!BBHIBBH8x", 0x45, 0, 28 + len(data), 0, 64, 17, 0)
    frame = bytes(12) + b"\x08\x00" + ip + udp + data + bytes(padding)
    assert payload_of(frame) == data
    assert segment_in(frame) is None
