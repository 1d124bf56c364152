"""A host with a LAN, a metadata service and the internet, in network namespaces of its own: nothing
in it leads out of it. Run as root in a new network and mount namespace (see `argv`).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PORT = 8000
INTERNET, LAN, PRIVATE, CARRIER = "1.2.3.4", "172.20.0.2", "10.9.9.9", "100.64.0.9"
METADATA, HOST_LAN, HOST_PUBLIC, HOST_LATER = "169.254.169.254", "172.20.0.1", "5.6.7.8", "5.6.7.9"
LOOPBACK, RESOLVER = "192.168.255.2", "192.168.255.3"
"""How guests would reach the host's 127.0.0.1, and its resolver."""
ALL = {INTERNET, LAN, PRIVATE, CARRIER, METADATA, HOST_LAN, HOST_PUBLIC, HOST_LATER,
       LOOPBACK}  # fmt: skip
TRIED = {*ALL, RESOLVER}
ANSWER = bytes([93, 184, 216, 34])


def argv(*words: str) -> list[str]:
    """Return how to run Python with these words in there."""
    user = () if os.geteuid() == 0 else ("-U", "-r")
    return ["unshare", *user, "-n", "-m", sys.executable, *words]


def lacks() -> str | None:
    """Return why this machine cannot, or None."""
    for program in ("ip", "unshare", "nsenter", "slirp4netns"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    done = subprocess.run(argv("-c", "pass"), capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no namespaces: {done.stderr.strip()}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def inside(pid: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the network namespace of a process."""
    return subprocess.run(
        ["nsenter", "-t", str(pid), "-n", *words], capture_output=True, text=True, check=False
    )


@contextmanager
def namespace() -> Iterator[int]:
    """A network namespace, as long as the block runs: the pid of a process in it."""
    code = "import sys;print(flush=True);sys.stdin.read()"
    child = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


_SERVE = f"""
import socket, sys, threading
def serve(server):
    while True:
        stream, _ = server.accept()
        stream.sendall(b"hello")
        stream.close()
for address in sys.argv[1:]:
    server = socket.create_server((address, {PORT}))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(*addresses: str, pid: int | None = None) -> Iterator[None]:
    """Servers that say hello to everybody, there or in the namespace of a process."""
    enter = [] if pid is None else ["nsenter", "-t", str(pid), "-n"]
    child = subprocess.Popen(
        [*enter, sys.executable, "-c", _SERVE, *addresses],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"\n"
    try:
        yield
    finally:
        child.kill()
        child.wait()


@contextmanager
def world() -> Iterator[None]:
    """The host, where this process is, and all around it. Its resolver is on 127.0.0.53."""
    ip("link", "set", "lo", "up")
    resolv = Path(f"/tmp/xk8s-resolv-{os.getpid()}")
    resolv.write_text("nameserver 127.0.0.53\n")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    real = Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", str(resolv), str(real)], check=True)
    resolv.unlink()
    with namespace() as outside:
        ip("link", "add", "lan0", "type", "veth", "peer", "name", "world0", "netns", str(outside))
        for address in (f"{HOST_LAN}/24", f"{HOST_PUBLIC}/32"):
            ip("address", "add", address, "dev", "lan0")
        ip("link", "set", "lan0", "up")
        inside(outside, "ip", "link", "set", "lo", "up")
        theirs = (LAN, INTERNET, PRIVATE, CARRIER, METADATA)
        for address in theirs:
            length = 24 if address == LAN else 32
            inside(outside, "ip", "address", "add", f"{address}/{length}", "dev", "world0")
        inside(outside, "ip", "link", "set", "world0", "up")
        ip("route", "add", "default", "via", LAN)
        threading.Thread(target=_resolve, daemon=True).start()
        with serving(*theirs, pid=outside), serving("127.0.0.1", "127.0.0.53", HOST_LAN,
                                                    HOST_PUBLIC):  # fmt: skip
            yield


def later() -> None:
    """Give the host one address more, with a server."""
    ip("address", "add", f"{HOST_LATER}/32", "dev", "lan0")


def _resolve() -> None:
    """Answer every question of DNS with one address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.53", 53))
        while True:
            query, peer = server.recvfrom(4096)
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + ANSWER
            question = query[12 : query.index(b"\0", 12) + 5]
            server.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + answer, peer)


CONNECT = """
import json, socket, sys
def hello(address):
    try:
        with socket.create_connection((address, 8000), timeout=20) as stream:
            return stream.recv(5) == b"hello"
    except OSError:
        return False
def resolved():
    query = b"ab\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1x\\4test\\0\\0\\1\\0\\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        try:
            client.connect(("192.168.255.3", 53))
            for _ in range(5):
                client.send(query)
                try:
                    return client.recv(4096).endswith(bytes([93, 184, 216, 34]))
                except TimeoutError:
                    pass
        except OSError:
            pass
        return False
reached = [address for address in sys.argv[1:] if hello(address)]
print(json.dumps({"reached": reached, "resolved": resolved()}))
"""
"""What a guest runs: which addresses say hello, and whether names are resolved."""


def wait_for(what: Sequence[str], pid: int) -> None:
    """Return when a command succeeds in a namespace."""
    while inside(pid, *what).returncode != 0:
        time.sleep(0.05)
