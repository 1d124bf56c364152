"""A pod that asks the API server who it is: what the check of service accounts runs.

Its image is all but empty. The program is the node's own kubectl, which finds the API server as
any client in a pod does: by the variables of the Service ``kubernetes``, the token and the CA
that are mounted into it. So the answer proves token, CA, Service and pod network at once.
"""

from __future__ import annotations

from typing import Any

from xk8s.overlay import Directory
from xk8s_images import Image

PROBE_NAMESPACE = "default"
PROBE_NAME = "xk8s-service-account"
PROBE_ANSWER = f"system:serviceaccount:{PROBE_NAMESPACE}:default"
PROBE_IMAGE = Image(
    ref="xk8s.local/probe:1",
    entries=(Directory(path="/tmp", mode=0o1777),),  # noqa: S108 - inside the image
    entrypoint=("/kubectl",),
)


def probe_pod() -> dict[str, Any]:
    """Return the pod's object for the API."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": PROBE_NAME, "namespace": PROBE_NAMESPACE},
        "spec": {
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "probe",
                    "image": PROBE_IMAGE.ref,
                    "imagePullPolicy": "Never",
                    "command": ["/kubectl"],
                    "args": ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"],
                    "volumeMounts": [
                        {"name": "kubectl", "mountPath": "/kubectl", "readOnly": True}
                    ],
                }
            ],
            "volumes": [
                {"name": "kubectl", "hostPath": {"path": "/usr/bin/kubectl", "type": "File"}}
            ],
        },
    }
