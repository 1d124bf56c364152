"""An image of a directory, put into running nodes, with a pod on each that says what is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster.kubectl import Kubectl

NODES = ("vm-001", "vm-002")
GREETING = "hello from a directory\n"


def load_and_run(command: Callable[..., str], kubectl: Kubectl, directory: Path) -> None:
    """``command`` is xk8s with the cluster's name; ``directory`` becomes the image."""
    cached = json.loads(command("artifacts", "--json"))["artifacts"]
    busybox = next(artifact["path"] for artifact in cached if artifact["name"] == "busybox-static")
    (directory / "bin").mkdir()
    shutil.copy(Path(busybox) / "busybox", directory / "bin" / "busybox")
    (directory / "greeting").write_text(GREETING)
    config = {"entrypoint": ["/bin/busybox", "cat"], "cmd": ["/greeting"]}
    (directory / "image.json").write_text(json.dumps(config))
    said = command("load", "image", "--build", f"t.local/hello:1={directory}", "--json",
                   timeout=900)  # fmt: skip
    assert [(outcome["node"], outcome["ok"]) for outcome in json.loads(said)] == [
        (n, True) for n in NODES
    ]

    for node in NODES:
        spec = {"nodeName": node, "restartPolicy": "Never"}
        kubectl("run", f"hello-{node}", "--image=t.local/hello:1", "--image-pull-policy=Never",
                f"--overrides={json.dumps({'spec': spec})}")  # fmt: skip
    for node in NODES:
        pod = f"pod/hello-{node}"
        kubectl("wait", pod, "--timeout=600s", "--for=jsonpath={.status.phase}=Succeeded")
        assert kubectl("logs", pod) == GREETING
        kubectl("delete", pod, "--now", "--wait=false")
