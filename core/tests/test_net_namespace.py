"""The namespace and its holder, for real: needs the right to make a network namespace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.errors import HostError, MachineError, StateError
from xk8s.machine.net import holder
from xk8s.machine.net import namespace as module
from xk8s.machine.net.namespace import Namespace
from xk8s.machine.net.privileges import check_tun, check_user_namespaces
from xk8s.util.log import Record
from xk8s.util.processes import end, leftovers

try:
    check_user_namespaces()
except HostError as error:
    pytest.skip(f"no network namespaces here: {error}", allow_module_level=True)

try:
    check_tun()
    TUN = True
except HostError:
    TUN = False


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xk8s-") as name:  # tmp_path may be too long
        yield Path(name)


@pytest.fixture
def net(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    if not TUN:  # the rest of the namespace can still be tested
        monkeypatch.setattr(module, "check_tun", lambda: None)
    namespace = Namespace.start(runtime)
    try:
        yield namespace
    finally:
        namespace.stop()
        assert leftovers(runtime) == ()
        assert not namespace.socket_path.exists()


def test_start_is_private_and_attach_finds_it(net: Namespace, runtime: Path) -> None:
    assert net.socket_path.stat().st_mode & 0o777 == 0o600
    attached = Namespace.attach(runtime)
    assert attached.ping()["pid"] == net.ping()["pid"]
    assert [process.pid for process in leftovers(runtime)] == [net.ping()["pid"]]
    pid = net.ping()["pid"]
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert os.getsid(pid) == pid


def test_second_start_is_refused(net: Namespace, runtime: Path) -> None:
    with pytest.raises(StateError):
        Namespace.start(runtime)
    net.ping()


def test_bridge_has_addresses_of_both_families_at_once(net: Namespace) -> None:
    addresses = ("192.168.1.250/24", "1000::1:192.168.1.250/120")
    net.bridge("br1", mac="02:00:00:00:01:fa", mtu=9000, addresses=addresses)
    found = json.loads(net.run(["ip", "-j", "address", "show", "br1"]).stdout)[0]
    assert (found["address"], found["mtu"]) == ("02:00:00:00:01:fa", 9000)
    globals_ = [a for a in found["addr_info"] if a["scope"] == "global"]
    assert {a["local"] for a in globals_} == {"192.168.1.250", "1000::1:c0a8:1fa"}
    assert not any(a.get("tentative") for a in globals_)
    for name in ("ip", "ip6", "arp"):
        value = net.run(["cat", f"/proc/sys/net/bridge/bridge-nf-call-{name}tables"])
        assert value.stdout.strip() in (b"0", b"")  # absent without br_netfilter


def test_routes_of_both_families(net: Namespace) -> None:
    net.bridge("br2", mac="02:00:00:00:02:fa", addresses=("10.2.0.1/24", "fd00:2::1/64"))
    net.route("10.0.0.0/24", via="10.2.0.201")
    net.route("10.0.0.0/24", via="10.2.0.202")
    net.route("1000::/64", via="fd00:2::201")
    routes = net.run(["ip", "route", "show", "10.0.0.0/24"]).stdout
    assert b"via 10.2.0.202 dev br2" in routes
    assert b"10.2.0.201" not in routes
    assert b"via fd00:2::201" in net.run(["ip", "-6", "route", "show", "1000::/64"]).stdout


def test_bad_requests_are_errors_and_do_not_end_it(net: Namespace, runtime: Path) -> None:
    with pytest.raises(HostError, match="interface name"):
        net.bridge("a-name-far-too-long", mac="02:00:00:00:00:01")
    with pytest.raises(HostError, match="nonsense"):
        net.bridge("br9", mac="nonsense")
    assert net.run(["ip", "link", "show", "br9"]).exit_code != 0, "a half-made bridge is left"
    with pytest.raises(HostError):
        net.route("10.0.0.0/24", via="1.2.3.4")
    for junk in (b"{}\n", b"no json\n", b"[1]\n", b'{"op":"tap"}\n', b'{"op":"bridge","name":1}\n'):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(net.socket_path))
            raw.sendall(junk)
            assert json.loads(raw.recv(4096))["ok"] is False
    assert Namespace.attach(runtime).ping()["ok"]


def test_dial_reaches_what_the_host_cannot(net: Namespace) -> None:
    net.bridge("br1", mac="02:00:00:00:01:fa", addresses=("10.77.0.1/24", "fd00:77::1/64"))
    script = "import socket,sys\ns=socket.create_server((sys.argv[1],5001),family=int(sys.argv[2]))\nprint(1,flush=True)\nc,_=s.accept();c.sendall(b'hello')"  # noqa: E501
    for address, family in (("10.77.0.1", socket.AF_INET), ("fd00:77::1", socket.AF_INET6)):
        argv = ["python3", "-c", script, address, str(int(family))]
        with net.exec(argv, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"1\n"
            with net.dial(address, 5001) as stream:
                assert stream.getblocking()
                assert stream.recv(5) == b"hello"
            assert server.wait(5) == 0
    with pytest.raises(ConnectionRefusedError):
        net.dial("10.77.0.1", 5002)
    with pytest.raises(OSError, match="unreachable"):
        net.dial("203.0.113.1", 80)


def test_slow_dial_blocks_nobody(net: Namespace) -> None:
    net.bridge("br1", mac="02:00:00:00:01:fa", addresses=("10.77.0.1/24",))
    seen: list[BaseException] = []

    def slow() -> None:
        try:
            net.dial("10.77.0.99", 80, timeout=0.6)  # nobody answers ARP
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    start = time.monotonic()
    net.ping()
    assert time.monotonic() - start < 0.4
    thread.join()
    assert isinstance(seen[0], TimeoutError)


def test_programs_and_requests_are_logged(records: list[Record], net: Namespace) -> None:
    net.bridge("logged", mac="02:00:00:00:00:01")
    assert net.run(["sh", "-c", "exit 3"]).exit_code == 3
    found = {record.event: record.fields for record in records}
    assert found["namespace_started"]["argv"]
    assert found["namespace_request"]["command"] == "bridge"
    assert found["namespace_program_run"]["argv"] == ["sh", "-c", "exit 3"]
    assert found["namespace_program_run"]["exit_code"] == 3


def test_exec_streams_exit_codes_and_signals(net: Namespace) -> None:
    result = net.run(["sh", "-c", "cat; echo bad >&2; exit 3"], stdin=b"in" * 200_000)
    assert (result.exit_code, len(result.stdout), result.stderr) == (3, 400_000, b"bad\n")
    with net.exec(["sleep", "60"]) as sleeper:
        assert sleeper.poll() is None
        sleeper.send_signal(signal.SIGINT)
        assert sleeper.wait(5) == -signal.SIGINT
    with pytest.raises(HostError, match="no-such-program"):
        net.run(["no-such-program"])
    with pytest.raises(TimeoutError):
        net.run(["sleep", "60"], timeout=0.1)


def test_a_command_ends_with_its_client(net: Namespace) -> None:
    sleeper = net.exec(["sleep", "60"])
    sleeper.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{sleeper.pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stop_ends_commands_and_a_hung_holder(net: Namespace, runtime: Path) -> None:
    net.exec(["sleep", "60"])
    os.kill(net.ping()["pid"], signal.SIGSTOP)
    net.stop()
    end(leftovers(runtime))
    assert leftovers(runtime) == ()


def test_killed_holder_is_a_clear_error_and_can_be_started_again(
    net: Namespace, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end(leftovers(runtime)) == ()
    with pytest.raises(MachineError, match="does not answer"):
        net.ping()
    again = Namespace.start(runtime)  # the dead socket is in the way
    again.ping()
    again.stop()
    again.stop()


@pytest.mark.skipif(not TUN, reason="/dev/net/tun cannot be opened by this user")
def test_tap_is_on_the_bridge_until_its_descriptor_is_closed(net: Namespace) -> None:
    net.bridge("br1", mac="02:00:00:00:01:fa", mtu=9000)
    fd = net.tap("vm-001-1", bridge="br1", mtu=9000)
    try:
        assert not os.get_inheritable(fd)
        shown = json.loads(net.run(["ip", "-j", "link", "show", "vm-001-1"]).stdout)[0]
        assert (shown["master"], shown["mtu"]) == ("br1", 9000)
        with pytest.raises(HostError, match="busy"):
            net.tap("vm-001-1", bridge="br1")
    finally:
        os.close(fd)
    assert net.run(["ip", "link", "show", "vm-001-1"]).exit_code != 0
    with pytest.raises(HostError, match="no-bridge"):
        net.tap("vm-001-1", bridge="no-bridge")
    assert net.run(["ip", "link", "show", "vm-001-1"]).exit_code != 0


@pytest.mark.skipif(TUN, reason="/dev/net/tun can be opened by this user")
def test_forbidden_tun_is_a_host_error(runtime: Path) -> None:
    with pytest.raises(HostError, match="/dev/net/tun cannot be opened") as caught:
        Namespace.start(runtime)
    assert "chmod 0666" in caught.value.hint or "modprobe" in caught.value.hint


def test_missing_tun_is_a_host_error(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "TUN", str(runtime / "tun"))
    with pytest.raises(HostError, match="No such file") as caught:
        Namespace.start(runtime)
    assert "modprobe tun" in caught.value.hint


def test_forbidden_namespace_is_a_host_error_with_the_reason(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_tun", lambda: None)
    script = "echo unshare failed: Operation not permitted >&2; exit 1"
    monkeypatch.setattr(module, "unshare_argv", lambda: ("sh", "-c", script))
    with pytest.raises(HostError, match="could not be created") as caught:
        Namespace.start(runtime)
    assert caught.value.log == "unshare failed: Operation not permitted"
    assert caught.value.hint
    with contextlib.suppress(FileNotFoundError):
        assert not (runtime / module.SOCKET_NAME).exists()


def test_too_long_socket_path_is_a_host_error(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_tun", lambda: None)
    deep = runtime / ("d" * 100)
    deep.mkdir()
    with pytest.raises(HostError, match="107 bytes") as caught:
        Namespace.start(deep)
    assert "XK8S_RUNTIME" in caught.value.hint


# --- ports of the host, and servers for guests ------------------------------------------


_ECHO = (
    "import socket,sys\n"
    "s=socket.create_server((sys.argv[1],5001))\n"
    "print(1,flush=True)\n"
    "while True:\n"
    " c,_=s.accept()\n"
    " data=b''\n"
    " while piece:=c.recv(65536): data+=piece\n"
    " c.sendall(data[::-1]);c.close()\n"
)


@contextlib.contextmanager
def echo(net: Namespace, address: str) -> Iterator[None]:
    with net.exec(["python3", "-c", _ECHO, address], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"1\n"
        yield


def test_a_port_of_the_host_leads_to_an_address_of_the_namespace(net: Namespace) -> None:
    net.bridge("br1", mac="02:00:00:00:01:fa", addresses=("10.77.0.1/24",))
    port = net.forward("10.77.0.1", 5001)
    assert net.forward("10.77.0.1", 5001) == port, "whoever comes next finds it"
    with pytest.raises(OSError, match="reset"):  # nobody listens there yet
        socket.create_connection(("127.0.0.1", port)).recv(1)
    sent = os.urandom(3_000_000)
    with echo(net, "10.77.0.1"), socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(sent)
        stream.shutdown(socket.SHUT_WR)  # the end of a stream is passed on, both ways
        found = b""
        while piece := stream.recv(65536):
            found += piece
    assert found == sent[::-1]
    net.forget("10.77.0.1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert net.forward("10.77.0.1", 5001, preferred=port) == port


def test_a_preferred_port_that_is_taken_is_another_one(net: Namespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert net.forward("127.0.0.1", 5001, preferred=taken) not in (0, taken)


def test_a_server_of_the_host_is_reached_in_the_namespace_alone(net: Namespace) -> None:
    with net.listen("127.0.0.1") as server:
        port = server.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with net.dial("127.0.0.1", port) as client:
            stream, _ = server.accept()
            with stream:
                stream.sendall(b"hello")
                assert client.recv(5) == b"hello"


@pytest.mark.skipif(not TUN, reason="/dev/net/tun cannot be opened")
def test_isolated_taps_are_ports_that_do_not_reach_each_other(net: Namespace) -> None:
    net.bridge("br1", mac="02:00:00:00:01:fa")
    fds = [net.tap("tap1", bridge="br1", isolated=True), net.tap("tap2", bridge="br1")]
    try:
        links = json.loads(net.run(["ip", "-j", "-d", "link", "show", "master", "br1"]).stdout)
        found = {link["ifname"]: link["linkinfo"]["info_slave_data"]["isolated"] for link in links}
    finally:
        for fd in fds:
            os.close(fd)
    assert found == {"tap1": True, "tap2": False}


def test_programs_in_there_are_told_of_no_proxy(
    net: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`net exec -- curl http://10.0.0.2:5001/` once asked the proxy of the shell."""
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    monkeypatch.setenv("XK8S_TEST", "kept")
    told = net.run(["env"]).stdout.decode().splitlines()
    assert "XK8S_TEST=kept" in told
    assert not [line for line in told if line.partition("=")[0].lower().endswith("_proxy")]


