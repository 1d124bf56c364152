"""Faults of pods, and those seen briefly in every start. See `xk8s_kubernetes.faults`."""

from __future__ import annotations

from xk8s.overlay import Fault

_IMAGE = (
    "load it into the nodes now: xk8s load image {image}; from the next start on: "
    "-s images.refs={image}"
)

PODS = (
    Fault(
        name="image-never-pull",
        pattern=r"Container image \"(?P<image>[^\"]+)\" is not present with pull policy of Never",
        cause="a pod must not pull its image {image} (imagePullPolicy: Never), and its node does "
        "not have it",
        remedy=_IMAGE,
        examples=(
            'Pod/default/x: ErrImageNeverPull: Container image "docker.io/library/none:1" is not '
            "present with pull policy of Never",
        ),
    ),
    Fault(
        name="image-pull",
        pattern=r"[Ff]ailed to pull (?:and unpack )?image \"(?P<image>[^\"]+)\"",
        cause="a node cannot pull the image {image}",
        remedy=_IMAGE + ", or give the nodes access to its registry",
        examples=(
            'Pod/default/x: Failed: Failed to pull image "docker.io/library/none:1": failed to '
            'pull and unpack image "docker.io/library/none:1": failed to resolve reference '
            '"docker.io/library/none:1": dial tcp: lookup registry-1.docker.io: no such host',
        ),
    ),
    Fault(
        name="image-name",
        pattern=r"couldn't parse image name \"(?P<image>[^\"]+)\"",
        cause="a pod uses an invalid image reference: {image}",
        remedy="write it as REGISTRY/NAME:TAG",
        examples=('Failed to apply default image tag "A:B:C": couldn\'t parse image name "A:B:C"',),
    ),
    Fault(
        name="cni-plugin-missing",
        pattern=r"failed to find plugin \"(?P<plugin>[^\"]+)\" in path \[(?P<path>[^\]]*)\]",
        cause="the CNI configuration of a node needs the plugin {plugin}, which is not in {path}",
        remedy="add it in a layer (/opt/cni/bin/{plugin}), or change the configuration: xk8s "
        "exec NODE -- ls /opt/cni/bin /etc/cni/net.d; your own builds: -s kubernetes.cni_dir=…",
        examples=(
            'plugin type="none" failed (add): failed to find plugin "none" in path [/opt/cni/bin]',
        ),
    ),
    Fault(
        name="pod-addresses",
        pattern=r"no IP addresses available in range set: (?P<range>[^\"\s]+)",
        cause="all pod addresses of a node are used: {range}",
        remedy="use fewer pods per node, or more nodes; addresses of deleted pods: xk8s exec "
        "NODE -- ls /run/cni/xk8s",
        examples=(
            "failed to allocate for range 0: no IP addresses available in range set: "
            "11.0.1.1-11.0.1.254",
        ),
    ),
    Fault(
        name="bridge-address",
        pattern=r"\"(?P<bridge>[^\"]+)\" already has an IP address different from "
        r"(?P<address>[0-9a-f.:/]+)",
        cause="the bridge {bridge} has an address from a configuration other than {address}",
        remedy="xk8s exec NODE -- ip link delete {bridge}; the next pod recreates it",
        examples=(
            'failed to set bridge addr: "cni0" already has an IP address different from '
            "11.0.1.1/24",
        ),
    ),
    Fault(
        name="container-memory",
        pattern=r"Memory cgroup out of memory: Killed process \d+ \((?P<program>[^)]+)\)",
        cause="a container used more memory than its limit, and the kernel killed {program}",
        remedy="raise resources.limits.memory of its pod",
        examples=(
            "Memory cgroup out of memory: Killed process 2211 (sh) total-vm:103920kB, "
            "anon-rss:65536kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:188kB "
            "oom_score_adj:1000",
        ),
    ),
    Fault(
        name="evicted",
        pattern=r"The node was low on resource: (?P<what>[\w-]+)|"
        r"Evicted: (?!The node was low)(?P<why>.+)",
        cause="kubelet evicted pods from a node: low on {what}{why}",
        remedy="give the node more memory (its file systems are in it, too): --memory NODE=MIB",
        examples=(
            "Pod/default/x: Evicted: The node was low on resource: memory. Threshold quantity: "
            "10Mi, available: 4Mi.",
        ),
    ),
    Fault(
        name="no-room-for-pod",
        pattern=r"\d+/\d+ nodes are available: (?P<why>.*?Insufficient \w+.*?)(?:\. |$)",
        cause="no node has enough resources for a pod: {why}",
        remedy="request less in its resources.requests, or give the nodes more: --memory, --cpus, "
        "--nodes",
        examples=(
            "Pod/default/x: FailedScheduling: 0/2 nodes are available: 2 Insufficient memory. "
            "preemption: 0/2 nodes are available",
        ),
    ),
    Fault(
        name="no-node-fits",
        pattern=r"FailedScheduling: \d+/\d+ nodes are available: (?P<why>[^.]+)\.",
        cause="no node accepts a pod: {why}",
        remedy="xk8s exec vm-001 -- kubectl describe nodes shows taints, labels and what is in use",
        examples=(
            "Pod/default/x: FailedScheduling: 0/2 nodes are available: 2 node(s) didn't match "
            "Pod's node affinity/selector. preemption: none",
        ),
        transient=True,
    ),
    Fault(
        name="mount-failed",
        pattern=r"FailedMount: MountVolume\.SetUp failed for volume \"(?P<volume>[^\"]+)\" : "
        r"(?P<why>.+)",
        cause="the volume {volume} of a pod cannot be mounted: {why}",
        remedy="create what it names (a ConfigMap, Secret or path of the node) first",
        examples=(
            'Pod/default/x: FailedMount: MountVolume.SetUp failed for volume "config" : configmap '
            '"none" not found',
        ),
        transient=True,
    ),
    Fault(
        name="crash-loop",
        pattern=r"Back-off restarting failed container (?P<container>\S+) in pod (?P<pod>[^_\s]+)_"
        r"(?P<namespace>[^(\s]+)",
        cause="the container {container} of pod {namespace}/{pod} keeps terminating",
        remedy="xk8s logs pod/{pod} -c {container}",
        examples=(
            "Pod/default/x: BackOff: Back-off restarting failed container c in pod "
            "x_default(5c0c6e62-0f5e-4b56-9c0b-4a3f6f0e2a61)",
        ),
    ),
    Fault(
        name="fsnotify",
        pattern=r"(?:fsnotify|inotify).*too many open files",
        cause="the guest's limit of watched files is reached",
        remedy="xk8s exec NODE -- sysctl -w fs.inotify.max_user_instances=8192",
        examples=("failed to create fsnotify watcher: too many open files",),
    ),
)
"""Faults that keep pods from running."""

