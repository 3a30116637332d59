"""The frames of a websocket from the server: told apart, so that events may come twice or out of order."""

from __future__ import annotations

from collections.abc import Iterator

DATA = (1, 2)  # opcodes: text, binary
LONG, LONGER = 126, 127  # in the length's first byte: two or eight bytes follow


class Frames:
    """What a server sends on one connection, whole frame by whole frame. A server's frames are not masked."""

    def __init__(self) -> None:
        self._rest = b""
        self._open = False  # the handshake is over
        self._kept: bytes | None = None  # waits for the frame that overtakes it

    def feed(self, data: bytes, doubled: bool, reordered: bool) -> Iterator[bytes]:
        """What goes on to the client. `doubled`: each event twice. `reordered`: each second one overtakes the first."""
        self._rest += data
        if not self._open:
            head, separator, rest = self._rest.partition(b"\r\n\r\n")
            if not separator:
                return
            self._open, self._rest = True, rest
            yield head + separator
        while (size := _size(self._rest)) is not None:
            frame, self._rest = self._rest[:size], self._rest[size:]
            yield from self._out(frame, doubled, reordered)

    def _out(self, frame: bytes, doubled: bool, reordered: bool) -> Iterator[bytes]:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            yield frame
            yield kept
        elif reordered and frame[0] & 0x0F in DATA:
            self._kept = frame
        else:
            yield frame
            if doubled and frame[0] & 0x0F in DATA:
                yield frame


def _size(data: bytes) -> int | None:
    """Of the frame that `data` begins with; None while it is not whole."""
    if len(data) < 2:
        return None
    length, head = data[1] & 0x7F, 2
    if length >= LONG:
        head += 2 if length == LONG else 8
        if len(data) < head:
            return None
        length = int.from_bytes(data[2:head], "big")
    return head + length if len(data) >= head + length else None


def without_compression(request: bytes) -> bytes:
    """The handshake without the offer to compress: compressed frames depend on those before them."""
    lines = request.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"sec-websocket-extensions:"))
