"""The program that runs programs for the host and keeps the clock right, built from our own source:
Go's standard library alone (directory ``program``); and the keys of the SSH server that it starts
for a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from xk8s.overlay import File, Take
from xk8s.sources import Artifact, GoModule

if TYPE_CHECKING:
    from xk8s.pki import Keys

PROGRAM = "/usr/lib/xk8s/sessions"
UNITS = ("xk8s-sessions.service",)
SOURCES = ("clock.go", "main.go", "messages.go", "port.go", "program.go", "session.go")


def program() -> Artifact:
    """Return a build of our own source, which has no other origin."""
    source = files("xk8s_debian").joinpath("program")
    module = GoModule(
        go_mod=source.joinpath("go.mod").read_text(),
        go_sum="",
        packages={"xk8s-sessions": "xk8s.invalid/sessions"},
        extra_files={name: source.joinpath(name).read_text() for name in SOURCES},
    )
    return Artifact(
        name="xk8s-sessions", version="1", members=("xk8s-sessions",), sources=(module,)
    )


def entry() -> Take:
    """Return the program for a layer."""
    return Take(artifact=program(), member="xk8s-sessions", path=PROGRAM, mode=0o755, units=UNITS)


def secrets(keys: Keys) -> Iterator[File]:
    """Return what /etc/xk8s/sshd_config names. An SSH server reads it for its one connection: new
    keys restart nothing.
    """
    from xk8s.pki import SSH_CLIENT, SSH_SERVER

    for name, data in (
        ("ssh_host_key", keys.ssh_key(SSH_SERVER).key),
        ("ssh_authorized_keys", keys.ssh_key(SSH_CLIENT).cert),
    ):
        yield File(path=f"/etc/xk8s/{name}", data=data, mode=0o600, units=())
