"""No key, token or password gets through, in whatever surroundings it stands."""

from __future__ import annotations

import base64
import gzip
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


AWS = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl-_abc"

LONG_JWT = (
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIiwic3ViIjoieCJ9.c2lnbmF0dXJl"
)
JWT_IN_BASE64 = base64.b64encode(b"ab" + LONG_JWT.encode()).decode()[20:60]


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


def folded(text: str, columns: int, before: str = "") -> str:
    lines = [text[at : at + columns] for at in range(0, len(text), columns)]
    return "".join(f"{before}{line}\n" for line in lines)


@pytest.mark.parametrize("name", ["ca", "sa"])
def test_a_known_key_in_disguise(pki: Path, name: str) -> None:
    pem = (pki / f"{name}.key").read_text()
    der = base64.b64decode(body(pem))
    packed = base64.b64encode(gzip.compress(pem.encode())).decode()
    journal = "Nov 24 vm-001 x[1]: "
    colons = ":".join(f"{byte:02x}" for byte in der)
    dresses = {
        "20 columns": folded(body(pem), 20),
        "20 columns in a journal": folded(body(pem), 20, journal),
        "its base64 in 20 columns": folded(base64.b64encode(pem.encode()).decode(), 20),
        "hex of PEM": pem.encode().hex(),
        "hex of DER": f"x={der.hex()}.",
        "HEX": der.hex().upper(),
        "hex in 60 columns": folded(der.hex(), 60, journal),
        "hex with colons": colons,
        "hex with colons, folded": folded(colons, 45, "    "),
        "hex by words": " ".join(der.hex()[at : at + 4] for at in range(0, 2 * len(der), 4)),
        "gzip": f"data: {packed}",
        "gzip, folded": folded(packed, 76),
        "gzip of DER": base64.b64encode(gzip.compress(der)).decode(),
        "gzip in base64 twice, as Helm has it": base64.b64encode(packed.encode()).decode(),
        "DER elsewhere in base64": base64.b64encode(b"ab" + der).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(b"x" + der).decode(),
    }
    for dress, text in dresses.items():
        scrub = Scrubber(keys_below(pki))
        cleaned = scrub(f"before\n{text}\nand after\n")
        assert scrub.removed, dress
        assert cleaned.startswith("before\n"), dress
        assert cleaned.endswith("\nand after\n"), dress
        left = cleaned.replace(REMOVED, "").replace(journal, "").split()
        # What may remain is a last piece of some bytes.
        assert len("".join(left)) <= len("beforeandafterx=.data:") + 24, (dress, left)


def test_what_all_keys_have_in_common_stays(tmp_path: Path) -> None:
    """A certificate has the name of the curve in it, as each key of that curve has."""
    keys = Keys(tmp_path)
    for name in ("a", "b", "c"):
        keys.ca(name)
    scrub = Scrubber(keys_below(tmp_path))
    assert scrub("oAoGCCqGSM49AwEHoUQDQgAE") == "oAoGCCqGSM49AwEHoUQDQgAE"
    assert scrub.removed == 0


def test_keys_of_a_rotation_are_known_as_well(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("pki", "pki.new", "pki.old", "pki.none")]
    for directory in directories[:3]:
        Keys(directory).ca("ca")
    scrub = Scrubber(keys_below(*directories))
    for directory in directories[:3]:
        line = body((directory / "ca.key").read_text())[10:58]
        assert line not in scrub(line)


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
        ('password: "several words"', "words"),
        ("password: 'several words'", "words"),
        (r'password: "with \" a quote"', "quote"),
        (r"{\"password\": \"several words\"}", "words"),
        ("adminPassword: hunter2", "hunter2"),
        ('"adminPassword":"hunter2"', "hunter2"),
        ("clientSecret: hunter2", "hunter2"),
        ("dbPassword=hunter2", "hunter2"),
        ("DB_PASSWORD=hunter2", "hunter2"),
        ('{"secret": "hunter2"}', "hunter2"),
        ("app --password hunter2 --verbose", "hunter2"),
        ("app --db-password 'several words'", "words"),
        ("app --client-secret hunter2", "hunter2"),
        ("curl -u a:hunter2 https://x", "hunter2"),
        ("curl --user 'a:hunter2' https://x", "hunter2"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c6912E7710c83"),
        ("github_pat_11ABCDEFG0abcdefghijklmn_x", "11ABCDEFG0abcdefghijklmn"),
        ("xoxb-2345678901-abcdefghij", "2345678901"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        (f"AKIAIOSFODNN7EXAMPLE,{AWS}", AWS),
        (f"AKIAIOSFODNN7EXAMPLE {AWS}", AWS),
        (f'{{"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "{AWS}"}}', AWS),
        (f"aws_secret_access_key = {AWS}", AWS),
        (f"data: {base64.b64encode(LONG_JWT.encode()).decode()}", "SUzI1NiIsImtpZCI6IngifQ"),
        (f"in {base64.b64encode(b'ab' + LONG_JWT.encode()).decode()} more", JWT_IN_BASE64),
        ("<password>hunter2</password>", "hunter2"),
        ('<db:adminPassword type="x">several words</db:adminPassword>', "words"),
        ('{"name":"DB_PASSWORD","value":"several words"}', "words"),
        ("- name: DB_PASSWORD\n  value: hunter2", "hunter2"),
        (r"{\"name\":\"API_TOKEN\",\"value\":\"hunter2\"}", "hunter2"),
        ("Cookie: session=hunter2; other=secret2", "secret2"),
        ("< Set-Cookie: session=hunter2; HttpOnly", "hunter2"),
        ('{"Cookie": "session=hunter2"}', "hunter2"),
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
