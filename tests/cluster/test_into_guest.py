"""Into a guest without any network of it: programs with streams, copies, and SSH clients."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.errors import MachineError
from xk8s.machine.qemu.qmp import Qmp

from tests.cluster.shared import Shared
from tests.conftest import Xk8s

pytestmark = pytest.mark.cluster

INTO = Shared(
    name="into",
    up=("debian", "--nodes", "1", "--routers", "0", "--memory", "control-plane=512"),
)
HUNDRED = 100_000_000


@pytest.fixture(scope="module")
def cluster(xk8s: Xk8s) -> Iterator[Xk8s]:
    with INTO.running(xk8s) as command:
        for link in ("eth0", "eth1"):
            command("exec", "-n", "vm-001", "--", "ip", "link", "set", link, "down")
        yield command


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(os.urandom(HUNDRED))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def started(cluster: Xk8s, *words: str) -> subprocess.Popen[bytes]:
    """``exec`` with pipes of its own."""
    argv = [cluster.python, "-m", "xk8s.cli", *cluster.common, "exec", *words]
    return subprocess.Popen(
        argv, env=cluster.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def in_guest(cluster: Xk8s, *argv: str) -> str:
    return cluster("exec", "-n", "vm-001", "--", *argv).strip()


# --- exec -------------------------------------------------------------------------------


def test_output_comes_as_it_is_made_and_input_goes_as_it_is_typed(cluster: Xk8s) -> None:
    process = started(cluster, "vm-001", "--", "sh", "-c", "while read word; do echo =$word; done")
    assert process.stdin is not None
    assert process.stdout is not None
    for word in (b"one\n", b"two\n"):
        process.stdin.write(word)
        process.stdin.flush()
        assert process.stdout.readline() == b"=" + word
    process.stdin.close()
    assert process.wait() == 0


def test_an_input_that_stays_open_is_not_waited_for(cluster: Xk8s) -> None:
    process = started(cluster, "vm-001", "--", "hostname")
    assert process.wait() == 0
    assert process.stdout is not None
    assert process.stdout.read() == b"vm-001\n"


def test_a_loop_keeps_its_input_with_n(cluster: Xk8s) -> None:
    argv = f"{cluster.python} -m xk8s.cli {' '.join(cluster.common)} exec -n vm-001 -- echo"
    loop = f"printf '1\\n2\\n3\\n' | while read number; do {argv} $number; done"
    done = subprocess.run(
        ["sh", "-c", loop], env=cluster.environment, capture_output=True, check=True
    )
    assert done.stdout == b"1\n2\n3\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_program_in_the_guest(cluster: Xk8s, number: signal.Signals) -> None:
    process = started(cluster, "vm-001", "--", "sh", "-c", "echo $$; exec sleep 1000")
    assert process.stdout is not None
    pid = process.stdout.readline().decode().strip()
    process.send_signal(number)
    assert process.wait() == 128 + number
    cluster("exec", "-n", "vm-001", "--", "test", "-e", f"/proc/{pid}", code=1)


def test_a_program_decides_what_ctrl_c_means(cluster: Xk8s) -> None:
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    process = started(cluster, "vm-001", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == b"caught\n"
    assert process.wait() == 9


def test_a_command_that_is_killed_takes_its_program_along_and_the_next_is_not_disturbed(
    cluster: Xk8s,
) -> None:
    for script in ("cat /dev/urandom", "cat >/dev/null"):
        process = started(cluster, "vm-001", "--", "sh", "-c", f"echo $$; exec {script}")
        assert process.stdout is not None
        assert process.stdin is not None
        pid = process.stdout.readline().decode().strip()
        process.stdin.write(bytes(1 << 20))
        process.kill()
        process.wait()
        assert in_guest(cluster, "echo", "next") == "next"
        in_guest(cluster, "sh", "-c", f"while [ -e /proc/{pid} ]; do sleep 0.1; done")


def test_a_terminal(cluster: Xk8s) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        words = [str(cluster.python), "-m", "xk8s.cli", *cluster.common]
        words += ["exec", "-it", "vm-001", "--", "sh"]
        os.execve(cluster.python, words, {**cluster.environment, "TERM": "xterm-color"})
    screen = b""

    def until(text: bytes) -> None:
        nonlocal screen
        while text not in screen:
            assert select.select([fd], [], [], 120)[0], screen
            screen += os.read(fd, 4096)

    until(b"# ")
    os.write(fd, b"echo $((6 * 7)) $TERM $(tty); sleep 1000\r")
    until(b"42 xterm-color /dev/pts/")
    # Typed again: it may come before the program has begun.
    while b"^C" not in screen:
        os.write(fd, b"\x03")
        time.sleep(0.5)
        until(b"^C")
    os.write(fd, b"exit 5\r")
    while True:
        try:
            screen += os.read(fd, 4096)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, screen


def test_more_sessions_than_ports_take_turns(cluster: Xk8s) -> None:
    running = [
        started(cluster, "-n", "vm-001", "--", "sh", "-c", f"sleep 1; echo {number}")
        for number in range(12)
    ]
    outputs = [process.communicate()[0] for process in running]
    assert outputs == [f"{number}\n".encode() for number in range(12)]


def test_100_mb_in_and_out_are_the_same(cluster: Xk8s, big: Path, tmp_path: Path) -> None:
    words = [cluster.python, "-m", "xk8s.cli", *cluster.common, "exec"]
    begin = time.monotonic()
    with big.open("rb") as file:
        subprocess.run([*words, "vm-001", "--", "sh", "-c", "cat >/root/big"], stdin=file,
                       env=cluster.environment, check=True)  # fmt: skip
    between = time.monotonic()
    assert in_guest(cluster, "sha256sum", "/root/big").split()[0] == digest(big)
    again = time.monotonic()
    with (tmp_path / "back").open("wb") as file:
        subprocess.run([*words, "-n", "vm-001", "--", "cat", "/root/big"], stdout=file,
                       env=cluster.environment, check=True)  # fmt: skip
    end = time.monotonic()
    assert digest(tmp_path / "back") == digest(big)
    rates = [HUNDRED / 1e6 / seconds for seconds in (between - begin, end - again)]
    print("MB/s in and out:", rates)
    in_guest(cluster, "rm", "/root/big")


# --- cp ---------------------------------------------------------------------------------


def test_a_file_of_100_mb_is_copied_there_and_back(
    cluster: Xk8s, big: Path, tmp_path: Path
) -> None:
    cluster("cp", str(big), "vm-001:/root/copied")
    cluster("cp", "vm-001:/root/copied", str(tmp_path))
    assert digest(tmp_path / "copied") == digest(big)
    in_guest(cluster, "rm", "/root/copied")


def test_directories_keep_modes_and_links(cluster: Xk8s, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "program").write_text("#!/bin/sh\necho copied\n")
    (tree / "program").chmod(0o751)
    (tree / "sub" / "secret").write_text("s")
    (tree / "sub" / "secret").chmod(0o400)
    (tree / "sub").chmod(0o500)
    (tree / "link").symlink_to("/etc/localtime")
    cluster("cp", "-r", str(tree), "vm-001:new")
    assert in_guest(cluster, "/root/new/program") == "copied"
    modes = in_guest(cluster, "stat", "-c", "%a %U", "/root/new/program", "/root/new/sub/secret")
    assert modes.splitlines() == ["751 root", "400 root"]
    cluster("cp", "vm-001:new", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert [path.lstat().st_mode for path in sorted(back.rglob("*"))] == [
        path.lstat().st_mode for path in sorted(tree.rglob("*"))
    ]
    assert (back / "link").readlink() == Path("/etc/localtime")


def test_several_sources_and_errors_name_the_path(cluster: Xk8s, tmp_path: Path) -> None:
    cluster("cp", "vm-001:/etc/hosts", "vm-001:/etc/hostname", str(tmp_path))
    assert (tmp_path / "hostname").read_text() == "vm-001\n"
    (tmp_path / "hosts").write_text("mine")
    cluster("cp", str(tmp_path / "hosts"), str(tmp_path / "hostname"), "vm-001:/tmp/")
    assert in_guest(cluster, "cat", "/tmp/hosts") == "mine"
    said = cluster("cp", "vm-001:/no/such", str(tmp_path), code=MachineError.exit_code)
    assert "vm-001:/no/such: no such file or directory" in said
    said = cluster("cp", str(tmp_path / "hosts"), "vm-001:/no/such", code=MachineError.exit_code)
    assert "vm-001:/no/such: /no: Cannot open: No such file or directory" in said


# --- ssh --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(cluster: Xk8s, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "config"
    cluster("ssh-config", "-o", str(path))
    return path


def client(cluster: Xk8s, *argv: str | Path) -> str:
    done = subprocess.run(
        argv, env=cluster.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def test_ssh_runs_a_command_with_its_exit_code(cluster: Xk8s) -> None:
    said = cluster("ssh", "vm-001", "echo $((6 * 7)) >&2; exit 3", code=3)
    assert "42" in said


def test_ssh_clients_need_only_the_config(cluster: Xk8s, config: Path, tmp_path: Path) -> None:
    assert config.read_text() == cluster("ssh-config")
    assert client(cluster, "ssh", "-F", config, "into-vm-001", "hostname") == "vm-001\n"
    client(cluster, "scp", "-q", "-F", config, "into-vm-001:/etc/hostname", tmp_path / "h")
    assert (tmp_path / "h").read_text() == "vm-001\n"


def test_ports_are_forwarded(cluster: Xk8s, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    unit = ("systemd-run", "--unit=hello", "socat", "TCP-LISTEN:5555,fork", "SYSTEM:echo hello")
    in_guest(cluster, *unit)
    argv = ["ssh", "-F", config, "-N", "-o", "ExitOnForwardFailure=yes",
            "-L", f"{path}:127.0.0.1:5555", "into-vm-001"]  # fmt: skip
    process = subprocess.Popen(argv, env=cluster.environment, stdin=subprocess.DEVNULL)
    try:
        import socket

        while not path.exists():
            assert process.poll() is None
            time.sleep(0.1)
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(path))
            assert stream.recv(100) == b"hello\n"
    finally:
        process.terminate()
        process.wait()
    in_guest(cluster, "systemctl", "stop", "hello")


def test_the_keys_are_the_clusters_own_and_no_server_listens(cluster: Xk8s) -> None:
    root = cluster.root
    assert root is not None
    state = root / "s" / "clusters" / "into"
    for name in ("ssh-client", "ssh-server"):
        assert (state / "pki" / f"{name}.key").stat().st_mode & 0o777 == 0o600
    assert in_guest(cluster, "sh", "-c", "ls /etc/ssh/ssh_host_* 2>/dev/null || true") == ""
    assert in_guest(cluster, "ss", "-Htlnp") == ""


# --- what grows -------------------------------------------------------------------------


def test_logs_of_components_do_not_fill_the_memory(cluster: Xk8s) -> None:
    assert in_guest(cluster, "systemctl", "is-active", "xk8s-limit-logs.timer") == "active"
    fill = "yes 'a line' | head -n 1500000 >/var/log/x.log; echo last >>/var/log/x.log"
    in_guest(cluster, "sh", "-c", f"{fill}; systemctl start xk8s-limit-logs")
    assert 1 << 20 < int(in_guest(cluster, "stat", "-c", "%s", "/var/log/x.log")) < 3 << 20
    assert in_guest(cluster, "head", "-n", "1", "/var/log/x.log") == "a line"
    assert in_guest(cluster, "tail", "-n", "1", "/var/log/x.log") == "last"
    assert in_guest(cluster, "journalctl", "-q", "-o", "cat", "-u", "xk8s-limit-logs") == ""
    in_guest(cluster, "rm", "/var/log/x.log")


def monitor(cluster: Xk8s) -> Path:
    """The monitor of the VM, whose present process may not be its first one."""
    assert cluster.root is not None
    sockets = (cluster.root / "r" / "into").glob("vm-001*.qmp")
    return max(sockets, key=lambda path: path.stat().st_mtime)


def seconds_behind(cluster: Xk8s) -> float:
    return time.time() - float(in_guest(cluster, "date", "+%s.%N"))


def until_the_clock_is_right(cluster: Xk8s) -> None:
    deadline = time.monotonic() + 60
    while abs(seconds_behind(cluster)) > 2.5:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_the_clock_is_right_within_a_minute_of_a_sleep_of_the_host(cluster: Xk8s) -> None:
    """While the host sleeps its monotonic clock stands still, and so do VMs: as when paused."""
    with Qmp(monitor(cluster), "vm-001") as qmp:
        qmp.execute("stop")
        time.sleep(8)
        qmp.execute("cont")
    assert seconds_behind(cluster) > 5, "the VM was not paused"
    until_the_clock_is_right(cluster)
    # Whoever wants another time keeps it.
    in_guest(cluster, "sh", "-c", "touch /run/xk8s-own-time; date -s @1700000000; sleep 30")
    assert in_guest(cluster, "date", "+%Y") == "2023"
    in_guest(cluster, "rm", "/run/xk8s-own-time")
    until_the_clock_is_right(cluster)


# --- save and restore: last, for they replace what runs ---------------------------------


def test_a_session_that_is_open_while_the_cluster_is_saved_is_told_and_its_program_ends(
    cluster: Xk8s,
) -> None:
    process = started(cluster, "vm-001", "--", "sh", "-c", "echo $$; exec sleep 100000")
    assert process.stdout is not None
    pid = process.stdout.readline().decode().strip()
    cluster("snapshot", "save", "with-a-session")
    assert process.wait() == MachineError.exit_code
    assert in_guest(cluster, "echo", "after") == "after"
    in_guest(cluster, "sh", "-c", f"while [ -e /proc/{pid} ]; do sleep 0.1; done")


def test_all_goes_on_after_a_restore(cluster: Xk8s, config: Path, tmp_path: Path) -> None:
    in_guest(cluster, "touch", "/root/since")
    cluster("snapshot", "restore", "with-a-session")
    cluster("exec", "-n", "vm-001", "--", "test", "-e", "/root/since", code=1)
    outputs = [
        process.communicate()[0]
        for process in [started(cluster, "-n", "vm-001", "--", "hostname") for _ in range(10)]
    ]
    assert outputs == [b"vm-001\n"] * 10
    assert client(cluster, "ssh", "-F", config, "into-vm-001", "hostname") == "vm-001\n"
    cluster("cp", "vm-001:/etc/hostname", str(tmp_path / "h"))
    assert (tmp_path / "h").read_text() == "vm-001\n"