WAITING = (
    Fault(
        name="cni-not-ready",
        pattern=r"cni plugin not initialized|no networks found in /etc/cni/net\.d|"
        r"No CNI configuration file in|no network config found in",
        cause="the container runtime of a node has no CNI configuration yet",
        remedy="xk8s exec NODE -- ls -l /etc/cni/net.d; the overlay that "
        "provides cni writes it; then xk8s logs NODE cri",
        examples=(
            "container runtime network not ready: NetworkReady=false "
            "reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not "
            "initialized",
        ),
        transient=True,
    ),
    Fault(
        name="etcd-unreachable",
        pattern=r"dial tcp \S+:2379: (?:connect: )?(?P<why>[^\"\\]+)",
        cause="the API server cannot reach etcd: {why}",
        remedy="xk8s logs vm-001 etcd; xk8s exec vm-001 -- systemctl status etcd",
        examples=(
            "W1124 06:09:21 1 logging.go:55] [core] grpc: addrConn.createTransport failed to "
            'connect to {Addr: "127.0.0.1:2379"}. Err: connection error: desc = "transport: Error '
            'while dialing: dial tcp 127.0.0.1:2379: connect: connection refused"',
        ),
        transient=True,
    ),
    Fault(
        name="api-unreachable",
        pattern=r"dial tcp (?P<address>\S+:6443): (?:connect: )?(?P<why>[^\"\\]+)",
        cause="the API server cannot be reached at {address}: {why}",
        remedy="xk8s logs vm-001 apiserver; the route to it: xk8s exec NODE -- ip route; "
        "xk8s check api",
        examples=(
            'failed to list *v1.Node: Get "https://192.168.1.1:6443/api/v1/nodes": dial tcp '
            "192.168.1.1:6443: connect: no route to host",
        ),
        transient=True,
    ),
    Fault(
        name="cri-unreachable",
        pattern=r"dial unix /run/cri\.sock: (?:connect: )?(?P<why>[^\"\\]+)",
        cause="kubelet cannot reach the container runtime: {why}",
        remedy="xk8s logs NODE cri",
        examples=(
            'Error while dialing: dial unix /run/cri.sock: connect: no such file or directory"',
        ),
        transient=True,
    ),
    Fault(
        name="sandbox-failed",
        pattern=r"[Ff]ailed to create pod sandbox: (?P<why>[^\n]{0,300})",
        cause="a pod's sandbox cannot be created: {why}",
        remedy="xk8s logs NODE cri, and the faults above",
        examples=(
            "Pod/default/x: FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code "
            "= Unknown desc = failed to setup network for sandbox",
        ),
        transient=True,
    ),
)
"""Faults that are also seen briefly in every start."""
