"""What a rotation of the keys renews within Kubernetes, against an API server of our own with real
TLS. That the real one takes it is a cluster test's business.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from xk8s.checks import NotYet
from xk8s.cli.session import CliSession
from xk8s.cluster.state.secrets import PKI
from xk8s.errors import MachineError
from xk8s.pki import Keys
from xk8s.progress import Silent
from xk8s_kubernetes import ca, renew
from xk8s_kubernetes.api import connect
from xk8s_kubernetes.secrets import host_kubeconfig


def pod(name: str, *, owner: str = "", volume: dict[str, Any] | None = None, **more: Any) -> Any:
    meta: dict[str, Any] = {"name": name, "namespace": "demo", "uid": f"uid-{name}"}
    if owner:
        meta["ownerReferences"] = [{"kind": owner, "controller": True}]
    meta.update(more.pop("meta", {}))
    return {
        "metadata": meta,
        "spec": {"volumes": [volume] if volume else []},
        "status": {"phase": "Running", **more},
    }


TOKEN = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
ROOT_CA = {"configMap": {"name": "kube-root-ca.crt"}}
SECRET = {"secret": {"secretName": "old-style"}}
OTHER = {"configMap": {"name": "settings"}}
PATH = "/api/v1/namespaces/demo/secrets/old-style"


@pytest.mark.parametrize("volume", [TOKEN, ROOT_CA, SECRET])
def test_pods_with_a_token_or_an_authority_are_meant(volume: dict[str, Any]) -> None:
    assert renew.holds_keys(pod("x", volume=volume), [PATH])


@pytest.mark.parametrize(
    "other",
    [
        pod("no-volume"),
        pod("other-volume", volume=OTHER),
        pod("done", volume=TOKEN, phase="Succeeded"),
        pod("failed", volume=TOKEN, phase="Failed"),
        pod("ending", volume=TOKEN, meta={"deletionTimestamp": "now"}),
        pod("elsewhere", volume=SECRET, meta={"namespace": "other"}),
    ],
    ids=lambda item: item["metadata"]["name"],
)
def test_other_pods_are_left_alone(other: dict[str, Any]) -> None:
    assert not renew.holds_keys(other, [PATH])


def test_waiting_ends_with_what_was_seen_last() -> None:
    def never() -> None:
        raise NotYet("still the old one")

    with pytest.raises(MachineError, match="still missing after 0 s: it; last seen: still the old"):
        renew.until("it", never, seconds=0)


class Server:
    """As much of the API as is asked for. What the controllers of the control plane would do is
    done when it is asked about the second time: nothing of it is there at once.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.port = 0
        self.asked: list[str] = []
        old = "-----BEGIN CERTIFICATE-----\nold\n-----END CERTIFICATE-----\n"
        authority = keys.ca("ca").cert.decode()
        self.authentication: dict[str, str] | None = {
            "client-ca-file": old + authority,
            "requestheader-client-ca-file": keys.ca("front-proxy-ca").cert.decode(),
        }
        self.root_ca = {"demo": old, "default": authority}
        self.token: str | None = "b2xk"
        self.pods = [
            pod("made-anew", owner="ReplicaSet", volume=TOKEN),
            pod("alone", volume=TOKEN),
            pod("job", owner="Job", volume=TOKEN),
            pod("nothing", owner="ReplicaSet"),
        ]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        route, _, query = path.partition("?")
        known: dict[str, Callable[[], Any]] = {
            "/readyz": dict,
            "/api/v1/configmaps": self._root_cas,
            "/api/v1/namespaces": lambda: _list(*(_named(name) for name in self.root_ca)),
            "/api/v1/secrets": lambda: _list(self._secret()),
            "/api/v1/pods": lambda: _list(*self.pods),
            PATH: self._secret,
        }
        if route.endswith("/extension-apiserver-authentication"):
            return self._authentication(method)
        if method == "PATCH" and route == PATH:
            assert body == {"data": {"token": None}}
            self.token = None
        elif method == "DELETE":
            assert query == "", "in its own time"
            self.pods = [pod for pod in self.pods if not path.endswith(pod["metadata"]["name"])]
            return 200, {}
        return (200, known[route]()) if route in known else (404, {"message": "not found"})

    def _authentication(self, method: str) -> tuple[int, Any]:
        if method == "DELETE":
            self.authentication = None
            return 200, {}
        if self.authentication is None:
            self.authentication = {
                "client-ca-file": self.keys.ca("ca").cert.decode(),
                "requestheader-client-ca-file": self.keys.ca("front-proxy-ca").cert.decode(),
            }
            return 404, {"message": "not found"}
        return 200, {"data": self.authentication}

    def _root_cas(self) -> Any:
        items = [
            {**_named("kube-root-ca.crt", space), "data": {"ca.crt": text}}
            for space, text in self.root_ca.items()
        ]
        self.root_ca = dict.fromkeys(self.root_ca, self.keys.ca("ca").cert.decode())
        return _list(*items)

    def _secret(self) -> Any:
        data = {} if self.token is None else {"token": self.token}
        self.token = self.token or "bmV3"
        return {**_named("old-style", "demo"), "data": data}


