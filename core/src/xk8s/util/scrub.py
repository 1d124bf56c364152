"""Takes keys, tokens and passwords out of texts that leave the machine, and out of logs.

Two nets: forms that secrets have (PEM, JWT, "Bearer …", fields whose names say password, …), and
the very keys of the cluster, in whatever surroundings a piece of one stands.

Guests write what it reads, so that no pattern may take long on any text: lines are cut first, and
each pattern is linear in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from xk8s.util.known_keys import KnownKeys, keys_below
from xk8s.util.lines import cut_lines

REMOVED = "[removed by xk8s]"

_BEGIN = r"-----BEGIN (?:[A-Z0-9]{1,30} ){0,4}PRIVATE KEY-----"
_END = r"-----END (?:[A-Z0-9]{1,30} ){0,4}PRIVATE KEY-----"
_PEM = re.compile(rf"{_BEGIN}(?:(?!-----BEGIN )[\s\S]){{0,16384}}?{_END}")
_PEM_PART = re.compile(rf"{_BEGIN}|{_END}")
_PEM_LINE = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")
_PEM_LINES = 100

_TOKEN = re.compile(
    r"\beyJ[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_=-]*)*"
    # Not what an event of a pod with a name of six letters is called: name.16f0c2b7a1d3e495
    r"|\b(?![a-z0-9]{6}\.[0-9a-f]{16}\b)[a-z0-9]{6}\.[a-z0-9]{16}\b"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|npm_|pypi-|dckr_pat_|hvs\.|sk-)"
    r"[A-Za-z0-9_-]{16,}"
    # An access key of AWS, and the secret that follows it.
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b(?:[^A-Za-z0-9/+=]{1,8}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+]))?"
)
"""JSON web tokens, bootstrap tokens of Kubernetes, and what is recognised by how it begins."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX = re.compile(r"[0-9A-Fa-f](?:[0-9A-Fa-f: ]){38,}[0-9A-Fa-f]")
_LINE_END = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}|(?:[0-9A-Fa-f]{2}:){3,}[0-9A-Fa-f]{0,2}")
_BLOCK_LINES = 2000
"""Lines of base64 that are one text, folded."""

