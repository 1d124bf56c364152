"""Faults of Kubernetes that are known by what they leave in journals and events.

The most specific first. Examples are lines as they were seen with Kubernetes 1.36, containerd 2.4
and kernel 6.12, and those that users of older releases look for.
"""

from __future__ import annotations

from xk8s.overlay import Fault

_IMAGE = (
    "pre-pull it: -s images.refs={image} (`xk8s exec NODE -- ctr -n k8s.io images ls -q`, or "
    "`crictl images`, lists what a node has)"
)
_ARGS = (
    "see where the argument is from: xk8s explain kubernetes.kubelet_args (or apiserver_args, "
    "controller_manager_args, scheduler_args, proxy_args, feature_gates)"
)

START = (
    Fault(
        name="unknown-flag",
        pattern=r"unknown (?:shorthand )?flag: (?P<flag>.+?)\"?$",
        cause="a component was started with a flag that its release does not have: {flag}",
        remedy=_ARGS,
        examples=(
            'E1124 06:01:05.074342   20350 run.go:72] "command failed" err="failed to parse '
            'kubelet flag: unknown flag: --no-such-flag"',
            "Error: unknown flag: --no-such-flag",
        ),
    ),
    Fault(
        name="bad-flag",
        pattern=r"Error: (?P<what>invalid argument .+ for .+ flag: .+)$",
        cause="a component was started with a flag of a wrong value: {what}",
        remedy=_ARGS,
        examples=(
            'Error: invalid argument "x" for "-v, --v" flag: strconv.ParseUint: parsing "x": '
            "invalid syntax",
        ),
    ),
    Fault(
        name="unknown-feature-gate",
        pattern=r"unrecognized feature gate: (?P<gate>\w+)",
        cause="this release of Kubernetes has no feature gate {gate}",
        remedy="take it out of -s kubernetes.feature_gates (or of a component's arguments); gates "
        "that became standard are removed some releases later",
        examples=(
            'E1124 06:01:06.018794   20392 run.go:72] "command failed" err="unrecognized feature '
            'gate: NoSuchGate"',
        ),
    ),
    Fault(
        name="unknown-field",
        pattern=r"strict decoding error: (?P<what>unknown field .+?)\"?$",
        cause="a configuration has a field that this release does not know: {what}",
        remedy="look for the overlay that adds it (fragments kubernetes.kubelet.config and "
        "kubernetes.proxy.config)",
        examples=(
            'I1124 06:01:06.470692   20428 codec.go:102] "Using lenient decoding as strict '
            'decoding failed" err="strict decoding error: unknown field \\"noSuchField\\""',
        ),
    ),
    Fault(
        name="cgroups",
        pattern=r"mountpoint for \w+ not found|Following Cgroup subsystem not mounted|"
        r"failed to get mounted cgroup subsystems|configured to not run on a host using cgroup v1",
        cause="the guest has no (unified) cgroup hierarchy",
        remedy="take a base system whose init mounts cgroup2 on /sys/fs/cgroup, as systemd does, "
        "with no systemd.unified_cgroup_hierarchy=0 among the kernel arguments",
        examples=(
            "error: failed to run Kubelet: mountpoint for cpu not found",
            'err="failed to validate kubelet configuration, error: kubelet is configured to not '
            'run on a host using cgroup v1. cgroup v1 support is unsupported"',
        ),
    ),
    Fault(
        name="swap-file-missing",
        pattern=r"open /proc/swaps: no such file",
        cause="the guest's kernel is built without swap (CONFIG_SWAP), for which kubelet asks",
        remedy="take a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
        examples=("error: failed to run Kubelet: open /proc/swaps: no such file or directory",),
    ),
    Fault(
        name="kernel-keys",
        pattern=r"/proc/sys/kernel/keys/root_maxbytes: no such file",
        cause="the guest's kernel is built without CONFIG_KEYS",
        remedy="take a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
        examples=("open /proc/sys/kernel/keys/root_maxbytes: no such file or directory",),
    ),
    Fault(
        name="masquerade",
        pattern=r"Failed to ensure that .* chain .* jumps to MASQUERADE|"
        r"(?:Couldn't load|Extension addrtype|xt_addrtype).*(?:match|revision|missing).*addrtype|"
        r"Extension addrtype revision \d+ not supported",
        cause="the kernel lacks iptables' match addrtype (module xt_addrtype)",
        remedy="take a kernel that has it, or -s kubernetes.proxy_mode=nftables, which does "
        "without; `xk8s plan` checks it for the other modes",
        examples=(
            "Failed to ensure that nat chain POSTROUTING jumps to MASQUERADE",
            "Warning: Extension addrtype revision 0 not supported, missing kernel module?",
        ),
    ),
    Fault(
        name="ipvs-modules",
        pattern=r"IPVS proxier will not be used because (?P<which>.+)|"
        r"can't use the IPVS proxier: (?P<why>[^\"]+)",
        cause="kube-proxy cannot use ipvs in this guest: {which}{why}",
        remedy="let xk8s load its modules by -s kubernetes.proxy_mode=ipvs (not by arguments of "
        "kube-proxy alone), or use the default, nftables",
        examples=(
            "IPVS proxier will not be used because the following required kernel modules are not "
            "loaded: [ip_vs nf_conntrack_ipv4]",
            'E1124 06:20:31 1 run.go:72] "command failed" err="can\'t use the IPVS proxier: ipvs '
            'not supported by the kernel"',
        ),
    ),
    Fault(
        name="ipvs-dummy",
        pattern=r"Failed to create dummy interface",
        cause="kube-proxy cannot make its interface kube-ipvs0: the kernel has no module dummy",
        remedy="take a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
        examples=(
            "proxier.go:1015] Failed to create dummy interface: kube-ipvs0, error: operation not "
            "supported",
            'E1124 06:20:31 1 proxier.go:728] "Failed to create dummy interface" err="operation '
            'not supported" interface="kube-ipvs0"',
        ),
    ),
    Fault(
        name="nftables-missing",
        pattern=r"could not find nftables binary|could not run nftables command|"
        r"kube-proxy in nftables mode requires",
        cause="kube-proxy cannot use nftables in this guest",
        remedy="add the package nftables (-s debian.packages=nftables) or a kernel of 5.13 or "
        "later; or -s kubernetes.proxy_mode=iptables",
        examples=(
            'err="could not find nftables binary: exec: \\"nft\\": executable file not '
            'found in $PATH"',
        ),
    ),
    Fault(
        name="cri-too-old",
        pattern=r"validate CRI v1 (?:runtime|image) API for endpoint|"
        r"unknown service runtime\.v1\.|CRI implementation should be updated",
        cause="the container runtime is too old for this kubelet, or does not answer at its socket",
        remedy="kubelet 1.36 and later want containerd 2 (or CRI-O of the same minor release); "
        "xk8s logs NODE cri; with your own: -s containerd.dir=… or -s crio.dir=…",
        examples=(
            'err="failed to run Kubelet: validate CRI v1 runtime API for endpoint '
            '\\"unix:///run/cri.sock\\": rpc error: code = Unimplemented desc = unknown service '
            'runtime.v1.RuntimeService"',
        ),
    ),
    Fault(
        name="cgroup-driver",
        pattern=r"expected cgroupsPath to be of format \"slice:prefix:name\"|"
        r"misconfiguration: kubelet cgroup driver|cgroup path .* is not a systemd",
        cause="kubelet and the container runtime use different cgroup drivers",
        remedy="use systemd for both: -s containerd.cgroup_driver=systemd (or crio's), and nothing "
        "else in fragments of kubernetes.kubelet.config",
        examples=(
            "failed to create containerd task: expected cgroupsPath to be of format "
            '\\"slice:prefix:name\\" for systemd cgroups, got \\"/kubepods/besteffort/pod1\\" '
            "instead",
        ),
    ),
    Fault(
        name="port-in-use",
        pattern=r"listen (?:tcp|udp)\d? (?P<address>\S+): bind: address already in use",
        cause="something in the guest listens on {address} already",
        remedy="find it with: xk8s exec NODE -- ss -tlnp",
        examples=(
            'E1124 06:10:00 1 run.go:72] "command failed" err="failed to create listener: failed '
            'to listen on 0.0.0.0:6443: listen tcp 0.0.0.0:6443: bind: address already in use"',
        ),
    ),
    Fault(
        name="address-missing",
        pattern=r"listen (?:tcp|udp)\d? (?P<address>\S+): bind: cannot assign requested address|"
        r"node IP: \"?(?P<ip>[^\"\s]+)\"? not found in the host's network interfaces",
        cause="the guest does not have the address {address}{ip}, which a component wants to use",
        remedy="xk8s exec NODE -- ip -br address; `xk8s plan --json` says which it should have",
        examples=("listen tcp 192.168.1.9:6443: bind: cannot assign requested address",),
    ),
)
"""What keeps a component from starting."""

