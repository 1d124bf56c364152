from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from xk8s.context import Context
from xk8s.overlay import File, Fragment, Symlink, Take
from xk8s.pki import Keys
from xk8s.sources import DebPackage, OwnDirectory, Release
from xk8s.testing import context_of
from xk8s_etcd import CA, overlay
from xk8s_etcd.artifacts import etcd_artifact
from xk8s_etcd.settings import EtcdSettings
from xk8s_etcd.unit import logged, quote


def context(**settings: Any) -> Context:
    return context_of("etcd", EtcdSettings(**settings))


def entries(ctx: Context) -> dict[str, object]:
    return {e.path: e for layer in overlay.xk8s_layers(ctx) for e in layer.entries}


def test_your_own_directory_comes_first_then_the_release_then_debian():
    kinds = [type(s) for s in etcd_artifact(EtcdSettings(dir="/mine")).sources]
    assert kinds == [OwnDirectory, Release, DebPackage]
    assert OwnDirectory not in [type(s) for s in etcd_artifact(EtcdSettings()).sources]


def test_only_the_control_plane_gets_it():
    ctx = context()
    assert all(layer.roles == {"control-plane"} for layer in overlay.xk8s_layers(ctx))


def test_the_unit_is_enabled_and_has_its_program():
    found = entries(context())
    wanted = found["/etc/systemd/system/multi-user.target.wants/etcd.service"]
    assert isinstance(wanted, Symlink)
    assert wanted.target in found
    assert isinstance(found["/usr/bin/etcd"], Take)


def test_clients_and_peers_need_certificates_and_nothing_listens_in_the_clear():
    unit = entries(context())["/etc/systemd/system/etcd.service"]
    assert isinstance(unit, File)
    text = unit.data.decode()
    assert "http://" not in text
    for flag in ("--client-cert-auth=true", "--peer-client-cert-auth=true"):
        assert flag in text
    assert "Type=notify" in text


def test_arguments_of_the_user_come_last_and_literally():
    unit = entries(context(args=("--log-level=debug", "--name=100% $x")))
    file = unit["/etc/systemd/system/etcd.service"]
    assert isinstance(file, File)
    command = file.data.decode().split("ExecStart=")[1].split("\nSyslogIdentifier")[0]
    assert command.splitlines()[-1].strip() == '"--name=100%% $$x"'
    assert "--log-level=debug" in command


@pytest.mark.parametrize("directory", ["data", "pki"])
def test_secrets_are_for_the_control_plane_and_without_the_authoritys_key(tmp_path, directory):
    ctx, keys = context(), Keys(tmp_path / directory)
    control, worker, *_ = ctx.nodes
    assert not list(overlay.xk8s_secrets(ctx, worker, keys))
    files = {file.path: file for file in overlay.xk8s_secrets(ctx, control, keys)}
    assert all(f.mode == 0o600 for f in files.values() if b"PRIVATE KEY" in f.data)
    assert keys.ca(CA).key not in [f.data for f in files.values()]
    server = x509.load_pem_x509_certificate(files["/etc/etcd/pki/server.crt"].data)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--a=b", "--a=b"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("a\nb", '"a\\nb"'),
        (";", '";"'),
    ],
)
def test_quote(word, quoted):
    assert quote(word) == quoted


def test_logged_keeps_the_program_as_main_process():
    text = logged("/usr/bin/x", "/var/log/x.log", ["--a", "${B}"])
    assert text.startswith("/bin/bash -c 'exec ")
    assert text.splitlines()[0].endswith("/usr/bin/x \\") or "/usr/bin/x" in text
    assert "${B}" in text


def test_arguments_of_other_overlays_come_before_the_users():
    ctx = context(args=("--mine=1",))
    fragment = Fragment(point="etcd.args", value="--theirs=%")
    ctx = evolve(ctx, all_fragments={"etcd.args": (fragment,)})
    unit = entries(ctx)["/etc/systemd/system/etcd.service"]
    assert isinstance(unit, File)
    text = unit.data.decode()
    assert text.index("--snapshot-count") < text.index("--theirs=%%") < text.index("--mine=1")