_URL = re.compile(r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://[^/\s:@\"']{0,256}:)[^@/\s\"']+@")
_NAME = (
    r"(?<!/)(?:client-key-data|id-token|refresh-token|access[-_]?token|api[-_]?key|private[-_]?key|"
    r"(?<=[a-z0-9_-])secret|secret[-_]?(?:access[-_]?)?key|passw(?:or)?d|passphrase|"
    r"token)"
)
_VALUE = (
    r"(?:(\")((?:[^\"\\\n]|\\.)*)|(')([^'\n]*)|(\\+[\"'])([^\"'\\\n]*)|"
    r"()((?:[^\s\"'\\]|\\(?![\"'\\]))+))"
)
"""A value: in quotes, in quotes that are quoted themselves, or up to a blank."""


def _value_after(before: str) -> re.Pattern[str]:
    return re.compile(f"({before}){_VALUE}", re.I)


_VALUES = (
    re.compile(r"(\bBearer\s+)([A-Za-z0-9._~+/=-]{8,})", re.I),
    re.compile(r"(\bAuthorization\\*[\"']?\s*[:=]\s*\\*[\"']?\w+\s+)([^\s\"'\\]+)", re.I),
    re.compile(r"(\b(?:Set-)?Cookie\\*[\"']?[ \t]*[:=][ \t]*\\*[\"']?)([^\"'\\\n]+)", re.I),
    _value_after(rf"{_NAME}\\*[\"']?\s*[:=]\s*"),
    _value_after(r"[\"']secret\\*[\"'][ \t]*:[ \t]*"),
    _value_after(rf"(?<![\w-])--?(?:[a-z0-9]{{1,30}}-){{0,6}}(?:{_NAME}|secret)[ \t]+(?!-)"),
    # {"name": "DB_PASSWORD", "value": "…"}, and the same as YAML, as in the env of a container
    _value_after(
        rf"\bname\\*[\"']?[ \t]*:[ \t]*\\*[\"']?[\w.-]{{0,64}}{_NAME}[\w.-]{{0,64}}"
        r"\\*[\"']?\s{0,99},?\s{0,99}\\*[\"']?value\\*[\"']?[ \t]*:[ \t]*"
    ),
    re.compile(
        r"((?:\s-u|--user|--proxy-user)[ \t=]*[\"']?(?!\d+:\d+\b)[^\s\"':]{1,256}:)([^\s\"']+)"
    ),
    re.compile(r"(\"auth\"\s*:\s*\")([^\"]+)"),
    re.compile(rf"(<[\w:.-]{{0,64}}{_NAME}(?:\s[^<>]{{0,256}})?>)([^<]+)", re.I),
)
"""What is before a secret, and the secret."""

_SECRET_NAME = re.compile(
    r"-{0,2}(?:[a-z0-9]+[-_])*(?:client-key-data|secret|token|passw(?:or)?d|passphrase|auth|"
    r"(?:api|private|secret|access)[-_]?key|authorization)",
    re.I,
)
_SECRET_ENDS = ("Password", "Passwd", "Passphrase", "Secret", "Token", "ApiKey", "PrivateKey")
_MAX_NAME = 200
"""Characters of a name: longer ones are none."""


class Scrubber:
    """Call it with a text to get the same without secrets. ``removed`` counts them."""

    def __init__(self, pem_keys: Iterable[str] = ()) -> None:
        """``pem_keys``: private keys that are known, as PEM texts."""
        self._keys = KnownKeys(pem_keys)
        self.removed = 0

    def __call__(self, text: str) -> str:
        """Return the text with `REMOVED` in place of each secret, and its lines cut."""
        text = cut_lines(text)
        text = _PEM.sub(self._all, text)
        if _PEM_PART.search(text):
            text = self._cut_pem(text)
        text = self._cut_blocks(text)
        text = _BASE64.sub(self._base64, text)
        text = _HEX.sub(self._hex, text)
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
        *groups, value = [group for group in match.groups() if group is not None]
        if not value.strip() or value == REMOVED or REMOVED.startswith(value + " "):
            return match[0]
        return self._count("".join(groups) + REMOVED)

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
                if not _PEM_LINE.fullmatch(_last_word(lines[at])):
                    break
                lines[at] = REMOVED + "\n"
                at += step
        return "".join(lines)

    def _cut_blocks(self, text: str) -> str:
        """Without base64 or hex that is folded over lines, and has a key in it as a whole."""
        lines = text.split("\n")
        block: list[int] = []
        changed = False
        for index, line in enumerate([*lines, ""]):
            if len(block) < _BLOCK_LINES and _LINE_END.fullmatch(_last_word(line)):
                block.append(index)
                continue
            if len(block) > 1 and self._folded(
                "".join(_last_word(lines[at]).replace(":", "") for at in block)
            ):
                for at in block:
                    lines[at] = REMOVED
                self._count("")
                changed = True
            block = []
        return "\n".join(lines) if changed else text

    def _folded(self, run: str) -> bool:
        return self._keys.in_text(run) or self._keys.hidden_in(run)

    def _base64(self, match: re.Match[str]) -> str:
        run = match[0]
        if self._keys.in_text(run) or (len(run) >= 64 and self._keys.hidden_in(run)):
            return self._count(REMOVED)
        return run

    def _hex(self, match: re.Match[str]) -> str:
        digits = match[0].replace(":", "").replace(" ", "")
        return self._count(REMOVED) if self._folded(digits) else match[0]


def names_secret(word: str) -> bool:
    """Return whether a field or an option of this name (``--token``, ``client_secret``,
    ``adminPassword``) has a secret.
    """
    word = word[-_MAX_NAME:]
    return word.endswith(_SECRET_ENDS) or _SECRET_NAME.fullmatch(word) is not None


def scrub_words(words: Sequence[object]) -> list[object]:
    """Return the words of a command line; one that follows an option for a secret is removed."""
    return [
        REMOVED if before.startswith("-") and names_secret(before) else word
        for before, word in zip(["", *map(str, words)], words, strict=False)
    ]


def _last_word(line: str) -> str:
    words = line.rsplit(None, 1)
    return words[-1].rstrip("\"\\',") if words else ""


__all__ = ["REMOVED", "Scrubber", "keys_below", "names_secret", "scrub_words"]