def test_the_holder_has_no_secrets_of_the_shell(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_tun", lambda: None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    namespace = Namespace.start(runtime)
    try:
        environment = Path(f"/proc/{namespace.ping()['pid']}/environ").read_bytes()
    finally:
        namespace.stop()
    assert b"hunter2" not in environment
    assert b"XK8S_CLUSTER=" in environment


def test_nothing_is_forwarded_between_its_networks(net: Namespace) -> None:
    """The host may forward: a new namespace takes that over."""
    net.bridge("br1", mac="02:00:00:00:01:fa", addresses=("10.77.0.1/24",))
    found = net.run(["cat", "/proc/sys/net/ipv4/conf/br1/forwarding"])
    assert found.stdout.strip() == b"0"


def test_logs_of_a_directory_are_cut_when_they_grow(net: Namespace, runtime: Path) -> None:
    long, short = runtime / "guest.log", runtime / "short.log"
    short.write_text("a line\n")
    net.bound(runtime, most=4000, seconds=0.05)
    with long.open("a") as writer:  # as QEMU: it appends, and knows nothing of this
        for number in range(10_000):
            writer.write(f"line {number}\n")
            writer.flush()
        last = f"line {number}\n"
        deadline = time.monotonic() + 30
        while long.stat().st_size > 4000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        writer.write("after\n")
    lines = long.read_text().splitlines(keepends=True)
    assert lines[-2:] == [last, "after\n"]
    assert all(line.startswith("line ") for line in lines[:-1]), lines[:3]
    assert short.read_text() == "a line\n"
