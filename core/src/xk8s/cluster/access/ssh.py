"""What SSH clients of this machine need to reach the nodes of a cluster without any network."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from xk8s.cluster.handle import Cluster
from xk8s.cluster.state.secrets import PKI
from xk8s.pki import SSH_CLIENT, SSH_SERVER
from xk8s.util.paths import write_private

SERVER = "/usr/lib/xk8s/sshd"
"""What the base runs for one connection, on its standard input and output."""
CONFIG, KNOWN_HOSTS = "ssh_config", "ssh_known_hosts"
"""Files below the cluster's state."""

_PLACES = ("XK8S_STATE", "XK8S_RUNTIME")


def host_name(cluster: str, node: str) -> str:
    """Return the name that a node has for SSH clients."""
    return f"{cluster}-{node}"


def write_known_hosts(cluster: Cluster) -> Path:
    """Write the key by which all nodes of the cluster are known, as it is now."""
    path = cluster.state_dir / KNOWN_HOSTS
    public = cluster.keys.ssh_key(SSH_SERVER).cert.decode()
    line = f"{_alias(cluster)} {public}".encode()
    if not path.exists() or path.read_bytes() != line:
        write_private(path, line)
    return path


def write_config(cluster: Cluster) -> Path:
    """Write `config` with what it refers to; return the file."""
    path = cluster.state_dir / CONFIG
    write_known_hosts(cluster)
    cluster.keys.ssh_key(SSH_CLIENT)
    write_private(path, config(cluster).encode())
    return path


def config(cluster: Cluster) -> str:
    """Return the text for ssh_config(5)."""
    state = cluster.state_dir.absolute()
    nodes = [node.name for node in cluster.record.nodes]
    names = [host_name(cluster.name, node) for node in nodes]
    lines = [f"# Cluster {cluster.name!r} of xk8s: written by `xk8s ssh-config`."]
    for name, node in zip(names, nodes, strict=True):
        lines += [f"Host {name}", f"    HostName {node}"]
    lines += [
        f"Host {' '.join(names)}",
        "    User root",
        f"    ProxyCommand {_percent(shlex.join(_proxy(cluster)))} %h",
        f"    HostKeyAlias {_alias(cluster)}",
        f"    UserKnownHostsFile {_quoted(state / KNOWN_HOSTS)}",
        "    GlobalKnownHostsFile /dev/null",
        "    StrictHostKeyChecking yes",
        f"    IdentityFile {_quoted(state / PKI / f'{SSH_CLIENT}.key')}",
        "    IdentitiesOnly yes",
        "    PreferredAuthentications publickey",
    ]
    return "\n".join(lines) + "\n"


def _proxy(cluster: Cluster) -> Sequence[str]:
    places = [
        f"{name}={Path(os.environ[name]).absolute()}" for name in _PLACES if os.environ.get(name)
    ]
    program = [sys.executable, "-m", "xk8s.cli", "--name", cluster.name, "ssh", "--proxy"]
    return [*(["env", *places] if places else []), *program]


def _alias(cluster: Cluster) -> str:
    return f"xk8s-{cluster.name}"


def _quoted(path: Path) -> str:
    return f'"{_percent(str(path))}"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")