KEYS = (
    Fault(
        name="clock",
        pattern=r"x509: certificate has expired or is not yet valid(?:: (?P<why>[^\"]+))?",
        cause="a certificate is not valid at the time that a clock of the cluster shows: {why}",
        remedy="compare the clocks: xk8s exec NODE -- date; set one right: xk8s exec NODE -- date "
        "-u -s @$(date +%s); keys that have really expired go with `xk8s up --cold`",
        examples=(
            'err="Get \\"https://127.0.0.1:6443/readyz\\": tls: failed to verify certificate: '
            "x509: certificate has expired or is not yet valid: current time 2020-01-01T00:00:10Z "
            'is before 2026-11-23T05:49:44Z"',
        ),
    ),
    Fault(
        name="unknown-authority",
        pattern=r"x509: certificate signed by unknown authority|"
        r"tls: (?:bad certificate|unknown certificate authority)",
        cause="one side of a connection has keys of another cluster, or of an earlier start",
        remedy="make all keys anew: xk8s down, then xk8s up --cold; a kubeconfig of yours from "
        "before: xk8s kubeconfig --merge",
        examples=(
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "http: TLS handshake error from 192.168.1.2:51514: remote error: tls: bad certificate",
        ),
    ),
    Fault(
        name="wrong-name",
        pattern=r"x509: certificate is (?:valid for|not valid for any names)(?P<why>[^\"]+)",
        cause="a server was asked by a name or address that its certificate does not have:{why}",
        remedy="use one that it has; the API server's are those of vm-001 on all its networks, its "
        "Service, 127.0.0.1 and localhost",
        examples=(
            "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, "
            "192.168.1.1, not 10.0.0.9",
        ),
    ),
    Fault(
        name="token-missing",
        pattern=r"open /var/run/secrets/kubernetes\.io/serviceaccount/(?P<file>\S+): no such file",
        cause="a program in a pod wants the API, and the pod has no service account's {file}",
        remedy="leave automountServiceAccountToken on for that pod; the check `service account` "
        'tries it: xk8s check "service account"',
        examples=(
            "open /var/run/secrets/kubernetes.io/serviceaccount/token: no such file or directory",
        ),
    ),
    Fault(
        name="forbidden",
        pattern=r"User \"(?P<user>system:(?!node:|kube-)[^\"]+)\" cannot (?P<what>\w+ resource "
        r"\"[^\"]+\")",
        cause="{user} may not {what}: it has no role for that",
        remedy="bind one: xk8s exec vm-001 -- kubectl create clusterrolebinding …",
        examples=(
            'pods is forbidden: User "system:serviceaccount:default:default" cannot list resource '
            '"pods" in API group "" in the namespace "default"',
        ),
    ),
)
"""Certificates, tokens, clocks and roles."""

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
        pattern=r"Failed to pull image \"(?P<image>[^\"]+)\"",
        cause="a node cannot pull the image {image}",
        remedy=_IMAGE + ", or give the nodes a way to its registry",
        examples=(
            'Pod/default/x: Failed: Failed to pull image "docker.io/library/none:1": failed to '
            'pull and unpack image "docker.io/library/none:1": failed to resolve reference '
            '"docker.io/library/none:1": dial tcp: lookup registry-1.docker.io: no such host',
        ),
    ),
    Fault(
        name="image-name",
        pattern=r"Failed to apply default image tag \"(?P<image>[^\"]+)\"|InvalidImageName",
        cause="a pod names an image that is no reference: {image}",
        remedy="write it as REGISTRY/NAME:TAG",
        examples=('Failed to apply default image tag "A:B:C": couldn\'t parse image name "A:B:C"',),
    ),
    Fault(
        name="cni-plugin-missing",
        pattern=r"failed to find plugin \"(?P<plugin>[^\"]+)\" in path \[(?P<path>[^\]]*)\]",
        cause="the CNI configuration of a node wants the plugin {plugin}, and {path} has none",
        remedy="bring it in a layer (/opt/cni/bin/{plugin}), or change the configuration: xk8s "
        "exec NODE -- ls /opt/cni/bin /etc/cni/net.d; your own builds: -s kubernetes.cni_dir=…",
        examples=(
            'plugin type="none" failed (add): failed to find plugin "none" in path [/opt/cni/bin]',
        ),
    ),
    Fault(
        name="pod-addresses",
        pattern=r"no IP addresses available in range set: (?P<range>[^\"\s]+)",
        cause="all pod addresses of a node are used: {range}",
        remedy="fewer pods per node, or more nodes; addresses of pods that are gone: xk8s exec "
        "NODE -- ls /run/cni/xk8s",
        examples=(
            "failed to allocate for range 0: no IP addresses available in range set: "
            "11.0.1.1-11.0.1.254",
        ),
    ),
    Fault(
        name="bridge-address",
        pattern=r"\"(?P<bridge>[^\"]+)\" already has an IP address different from (?P<address>\S+)",
        cause="the bridge {bridge} has an address of another configuration than {address}",
        remedy="xk8s exec NODE -- ip link delete {bridge}; it is made anew with the next pod",
        examples=(
            'failed to set bridge addr: "cni0" already has an IP address different from '
            "11.0.1.1/24",
        ),
    ),
    Fault(
        name="container-memory",
        pattern=r"Memory cgroup out of memory: Killed process \d+ \((?P<program>[^)]+)\)",
        cause="a container used more memory than its limit, and the kernel ended {program}",
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
        cause="kubelet threw pods out of a node: low on {what}{why}",
        remedy="give the node more memory (its file systems are in it, too): --memory NODE=MIB",
        examples=(
            "Pod/default/x: Evicted: The node was low on resource: memory. Threshold quantity: "
            "10Mi, available: 4Mi.",
        ),
    ),
    Fault(
        name="no-room-for-pod",
        pattern=r"\d+/\d+ nodes are available: (?P<why>.*?Insufficient \w+.*?)(?:\. |$)",
        cause="no node has room for a pod: {why}",
        remedy="ask for less in its resources.requests, or give the nodes more: --memory, --cpus, "
        "--nodes",
        examples=(
            "Pod/default/x: FailedScheduling: 0/2 nodes are available: 2 Insufficient memory. "
            "preemption: 0/2 nodes are available",
        ),
    ),
    Fault(
        name="no-node-fits",
        pattern=r"FailedScheduling: \d+/\d+ nodes are available: (?P<why>[^.]+)\.",
        cause="no node will take a pod: {why}",
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
        remedy="make what it names (a ConfigMap, Secret or path of the node) first",
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
        cause="the container {container} of pod {namespace}/{pod} ends again and again",
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
"""What keeps pods from running."""

WAITING = (
    Fault(
        name="cni-not-ready",
        pattern=r"cni plugin not initialized|no networks found in /etc/cni/net\.d|"
        r"No CNI configuration file in|no network config found in",
        cause="the container runtime of a node has no CNI configuration yet",
        remedy="xk8s exec NODE -- ls -l /etc/cni/net.d; overlay kubernetes puts "
        "10-xk8s.conflist there; then xk8s logs NODE cri",
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
        cause="the API server does not reach etcd: {why}",
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
        remedy="xk8s logs vm-001 apiserver; the way to it: xk8s exec NODE -- ip route; "
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
        cause="kubelet does not reach the container runtime: {why}",
        remedy="xk8s logs NODE cri",
        examples=(
            'Error while dialing: dial unix /run/cri.sock: connect: no such file or directory"',
        ),
        transient=True,
    ),
    Fault(
        name="sandbox-failed",
        pattern=r"[Ff]ailed to create pod sandbox: (?P<why>[^\n]{0,300})",
        cause="a pod's sandbox cannot be made: {why}",
        remedy="xk8s logs NODE cri, and the faults above",
        examples=(
            "Pod/default/x: FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code "
            "= Unknown desc = failed to setup network for sandbox",
        ),
        transient=True,
    ),
)
"""What is seen for a moment in every start, too."""

FAULTS = (*START, *KEYS, *PODS, *WAITING)
