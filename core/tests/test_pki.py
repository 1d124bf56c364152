"""Keys of a cluster: made once, private, and they verify."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store
from xk8s.pki import Keys, describe


def test_server_certificate_verifies_for_its_names(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "pki")
    pair = keys.cert(
        "ca", "api", common_name="api", sans=("kubernetes.default.svc", "10.96.0.1"), server=True
    )
    ca = x509.load_pem_x509_certificate(keys.ca("ca").cert)
    leaf = x509.load_pem_x509_certificate(pair.cert)
    verifier = (
        PolicyBuilder()
        .store(Store([ca]))
        .build_server_verifier(x509.DNSName("kubernetes.default.svc"))
    )
    assert verifier.verify(leaf, [])[0] == leaf
    public = load_pem_private_key(pair.key, None).public_key()
    assert public == leaf.public_key()


def test_files_are_private_and_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    first = Keys(directory).signing_key("sa")
    assert Keys(directory).signing_key("sa") == first
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_two_clusters_share_no_key(tmp_path: Path) -> None:
    assert Keys(tmp_path / "a").ca("ca") != Keys(tmp_path / "b").ca("ca")


def test_key_is_not_in_the_representation(tmp_path: Path) -> None:
    assert "PRIVATE" not in repr(Keys(tmp_path).ca("ca"))


def test_what_is_there_is_described_without_its_private_keys(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.signing_key("sa")
    keys.cert("ca", "api", common_name="api", sans=("localhost", "::1"), server=True)
    before = {path: path.stat().st_atime_ns for path in tmp_path.glob("*.key")}
    authority, leaf, signing = describe(tmp_path)
    assert (authority.name, authority.kind, authority.subject) == ("ca", "authority", "CN=ca")
    assert (leaf.kind, leaf.issuer, leaf.sans) == ("certificate", "CN=ca", ("localhost", "::1"))
    assert (signing.name, signing.kind, signing.not_after) == ("sa", "signing key", None)
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", tmp_path / "api.crt"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.strip().rpartition("=")[2].replace(":", "").lower() == leaf.sha256
    assert {path: path.stat().st_atime_ns for path in before} == before
