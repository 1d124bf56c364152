"""Holds a network namespace open and acts inside it; run as a program, never imported by others.

``unshare -U -c --keep-caps -n python3 -I -S holder.py SOCKET`` (``unshare -n …`` for root). It
listens on the unix socket SOCKET (0600) and answers JSON lines; file descriptors travel beside
them (SCM_RIGHTS). Only the standard library: it starts in some 30 ms and needs no virtualenv.

Requests are ``{"op": NAME, …}``, answers ``{"ok": true, …}`` or ``{"ok": false, "error": TEXT,
"errno": NUMBER}``. Every connection has its own thread: a slow dial delays nobody.
"""

from __future__ import annotations

import array
import errno
import fcntl
import importlib.util
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xk8s.machine.net import relay
else:
    # By its path: this file runs without the package.
    _spec = importlib.util.spec_from_file_location("relay", Path(__file__).with_name("relay.py"))
    relay = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(relay)

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
MAX_REQUEST = 4 << 20
GRACE = 2.0
"""Seconds that a command gets to end by SIGTERM when its client is gone."""

_warnings: list[str] = []
_running: set[subprocess.Popen[bytes]] = set()
_forwards = relay.Forwards()
_held: list[int] = []


def main() -> None:
    """Set the namespace up, then serve until asked to quit."""
    path = Path(sys.argv[1])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ip("link", "set", "lo", "up")
    # The namespace plays "the outside": it must not filter or rewrite what the nodes do.
    for name in ("arptables", "iptables", "ip6tables"):
        sysctl(f"net/bridge/bridge-nf-call-{name}", "0")
    for name in ("all", "default"):
        sysctl(f"net/ipv4/conf/{name}/rp_filter", "0")
        # ipv6.disable_ipv6=1 for the host's kernel is the default of new namespaces, too.
        sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0")
        sysctl(f"net/ipv6/conf/{name}/accept_dad", "0")
        sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    # Between its networks it forwards nothing, whatever the host does: `do_outside` says where.
    sysctl("net/ipv4/conf/all/forwarding", "0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        os.umask(0o177)
        server.bind(str(path))
        os.umask(0o022)
        server.listen(1024)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


class Peer:
    """One connection: requests come in as JSON lines, descriptors beside them."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.fds: list[int] = []
        self._buffer = b""

    def receive(self) -> dict[str, Any] | None:
        """One request, or None at the end of the stream; its descriptors are in ``fds``."""
        while not self.pending:
            chunk, received, _, _ = socket.recv_fds(self.socket, 65536, 8)
            for fd in received:
                os.set_inheritable(fd, False)  # recv_fds of Python 3.11 ignores its flags
                self.fds.append(fd)
            if not chunk:
                return None
            self._buffer += chunk
            if len(self._buffer) > MAX_REQUEST:
                raise ValueError("request too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        request = json.loads(line)
        if not isinstance(request, dict):
            raise TypeError("a request is a JSON object")
        return request

    @property
    def pending(self) -> bool:
        """Whether a whole request has already been read from the socket."""
        return b"\n" in self._buffer

    def answer(self, *fds: int, ok: bool = True, **fields: Any) -> bool:
        """Send one answer; False when the peer is gone."""
        data = json.dumps({"ok": ok, **fields}).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self.socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            self.socket.sendall(data[sent:])
        except OSError:
            return False
        return True

    def close_fds(self) -> None:
        """Close what the peer sent."""
        while self.fds:
            os.close(self.fds.pop())


def serve(connection: socket.socket) -> None:
    """Answer one connection until its peer is gone. Nothing it sends ends the holder."""
    peer = Peer(connection)
    with connection:
        try:
            while (request := peer.receive()) is not None and perform(peer, request):
                peer.close_fds()
        except (ValueError, TypeError, OSError) as error:
            peer.answer(ok=False, error=f"invalid request: {error}", errno=errno.EINVAL)
        finally:
            peer.close_fds()


def perform(peer: Peer, request: dict[str, Any]) -> bool:
    """Carry one request out; False when its peer is gone."""
    try:
        operation = OPERATIONS.get(str(request.get("op")))
        if operation is None:
            raise ValueError(f"unknown operation {request.get('op')!r}")
        return operation(peer, request)
    except TimeoutError as error:  # Python's own has no errno
        return peer.answer(ok=False, error=str(error), errno=errno.ETIMEDOUT)
    except OSError as error:
        text = error.strerror or str(error)
        text = f"{error.filename}: {text}" if error.filename else text
        return peer.answer(ok=False, error=text, errno=error.errno or errno.EIO)
    except Exception as error:  # whatever a request did wrong: say so and continue
        text = f"{type(error).__name__}: {error}"
        return peer.answer(ok=False, error=text, errno=errno.EINVAL)


# --- what can be asked ------------------------------------------------------------------


def do_ping(peer: Peer, _request: dict[str, Any]) -> bool:
    """{} -> pid of the holder, warnings of its set-up."""
    return peer.answer(pid=os.getpid(), warnings=_warnings)


def do_bridge(peer: Peer, request: dict[str, Any]) -> bool:
    """{name, mac, mtu, addresses: [CIDR]} -> {}. The MAC is pinned: by default a bridge takes
    the lowest one of its ports, and changes it when a VM comes or goes.
    """
    name = interface(request["name"])
    # No multicast snooping: with no querier it drops IPv6 neighbour discovery after a while.
    ip("link", "add", name, "type", "bridge",
       "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")  # fmt: skip
    try:
        ip("link", "set", name, "address", str(request["mac"]), "mtu", str(int(request["mtu"])))
        sysctl(f"net/ipv6/conf/{name}/accept_dad", "0")
        sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
        for address in request["addresses"]:
            flags = ("nodad",) if ":" in address else ()
            ip("address", "add", str(address), "dev", name, *flags)
        ip("link", "set", name, "up")
    except BaseException:
        ip("link", "del", name)
        raise
    return peer.answer()


def do_route(peer: Peer, request: dict[str, Any]) -> bool:
    """{destination: CIDR, via: address} -> {}; an existing route is replaced."""
    destination, via = str(request["destination"]), str(request["via"])
    family = "-6" if ":" in destination else "-4"
    ip(family, "route", "replace", destination, "via", via)
    return peer.answer()


def do_tap(peer: Peer, request: dict[str, Any]) -> bool:
    """{name, bridge, mtu, isolated} -> {} and one descriptor. The tap is gone when its last
    descriptor is closed. Isolated: it reaches the bridge's own addresses, not the other VMs.
    """
    name, bridge = interface(request["name"]), interface(request["bridge"])
    fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        except OSError as error:
            raise OSError(error.errno, f"tap {name}: {error.strerror}") from None
        # A port of a bridge: an address of its own would answer in the VM's place.
        sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        ip("link", "set", name, "mtu", str(int(request["mtu"])), "master", bridge)
        if request["isolated"]:
            ip("link", "set", "dev", name, "type", "bridge_slave", "isolated", "on")
        ip("link", "set", name, "up")
        return peer.answer(fd)
    finally:
        os.close(fd)


def do_dial(peer: Peer, request: dict[str, Any]) -> bool:
    """{address, port, timeout} -> {} and a connected, blocking TCP socket."""
    address, port = str(request["address"]), int(request["port"])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.inet_pton(family, address.partition("%")[0])  # no names: no resolver in here
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(float(request["timeout"]))
        stream.connect((address, port))
        stream.setblocking(True)  # the flag belongs to the open file, so the client shares it
        return peer.answer(stream.fileno())


def do_listen(peer: Peer, request: dict[str, Any]) -> bool:
    """{address} -> {port} and a TCP socket that listens there, inside of the namespace."""
    with socket.create_server((str(request["address"]), 0)) as server:
        return peer.answer(server.fileno(), port=server.getsockname()[1])


def do_forwarded(peer: Peer, request: dict[str, Any]) -> bool:
    """{address, port} -> {host_port}: where the host's forward to it listens, or null."""
    target = str(request["address"]), int(request["port"])
    return peer.answer(host_port=_forwards.host_port(target))


def do_forward(peer: Peer, request: dict[str, Any]) -> bool:
    """{address, port} and a socket that listens on the host -> {}. Who connects to it is connected
    to that address in here: a socket stays in the namespace in which it was made.
    """
    if len(peer.fds) != 1:
        raise ValueError(f"forward takes 1 descriptor, not {len(peer.fds)}")
    target = str(request["address"]), int(request["port"])
    _forwards.add(socket.socket(fileno=peer.fds.pop()), target)
    return peer.answer()


def do_forget(peer: Peer, request: dict[str, Any]) -> bool:
    """{address} -> {}: no port of the host leads there any more."""
    _forwards.forget(str(request["address"]))
    return peer.answer()


def do_configure(peer: Peer, request: dict[str, Any]) -> bool:
    """{sysctls: {name: value}, batch: lines for ``ip -batch``} -> {}."""
    for name, value in request["sysctls"].items():
        sysctl(str(name), str(value))
    ip("-batch", "-", text=str(request["batch"]))
    return peer.answer()


def do_hold(peer: Peer, _request: dict[str, Any]) -> bool:
    """{} and descriptors -> {}: they stay open for as long as the holder lives, or until others
    take their place.
    """
    while _held:
        os.close(_held.pop())
    _held.extend(peer.fds)
    peer.fds.clear()
    return peer.answer()


def do_prohibit(peer: Peer, request: dict[str, Any]) -> bool:
    """{table} and a route socket of the host's -> {}: no address that the host has is reachable by
    that table, now and whenever it gets another one.
    """
    host = socket.socket(fileno=peer.fds.pop())
    table = str(int(request["table"]))

    def prohibit(address: str) -> None:
        ip("route", "replace", "prohibit", address, "table", table)

    relay.follow_addresses(host, prohibit)
    return peer.answer()


def do_bound(peer: Peer, request: dict[str, Any]) -> bool:
    """{directory, most, seconds} -> {}: its logs are cut when they have become longer than so many
    bytes; they are looked at each so many seconds.
    """
    relay.bound_logs(str(request["directory"]), int(request["most"]), float(request["seconds"]))
    return peer.answer()


def do_exec(peer: Peer, request: dict[str, Any]) -> bool:
    """{argv, cwd, env} and three descriptors (0, 1, 2) -> {pid}, later {exit}.

    ``exit`` is the exit code, or the negative number of a signal. Meanwhile the client may send
    {signal: NUMBER}; when it closes the connection the command is ended.
    """
    if len(peer.fds) != 3:
        raise ValueError(f"exec takes 3 descriptors, not {len(peer.fds)}")
    environment = {**request["env"], "XK8S_CLUSTER": os.environ.get("XK8S_CLUSTER", "")}
    child = subprocess.Popen(
        [str(word) for word in request["argv"]],
        stdin=peer.fds[0],
        stdout=peer.fds[1],
        stderr=peer.fds[2],
        cwd=request["cwd"],
        env=environment,
        start_new_session=True,
    )
    _running.add(child)
    peer.close_fds()  # else the client would never see the end of its pipes
    try:
        if peer.answer(pid=child.pid):
            watch(peer, child)
    finally:
        end(child)
        _running.discard(child)
    return peer.answer(exit=child.returncode)


def watch(peer: Peer, child: subprocess.Popen[bytes]) -> None:
    """Return when the child has ended or the peer is gone; pass signals on until then."""
    pidfd = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(peer.socket, select.POLLIN)
        while all(fd != pidfd for fd, _ in poll.poll()):
            message = peer.receive()
            if message is None:
                return
            while message is not None:
                child.send_signal(int(message["signal"]))
                message = peer.receive() if peer.pending else None
    finally:
        os.close(pidfd)


def end(child: subprocess.Popen[bytes]) -> None:
    """Reap the child; kill it if it has not ended."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def do_quit(peer: Peer, _request: dict[str, Any]) -> bool:
    """{} -> {}, then the holder and the commands it runs end."""
    peer.answer()
    for child in list(_running):
        child.kill()
    os._exit(0)  # from a thread: sys.exit would end only this thread


OPERATIONS: dict[str, Callable[[Peer, dict[str, Any]], bool]] = {
    "ping": do_ping,
    "bridge": do_bridge,
    "route": do_route,
    "tap": do_tap,
    "dial": do_dial,
    "listen": do_listen,
    "forwarded": do_forwarded,
    "forward": do_forward,
    "forget": do_forget,
    "configure": do_configure,
    "hold": do_hold,
    "prohibit": do_prohibit,
    "bound": do_bound,
    "exec": do_exec,
    "quit": do_quit,
}


# --- helpers ----------------------------------------------------------------------------


def ip(*argv: str, text: str = "") -> None:
    """Run iproute2; its complaint becomes an OSError."""
    done = subprocess.run(["ip", *argv], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complaint = f"ip {' '.join(argv)}: {done.stderr.strip() or f'exit {done.returncode}'}"
        # The one case that the client tells apart: this process was not given its rights.
        denied = "Operation not permitted" in done.stderr
        number = errno.EPERM if denied else errno.EIO
        raise OSError(number, complaint)


def sysctl(name: str, value: str) -> None:
    """Set one; absent (no IPv6, no br_netfilter) is fine, refused is noted for the client."""
    try:
        Path("/proc/sys", name).write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        _warnings.append(f"{name}={value}: {error.strerror}")


def interface(name: Any) -> str:
    """The name itself, or ValueError: the kernel would cut a long one silently."""
    text = str(name)
    if not 0 < len(text) <= 15 or not text.replace("-", "").isalnum() or text.startswith("-"):
        raise ValueError(f"{text!r} is not an interface name (1 to 15 letters, digits, dashes)")
    return text


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"holder: {error.strerror or error}")
