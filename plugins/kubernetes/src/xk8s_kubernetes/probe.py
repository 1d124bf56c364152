"""A pod that asks the API server who it is: what the check of service accounts runs.

Its image is all but empty. The program is the node's own curl, which gets what any client in a pod
gets: the variables of the Service ``kubernetes``, and the token and the CA that are mounted into
the pod. So the answer proves token, CA, Service and pod network at once. (kubectl would do, too,
but it is slow to start without KVM.)
"""

from __future__ import annotations

import json
from typing import Any

from xk8s.overlay import Directory, Symlink
from xk8s_images import Image

PROBE_NAMESPACE = "default"
PROBE_NAME = "xk8s-service-account"
PROBE_ANSWER = f"system:serviceaccount:{PROBE_NAMESPACE}:default"
PROBE_IMAGE = Image(
    ref="xk8s.local/probe:1",
    entries=(
        Directory(path="/tmp", mode=0o1777),  # noqa: S108 - inside the image
        # Programs of a node's /usr, mounted into a pod, find their loader and libraries.
        Symlink(path="/lib", target="usr/lib"),
        Symlink(path="/lib64", target="usr/lib64"),
    ),
)

_REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
_ASK = f"""\
own=/var/run/secrets/kubernetes.io/serviceaccount
host=$KUBERNETES_SERVICE_HOST
case $host in *:*) host="[$host]" ;; esac
exec /usr/bin/curl --silent --show-error --fail-with-body \\
  --connect-timeout 10 --retry 30 --retry-delay 1 --retry-connrefused \\
  --cacert $own/ca.crt --header "Authorization: Bearer $(/usr/bin/cat $own/token)" \\
  --header "Content-Type: application/json" --data '{json.dumps(_REVIEW)}' \\
  "https://$host:$KUBERNETES_SERVICE_PORT/apis/authentication.k8s.io/v1/selfsubjectreviews"
"""


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
                    "command": ["/usr/bin/sh", "-c", _ASK],
                    "volumeMounts": [{"name": "usr", "mountPath": "/usr", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "usr", "hostPath": {"path": "/usr", "type": "Directory"}}],
        },
    }


def user_of(answer: str) -> str:
    """Return the user whom the API server took the pod for; the answer itself if it names none."""
    try:
        return str(json.loads(answer)["status"]["userInfo"]["username"])
    except (ValueError, LookupError, TypeError):
        return answer.strip()
