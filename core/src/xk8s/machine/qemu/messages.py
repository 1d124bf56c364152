"""Messages of a session with a guest, and how they look in the stream of bytes."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from attrs import frozen

_ESCAPE = b"\xff"
_LITERAL = _ESCAPE + b"\x00"
BEGIN = _ESCAPE + b"\x01"
"""Begins a session: what came before belongs to another one, which may have been cut off."""
STARTED = _ESCAPE + b"\x02"
"""The guest's service was started: sessions that it had begun earlier are lost."""
_HEADER = 5
_LONGEST = 1 << 20


class Kind(enum.Enum):
    """The first byte of a message."""

    HELLO = b"H"
    # Of the host.
    INPUT = b"I"
    EOF = b"E"
    SIGNAL = b"S"
    SIZE = b"W"
    # Of the guest.
    OUTPUT = b"O"
    ERRORS = b"R"
    TAKEN = b"A"
    EXIT = b"X"
    FAILED = b"F"


@frozen
class Message:
    """A whole message."""

    kind: Kind
    payload: bytes


def encode(kind: Kind, payload: bytes) -> bytes:
    """Return the message's bytes."""
    whole = kind.value + len(payload).to_bytes(4) + payload
    return whole.replace(_ESCAPE, _LITERAL)


class Decoder:
    """Takes the bytes of a guest apart: first `search` for its begin, then `feed`."""

    def __init__(self) -> None:
        """Nothing of the session has come yet."""
        self._raw = b""  # not looked at yet: ends with an escape, or all of it before the begin
        self._plain = bytearray()
        self._begun = False

    def begun_with(self, nonce: bytes) -> bool:
        """Look whether the answer to this HELLO has come, and drop what was before it."""
        if not self._begun:
            answer = BEGIN + encode(Kind.HELLO, nonce)
            before, found, rest = self._raw.partition(answer)
            self._raw = rest if found else before[-len(answer) :]
            self._begun = bool(found)
        return self._begun

    def search(self, data: bytes, nonce: bytes) -> None:
        """Take bytes while the session has not begun."""
        self._raw += data
        self.begun_with(nonce)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Return the messages that are complete now. ValueError if they are none, `EOFError` if
        there will be no more.
        """
        data = self._raw + data
        if STARTED in data:
            raise EOFError("the guest's service was started again")
        # An escape at the end belongs to a byte that is still to come.
        cut = len(data) - data.endswith(_ESCAPE)
        data, self._raw = data[:cut], data[cut:]
        self._plain += data.replace(_LITERAL, _ESCAPE)
        while len(self._plain) >= _HEADER:
            length = int.from_bytes(self._plain[1:_HEADER])
            if length > _LONGEST:
                raise ValueError(f"a message of {length} bytes")
            end = _HEADER + length
            if len(self._plain) < end:
                return
            kind, payload = bytes(self._plain[:1]), bytes(self._plain[_HEADER:end])
            del self._plain[:end]
            yield Message(Kind(kind), payload)
