"""Recognising private keys in whatever form: as PEM, DER, base64 and hex of them, folded, packed.

Of keys that are known every piece is recognised, of others what says that it is one.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PIECE = 12
"""Characters of base64 that make a key recognisable: 9 bytes do not meet by chance."""
_HEX_PIECE = 20
_MAX_UNPACKED = 1 << 20
_MAX_DEPTH = 3
"""A secret of Helm is base64 of base64 of gzip."""

_WORD = re.compile(rf"[A-Za-z0-9+/_-]{{{PIECE},}}")
_HEX = re.compile(rf"[0-9A-Fa-f]{{{_HEX_PIECE},}}")
_RUN = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
_MARKS = re.compile(rb"PRIVATE KEY|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{4}")
_STANDARD = str.maketrans("-_", "+/")
_GZIP = b"\x1f\x8b\x08"


class KnownKeys:
    """Recognises pieces of the given keys (PEM texts), and whole ones of others."""

    def __init__(self, pem_keys: Iterable[str] = ()) -> None:
        """What several keys have in common (their kind, the curve) is not a secret."""
        keys = sorted(set(pem_keys))
        counts = Counter(piece for pem in keys for piece in _pieces(pem))
        self._pieces = frozenset(piece for piece, count in counts.items() if count == 1)

    def in_text(self, text: str) -> bool:
        """Return whether a piece of a known key is in it as base64, PEM or hex."""
        if not self._pieces:
            return False
        for match in _WORD.finditer(text):
            word = match[0]
            if _HEX.fullmatch(word):
                word, size = word.lower(), _HEX_PIECE
            else:
                word, size = word.translate(_STANDARD), PIECE
            if any(word[at : at + size] in self._pieces for at in range(len(word) - size + 1)):
                return True
        return False

    def hidden_in(self, run: str) -> bool:
        """Return whether base64 or hex hides a key, a token, or a piece of a known key."""
        if _HEX.fullmatch(run):
            return self._in_bytes(bytes.fromhex(run[: len(run) - len(run) % 2]), 1)
        return any(self._in_bytes(data, 1) for data in _decoded(run.encode()))

    def _in_bytes(self, data: bytes, depth: int) -> bool:
        if data.startswith(_GZIP):
            data = _unpacked(data)
        if _MARKS.search(data):
            return True
        runs = [match[0] for match in _RUN.finditer(data)]
        return any(self.in_text(run.decode()) for run in runs) or (
            depth < _MAX_DEPTH
            and any(self._in_bytes(inner, depth + 1) for run in runs for inner in _decoded(run))
        )


def keys_below(*directories: Path) -> list[str]:
    """Return the private keys (``*.key``) in directories, as texts; none of those that do not
    exist.
    """
    found = []
    for directory in directories:
        for path in sorted(directory.glob("*.key")):
            try:
                found.append(path.read_text())
            except (OSError, UnicodeDecodeError):
                continue
    return found


def _pieces(pem: str) -> set[str]:
    """Pieces of a PEM private key: of its base64, of base64 of all of it (as kubeconfigs have it)
    wherever that begins, and of both in hex.
    """
    lines = [line.strip() for line in pem.splitlines()]
    body = "".join(line for line in lines if line and not line.startswith("-----"))
    whole = [pem.encode()]
    with suppress(binascii.Error):
        whole.append(base64.b64decode(body))
    texts = [body]
    for data in whole:
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + data).decode()
            texts.append(text[4 * bool(shift) :].rstrip("="))
    found = {text[at : at + PIECE] for text in texts for at in range(len(text) - PIECE + 1)}
    for data in whole:
        text = data.hex()
        found |= {text[at : at + _HEX_PIECE] for at in range(len(text) - _HEX_PIECE + 1)}
    return found


def _decoded(run: bytes) -> Iterable[bytes]:
    """Base64 may begin at any of four characters: what is before it need not be of it."""
    run = run.replace(b"-", b"+").replace(b"_", b"/")
    for shift in range(4):
        text = run[shift:].rstrip(b"=")
        text = text[: len(text) - len(text) % 4]
        try:
            yield base64.b64decode(text)
        except binascii.Error:
            continue


def _unpacked(data: bytes) -> bytes:
    """Return the beginning of gzip's content, what there is of it if it is damaged or cut."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _MAX_UNPACKED)
    except zlib.error:
        return data
