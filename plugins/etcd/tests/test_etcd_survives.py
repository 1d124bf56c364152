"""The real etcd with exactly our arguments, on a file system with the room of its volume: it
outlives its log, and a full store is an alarm.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s.artifact_keys import artifact_key, entry_dir
from xk8s.overlay import File
from xk8s.pki import Keys
from xk8s.testing import context_of
from xk8s_etcd import overlay
from xk8s_etcd.artifacts import etcd_artifact
from xk8s_etcd.settings import EtcdSettings

PROGRAM = entry_dir(artifact_key(etcd_artifact(EtcdSettings()))) / "tree/etcd"
MIB = 1 << 20

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
if os.geteuid() == 0:
    NAMESPACE = ("unshare", "--mount")


def unusable() -> str:
    if not PROGRAM.exists():
        return "etcd is not in the cache: `xk8s artifacts etcd debian --fetch`"
    mount = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    return f"no memory file system can be mounted here: {done.stderr}" if done.returncode else ""


pytestmark = pytest.mark.skipif(bool(unusable()), reason=unusable() or "can run")


class Store:
    """An etcd that runs, and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, pki: Path) -> None:
        self.process = process
        self.port = port
        self._tls = ssl.create_default_context(cafile=pki / "ca.crt")
        self._tls.load_cert_chain(pki / "server.crt", pki / "server.key")
        self._client = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=60)

    def call(self, path: str, **body: object) -> dict[str, object]:
        """Call the gateway; what fails is the answer, too."""
        self._client.request("POST", f"/v3/{path}", json.dumps(body))
        answer = json.loads(self._client.getresponse().read())
        assert isinstance(answer, dict)
        return answer

    def put(self, key: str, value: bytes) -> dict[str, object]:
        return self.call("kv/put", key=_b64(key.encode()), value=_b64(value))

    def revision(self) -> int:
        header = self.call("kv/range", key=_b64(b"x"))["header"]
        assert isinstance(header, dict)
        return int(header["revision"])

    def alive(self) -> bool:
        return self.process.poll() is None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def started(settings: EtcdSettings, tmp: Path) -> Store:
    """Start it with the command line and on the file system that its units have; only the places
    and ports are this test's.
    """
    ctx = context_of("etcd", settings)
    files = {
        entry.path: entry.data.decode()
        for layer in overlay.xk8s_layers(ctx)
        for entry in layer.entries
        if isinstance(entry, File)
    }
    unit = files["/etc/systemd/system/etcd.service"].replace("\\\n", " ")
    (line,) = (text for text in unit.splitlines() if text.startswith("ExecStart="))
    words = shlex.split(line)
    arguments = words[words.index("/usr/bin/etcd") + 1 :]
    node = ctx.nodes[0]
    (volume,) = overlay.xk8s_boot(ctx, node).volumes
    # Of a volume of 512 MiB 502 can be used.
    size = f"size={volume.size * 49 // 50}M"
    pki = tmp / "pki"
    pki.mkdir()
    for file in overlay.xk8s_secrets(ctx, node, Keys(tmp / "keys")):
        (pki / Path(file.path).name).write_bytes(file.data)
    data = tmp / "data"
    data.mkdir()
    client, peer = free_port(), free_port()
    for old, new in (
        ("%H", node.name),
        ("/etc/etcd/pki", str(pki)),
        ("/var/lib/etcd", str(data)),
        (":2379", f":{client}"),
        (":2380", f":{peer}"),
    ):
        arguments = [word.replace(old, new) for word in arguments]
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    process = subprocess.Popen(
        [*NAMESPACE, "sh", "-c", script, "sh", size, str(data),
         str(PROGRAM), *arguments, "--log-level=error"],
        stdout=subprocess.DEVNULL,
        stderr=(tmp / "log").open("wb"),
        env={"PATH": os.environ["PATH"], "GOGC": "200"},
    )  # fmt: skip
    while True:
        assert process.poll() is None, (tmp / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", client), timeout=1):
                break
        except OSError:
            time.sleep(0.1)
    return Store(process, client, pki)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Store]]:
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.process.kill()
        store.process.wait()
    shutil.rmtree(tmp_path, ignore_errors=True)


def wal_of(store: Store, data: Path) -> int:
    """The segments of the log, looked at in the namespace of etcd."""
    return len(list(Path(f"/proc/{store.process.pid}/root{data}/data/member/wal").glob("*.wal")))


def test_it_outlives_its_log(places: list[Store], tmp_path: Path) -> None:
    store = started(EtcdSettings(), tmp_path)
    places.append(store)
    value, written, began = os.urandom(96 * 1024), 0, time.monotonic()
    segments = set()
    while written < 320 * MIB:
        for number in range(20):
            answer = store.put(f"key-{number}", value)
            assert "header" in answer, answer
            written += len(value)
        store.call("kv/compaction", revision=store.revision())
        segments.add(wal_of(store, tmp_path / "data"))
        assert store.alive()
        # Half of what a test suite writes at its fastest; etcd removes old segments every 30 s.
        time.sleep(max(0.0, written / (7 * MIB) - (time.monotonic() - began)))
    assert "header" in store.put("last", b"x")
    # 320 MiB are five segments of 64: some were removed.
    assert wal_of(store, tmp_path / "data") < 5


def test_full_is_an_alarm_and_not_the_end(places: list[Store], tmp_path: Path) -> None:
    settings = EtcdSettings(size="256M")
    store = started(settings, tmp_path)
    places.append(store)
    value, answers = os.urandom(512 * 1024), []
    for number in range(settings.quota // len(value) + 20):
        answers.append(store.put(f"key-{number}", value))
        if "header" not in answers[-1]:
            break
    assert "database space exceeded" in str(answers[-1])
    assert len(answers) > 20
    assert store.alive()
    assert store.call("kv/range", key=_b64(b"key-1"))["count"] == "1"
    # What etcd's documentation says to do then.
    store.call("kv/deleterange", key=_b64(b"key"), range_end=_b64(b"kez"))
    store.call("kv/compaction", revision=store.revision(), physical=True)
    assert store.call("maintenance/defragment") == {}
    for alarm in store.call("maintenance/alarm", action="GET")["alarms"]:
        store.call("maintenance/alarm", action="DEACTIVATE", **alarm)
    assert "header" in store.put("again", b"x")
    assert store.alive()
