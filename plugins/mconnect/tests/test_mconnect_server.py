"""The server of the image, as this machine's busybox runs it.

In a network namespace, since nc listens on every address. Run as a program, this file is what
happens inside.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest
from xk8s_mconnect.client import connect
from xk8s_mconnect.overlay import SERVER
from xk8s_mconnect.settings import PORT

NAMESPACE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def test_no_connection_is_lost_when_many_come_at_once() -> None:
    busybox = shutil.which("busybox")
    if busybox is None or b"nc" not in subprocess.check_output([busybox, "--list"]).split():
        pytest.skip("no busybox with nc (package busybox-static)")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace for this user")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, __file__, busybox, *SERVER[1:]],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"answers": {socket.gethostname(): 400}, "failures": {}}


def dial(address: str, port: int, *, timeout: float) -> socket.socket:
    return socket.create_connection((address, port), timeout)


def main(words: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # SIOCSIFFLAGS, IFF_UP
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 1))
    server = subprocess.Popen(words)
    try:
        until = time.monotonic() + 5
        while connect(dial, "127.0.0.1", PORT, nconn=1).failed and time.monotonic() < until:
            time.sleep(0.01)
        tally = connect(dial, "127.0.0.1", PORT, nconn=400, parallel=64)
    finally:
        server.kill()
        server.wait()
    print(json.dumps({"answers": tally.answers, "failures": tally.failures}))


if __name__ == "__main__":
    main(sys.argv[1:])
