"""Whether a release can be had: asked of a server on 127.0.0.1, remembered in the cache."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xk8s import releases
from xk8s.releases import why_unavailable
from xk8s.sources import Release


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there = False
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200 if self.server.there else 404)
        self.end_headers()
        if self.server.there:
            self.wfile.write(b"0" * 64 + b"  x.tar.gz\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(own_places: Path) -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def release(server: Server) -> Release:
    url = f"http://127.0.0.1:{server.server_address[1]}/x.tar.gz"
    return Release(url=url, checksum_url=f"{url}.sha256", members={"x": "x"})


def test_a_plan_asks_nobody_and_says_so(server: Server) -> None:
    assert "nobody has asked" in (why_unavailable(release(server), online=False) or "")
    assert server.asked == []


def test_a_published_release_is_asked_for_once(server: Server) -> None:
    server.there = True
    assert why_unavailable(release(server), online=True) is None
    assert why_unavailable(release(server), online=True) is None
    assert why_unavailable(release(server), online=False) is None
    assert server.asked == ["/x.tar.gz.sha256"]


def test_a_no_is_believed_for_a_day(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "404" in (why_unavailable(release(server), online=True) or "")
    server.there = True
    assert "404" in (why_unavailable(release(server), online=True) or "")
    assert "404" in (why_unavailable(release(server), online=False) or "")
    now = time.time()
    monkeypatch.setattr(releases.time, "time", lambda: now + releases.AGAIN_SECONDS + 1)
    # What is old is still what a plan knows, and what `up` does not leave at that.
    assert "404" in (why_unavailable(release(server), online=False) or "")
    assert why_unavailable(release(server), online=True) is None
    assert len(server.asked) == 2


def test_an_unreachable_server_and_a_damaged_memory(server: Server, tmp_path: Path) -> None:
    value = release(server)
    server.shutdown()
    server.server_close()
    assert "not reachable" in (why_unavailable(value, online=True) or "")
    (memory,) = (tmp_path / "cache/published").iterdir()
    memory.write_text("{")
    assert "nobody has asked" in (why_unavailable(value, online=False) or "")