def _named(name: str, namespace: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}}


def _list(*items: Any) -> dict[str, Any]:
    return {"items": list(items)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    keys = Keys(tmp_path / "pki")
    served = Server(keys)
    serving = keys.cert("ca", "apiserver", common_name="api", sans=["127.0.0.1"], server=True)
    pem = tmp_path / "serving.pem"
    pem.write_bytes(serving.cert + serving.key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.command == "PATCH":
                assert self.headers["Content-Type"] == "application/merge-patch+json"
            status, value = served.answer(self.command, self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "DELETE", "PATCH"):
        setattr(Handler, f"do_{method}", Handler._reply)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    served.port = http.server_port
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        access = SimpleNamespace(name="t", forward=lambda _: ("127.0.0.1", served.port))
        (tmp_path / "kubeconfig").write_bytes(host_kubeconfig(access, keys))  # type: ignore[arg-type]
        yield served
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def test_everything_that_has_an_old_key_is_renewed(server: Server, tmp_path: Path) -> None:
    access = SimpleNamespace(state_dir=tmp_path, keys=Keys(tmp_path / PKI))
    done = renew.renew(access, Silent())  # type: ignore[arg-type]
    assert done.recreated == ("demo/made-anew",)
    assert done.left == ("demo/alone", "demo/job")
    assert [pod["metadata"]["name"] for pod in server.pods] == ["alone", "job", "nothing"]
    assert server.authentication is not None
    assert "old" not in server.authentication["client-ca-file"]
    assert server.token == "bmV3"
    # Pods come last: what they are to find is there before they are made anew.
    deleted = server.asked.index("DELETE /api/v1/namespaces/demo/pods/made-anew")
    assert max(i for i, text in enumerate(server.asked) if "configmaps" in text) < deleted


def test_a_second_time_finds_everything_renewed(server: Server, tmp_path: Path) -> None:
    access = SimpleNamespace(state_dir=tmp_path, keys=Keys(tmp_path / PKI))
    renew.renew(access, Silent())  # type: ignore[arg-type]
    server.asked.clear()
    assert renew.renew(access, Silent()).recreated == ()  # type: ignore[arg-type]
    assert not any("extension" in text for text in server.asked if text.startswith("DELETE"))


def test_a_kubeconfig_that_was_written_anew_is_read_anew(server: Server, tmp_path: Path) -> None:
    assert connect(tmp_path / "kubeconfig").text("/readyz") == "{}"
    other = Keys(tmp_path / "other")
    access = SimpleNamespace(name="t", forward=lambda _: ("127.0.0.1", server.port))
    (tmp_path / "kubeconfig").write_bytes(host_kubeconfig(access, other))  # type: ignore[arg-type]
    with pytest.raises(NotYet, match="CERTIFICATE_VERIFY_FAILED"):
        connect(tmp_path / "kubeconfig").text("/readyz")


def test_the_summary_says_what_is_left_to_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    ca.summarize(
        {
            "cluster": "lab",
            "seconds": 12.3,
            "pods_recreated": ["demo/a"],
            "pods_left": ["demo/b"],
            "snapshots_removed": ["auto-1"],
            "snapshots_with_old_keys": ["mine"],
            "kubeconfig_to_merge_again": "/home/you/.kube/config",
        }
    )
    text = capsys.readouterr().out
    for part in ("demo/a", "demo/b", "snapshot remove mine --name lab",
                 "kubeconfig --merge --name lab", "the next up boots"):  # fmt: skip
        assert part in text


def test_a_merged_kubeconfig_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert ca.merged_in("lab") == ""
    config.write_text("contexts: [{name: xk8s-lab, context: {}}]\n")
    assert ca.merged_in("lab") == str(config)
    assert ca.merged_in("other") == ""
    config.write_text("[no kubeconfig")
    assert ca.merged_in("lab") == ""


def test_show_of_no_cluster_is_an_error(own_places: Path) -> None:
    # As `xk8s` invokes it: click keeps an option of the first help that it was asked for.
    result = CliRunner().invoke(
        ca.command, ["show"], obj=CliSession(), help_option_names=["-h", "--help"]
    )
    assert "there is no cluster" in str(result.exception)
