"""No key, token or password gets through, in whatever surroundings it stands."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.pki import Keys
from xk8s.util.scrub import REMOVED, Scrubber, keys_below


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real keys: an EC one of an authority, and an RSA one that signs tokens."""
    directory = tmp_path_factory.mktemp("pki")
    keys = Keys(directory)
    keys.ca("ca")
    keys.signing_key("sa")
    return directory


def body(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


def leaks(text: str, pem: str) -> bool:
    """Whether 20 characters in a row of the key are in the text."""
    whole = (body(pem), base64.b64encode(pem.encode()).decode())
    return any(key[at : at + 20] in text for key in whole for at in range(len(key) - 20))


JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl-_abc"


@pytest.mark.parametrize("name", ["ca", "sa"])
@pytest.mark.parametrize("known", [True, False])
def test_a_private_key_in_every_dress(pki: Path, name: str, known: bool) -> None:
    pem = (pki / f"{name}.key").read_text()
    lines = pem.splitlines()
    scrub = Scrubber(keys_below(pki) if known else ())
    dresses = {
        "pem": f"before\n{pem}after\n",
        "journal": "\n".join(f"Nov 24 vm-001 x[1]: {line}" for line in lines) + "\nlater\n",
        "json": json.dumps({"key": pem, "other": "kept"}),
        "twice quoted": json.dumps({"msg": json.dumps({"key": pem})}),
        "kubeconfig": f"  client-key-data: {base64.b64encode(pem.encode()).decode()}\n",
        "base64": f"x {base64.b64encode(pem.encode()).decode()} y",
        "in base64 of more": base64.b64encode(f"ab {pem}".encode()).decode(),
        "head": "x\n" + "\n".join(lines[:-2]) + "\n",
        "tail": "\n".join(lines[2:]) + "\nx\n",
        "journal's head": "\n".join(f"Nov 24 x[1]: {line}" for line in lines[:-1]) + "\n",
    }
    for dress, text in dresses.items():
        assert leaks(text, pem)
        cleaned = scrub(text)
        assert not leaks(cleaned, pem), dress
        assert REMOVED in cleaned
    assert scrub.removed >= len(dresses)
    assert scrub(dresses["pem"]).startswith("before\n")
    assert "after" in scrub(dresses["pem"])
    assert '"other": "kept"' in scrub(dresses["json"])
    assert "later" in scrub(dresses["journal"])


def test_a_line_of_a_known_key_alone(pki: Path) -> None:
    scrub = Scrubber(keys_below(pki))
    for pem in keys_below(pki):
        for line in body(pem)[:48], body(pem)[10:40], body(pem)[-30:]:
            assert line not in scrub(f"a log: {line}!")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"token: {JWT}", JWT),
        (f'{{"status": "{JWT}"}}', JWT.split(".")[1]),
        (f"cut off: {JWT[:60]}", JWT[:60]),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ('{"Authorization":"Basic dXNlcjpwYXNz"}', "dXNlcjpwYXNz"),
        ("curl -H 'authorization: bearer 31d6cfe0d16ae931b73c59d7e0c089c0'", "31d6cfe0d16ae931"),
        ("password=hunter2!", "hunter2!"),
        ('  password: "s"', '"s"'),
        (r"{\"passwd\":\"hunter2\"}", "hunter2"),
        ("kubeadm join --token abcdef.0123456789abcdef", "0123456789abcdef"),
        ("--token=verysecret", "verysecret"),
        ("a bootstrap token: k3j9x2.0123456789uvwxyz", "0123456789uvwxyz"),
        ("https://user:hunter2@registry.example/v2/", "hunter2"),
        ('{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}', "dXNlcjpwYXNz"),
        ("aws_secret_access_key = wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("refresh-token: 1//0abc", "1//0abc"),
    ],
)
def test_tokens_and_passwords(text: str, secret: str) -> None:
    scrub = Scrubber()
    assert secret not in scrub(text)
    assert scrub.removed


def test_what_is_no_secret_stays() -> None:
    scrub = Scrubber()
    text = Path(__file__).parent.joinpath("logs", "plain.txt").read_text()
    assert scrub(text) == text
    assert scrub.removed == 0


def test_scrubbing_twice_changes_nothing_more(pki: Path) -> None:
    scrub = Scrubber(keys_below(pki))
    once = scrub(f"token: {JWT}\npassword=x\nhttps://u:p@h/\n{(pki / 'ca.key').read_text()}")
    assert scrub(once) == once


@given(st.text(), st.text())
@settings(max_examples=200)
def test_any_surroundings(before: str, after: str) -> None:
    body = "MHcCAQEEIIrYSSNQFaA2Hwf1duRS" * 4
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----"
    assert "MHcCAQEEIIrYSSNQFaA2Hwf1duRS" not in Scrubber()(before + pem + after)


def test_a_large_log_comes_through() -> None:
    line = f"2026-11-24T05:45:19+00:00 vm-001 kubelet[1]: {secrets.token_hex(32)} /var/lib/x\n"
    key = "-----BEGIN PRIVATE KEY-----\n" + "QUJD" * 16 + "\n-----END PRIVATE KEY-----\n"
    assert Scrubber([key])(line * 30000) == line * 30000
