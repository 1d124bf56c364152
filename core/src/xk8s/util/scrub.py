"""Takes keys, tokens and passwords out of texts that leave the machine, and out of logs.

Two nets: forms that secrets have (PEM, JWT, "Bearer …", fields of kubeconfigs, …), and the very
keys of the cluster, in whatever surroundings a piece of one stands.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

REMOVED = "[removed by xk8s]"

_PIECE = 24
"""Characters of base64 that make a key recognisable: 18 bytes do not meet by chance."""

_BEGIN = r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"
_END = r"-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----"
_PEM = re.compile(rf"{_BEGIN}(?:(?!-----BEGIN )[\s\S]){{0,16384}}?{_END}")
_PEM_PART = re.compile(rf"{_BEGIN}|{_END}")
_PEM_LINE = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}\s*$")
_PEM_LINES = 100

_TOKEN = re.compile(
    r"\beyJ[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_=-]*)*"
    # Not what an event of a pod with a name of six letters is called: name.16f0c2b7a1d3e495
    r"|\b(?![a-z0-9]{6}\.[0-9a-f]{16}\b)[a-z0-9]{6}\.[a-z0-9]{16}\b"
)
"""JSON web tokens, and bootstrap tokens of Kubernetes."""

_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{_PIECE},}}={{0,2}}")
_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@\"']*:)[^@/\s\"']+@")
_VALUES = (
    re.compile(r"(\bBearer\s+)([A-Za-z0-9._~+/=-]{8,})", re.I),
    re.compile(r"(\bAuthorization\\*[\"']?\s*[:=]\s*\\*[\"']?\w+\s+)([^\s\"'\\]+)", re.I),
    re.compile(r"(--token )([^\s\"']+)"),
    re.compile(r"(\"auth\"\s*:\s*\")([^\"]+)"),
    re.compile(
        r"((?<![A-Za-z0-9/])(?:client-key-data|client[-_]secret|id-token|refresh-token|"
        r"access[-_]token|api[-_]?key|private[-_]?key|secret[-_]?(?:access[-_])?key|"
        r"passw(?:or)?d|passphrase|token)"
        r"\\*[\"']?\s*[:=]\s*\\*[\"']?)([^\s\"'\\,;}&]+)",
        re.I,
    ),
)
"""What is before a secret, and the secret."""

_SECRET_NAME = re.compile(
    r"-{0,2}(?:[a-z0-9]+[-_])*(?:client-key-data|secret|token|passw(?:or)?d|passphrase|auth|"
    r"(?:api|private|secret|access)[-_]?key|authorization)",
    re.I,
)


class Scrubber:
    """Call it with a text to get the same without secrets. ``removed`` counts them."""

    def __init__(self, pem_keys: Iterable[str] = ()) -> None:
        """``pem_keys``: private keys that are known, as PEM texts."""
        self._pieces = frozenset(piece for pem in pem_keys for piece in key_pieces(pem))
        self.removed = 0

    def __call__(self, text: str) -> str:
        """Return the text with `REMOVED` in place of each secret."""
        text = _PEM.sub(self._all, text)
        if _PEM_PART.search(text):
            text = self._cut_pem(text)
        text = _BASE64.sub(self._base64, text)
        text = _TOKEN.sub(self._all, text)
        for pattern in _VALUES:
            text = pattern.sub(self._value, text)
        return _URL.sub(lambda match: self._count(f"{match[1]}{REMOVED}@"), text)

    def _count(self, text: str) -> str:
        self.removed += 1
        return text

    def _all(self, _match: re.Match[str]) -> str:
        return self._count(REMOVED)

    def _value(self, match: re.Match[str]) -> str:
        return match[0] if REMOVED.startswith(match[2] + " ") else self._count(match[1] + REMOVED)

    def _cut_pem(self, text: str) -> str:
        """Without keys of which the text has the beginning or the end only: the lines of base64
        behind a BEGIN and before an END go, with whatever stands before them in the line.
        """
        lines = text.splitlines(keepends=True)
        for index, line in enumerate(lines):
            found = _PEM_PART.search(line)
            if found is None:
                continue
            step = 1 if "BEGIN" in found[0] else -1
            lines[index] = self._count(REMOVED) + "\n"
            at = index + step
            while 0 <= at < len(lines) and abs(at - index) <= _PEM_LINES:
                if not _PEM_LINE.search(lines[at]):
                    break
                lines[at] = REMOVED + "\n"
                at += step
        return "".join(lines)

    def _base64(self, match: re.Match[str]) -> str:
        run = match[0]
        if any(run[at : at + _PIECE] in self._pieces for at in range(len(run) - _PIECE + 1)):
            return self._count(REMOVED)
        if len(run) >= 64 and _hides_a_key(run):
            return self._count(REMOVED)
        return run


def names_secret(word: str) -> bool:
    """Return whether a field or an option of this name (``--token``, ``client_secret``) has a
    secret.
    """
    return _SECRET_NAME.fullmatch(word) is not None


def scrub_words(words: Sequence[object]) -> list[object]:
    """Return the words of a command line; one that follows an option for a secret is removed."""
    return [
        REMOVED if before.startswith("-") and names_secret(before) else word
        for before, word in zip(["", *map(str, words)], words, strict=False)
    ]


def key_pieces(pem: str) -> set[str]:
    """Pieces of the base64 of a PEM private key, as they stand in it and in the base64 of all of
    it (as kubeconfigs have it): one of them is in each text that has a line of the key.
    """
    lines = [line.strip() for line in pem.splitlines()]
    body = [line for line in lines if line and not line.startswith("-----")]
    wrapped = base64.b64encode(pem.encode()).decode()
    return {
        text[at : at + _PIECE]
        for text in ("".join(body), wrapped)
        for at in range(len(text) - _PIECE + 1)
    }


def keys_below(directory: Path) -> list[str]:
    """Return the private keys (``*.key``) in a directory, as texts; none if it does not exist."""
    found = []
    for path in sorted(directory.glob("*.key")):
        try:
            found.append(path.read_text())
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _hides_a_key(run: str) -> bool:
    """Return whether base64 has a PEM private key in it (at any of its four alignments)."""
    for shift in range(4):
        text = run[shift:].rstrip("=")
        text = text[: len(text) - len(text) % 4]
        try:
            if b"PRIVATE KEY" in base64.b64decode(text.replace("-", "+").replace("_", "/")):
                return True
        except binascii.Error:
            continue
    return False
