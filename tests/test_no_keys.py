"""Keys are never in git, and never in a layer that clusters share."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from xk8s.build.layers.build import LayerStore
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cluster.state.secrets import flat, secrets
from xk8s.names.request import Request
from xk8s.overlay import Take
from xk8s.pki import Keys
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
TOKEN = re.compile(rb"eyJhbGciOi[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")


def keys_in(data: bytes) -> list[bytes]:
    """Private keys and signed tokens. A text about keys has none that can be read."""
    found = [match.group() for match in TOKEN.finditer(data)]
    for match in BLOCK.finditer(data):
        openssh = b"BEGIN OPENSSH" in match.group()
        try:
            (load_ssh_private_key if openssh else load_pem_private_key)(match.group(), None)
        except TypeError:
            pass  # encrypted: a key all the same
        except ValueError:
            continue
        found.append(match.group())
    return found


@pytest.fixture(scope="module")
def plan() -> Plan:
    overlays = ("kubernetes", "containerd", "coredns", "externalip")
    return make_plan(Request(overlays=overlays, environment={}))


def test_keys_are_found_where_there_are_some(plan: Plan, tmp_path: Path) -> None:
    files = flat(secrets(plan, plan.nodes[0].node, Keys(tmp_path / "pki")))
    image = tmp_path / "image"
    make_node_image(files, image)
    found = keys_in(image.read_bytes())
    assert len(found) >= 9
    assert [key for key in found if b"BEGIN OPENSSH" in key]
    token = b".".join((b"eyJhbGciOiJSUzI1NiIsImtpZCI6", b"eyJhdWQiOlsiaHR0cHM6", b"c2lnbmF0" * 4))
    assert keys_in(b"token: " + token)
    assert not keys_in(b"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----")


def test_no_key_is_in_git() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git repository")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    assert "tests/test_no_keys.py" in names or len(names) > 100
    for name in names:
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            assert path.suffix not in {".key", ".p12", ".pfx"}, name
            if path.resolve() != Path(__file__).resolve():
                assert not keys_in(path.read_bytes()), name


def test_no_key_is_in_a_shared_layer(plan: Plan, tmp_path: Path) -> None:
    """Of those that the overlays' own files make: what comes from elsewhere (the base system,
    programs) is the same for everybody. A cluster test looks for its keys in all of them.
    """
    keys = Keys(tmp_path / "pki")
    for planned in plan.nodes:
        secrets(plan, planned.node, keys)  # made before, as in a cluster that is started again
    store = LayerStore(tmp_path / "cache")
    built = 0
    for planned_layer in plan.layers:
        layer = planned_layer.layer
        if layer.image is None and not any(isinstance(entry, Take) for entry in layer.entries):
            image = store.build(layer, {}).path
            assert not keys_in(image.read_bytes()), layer.name
            built += 1
    assert built >= 4


def test_no_key_is_in_the_plan(plan: Plan) -> None:
    import json

    assert not keys_in(json.dumps(plan.to_json()).encode())
    for planned in plan.nodes:
        for file in planned.files:
            assert not keys_in(file.data), file.path
