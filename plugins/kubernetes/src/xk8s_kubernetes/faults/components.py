"""Faults of components that start, and of keys, tokens, clocks and roles."""

from __future__ import annotations

from xk8s.overlay import Fault

_ARGS = (
    "see where the argument comes from: xk8s explain kubernetes.kubelet_args (or apiserver_args, "
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
        cause="a component was started with a wrong value for a flag: {what}",
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
        remedy="remove it from -s kubernetes.feature_gates (or of a component's arguments); gates "
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
        remedy="find the overlay that adds it (fragments kubernetes.kubelet.config and "
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
        remedy="use a base system whose init mounts cgroup2 on /sys/fs/cgroup, as systemd does, "
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
        cause="the guest's kernel is built without swap (CONFIG_SWAP), which kubelet requires",
        remedy="use a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
        examples=("error: failed to run Kubelet: open /proc/swaps: no such file or directory",),
    ),
    Fault(
        name="kernel-keys",
        pattern=r"/proc/sys/kernel/keys/root_maxbytes: no such file",
        cause="the guest's kernel is built without CONFIG_KEYS",
        remedy="use a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
        examples=("open /proc/sys/kernel/keys/root_maxbytes: no such file or directory",),
    ),
    Fault(
        name="masquerade",
        pattern=r"Failed to ensure that .* chain .* jumps to MASQUERADE|"
        r"(?:Couldn't load|Extension addrtype|xt_addrtype).*(?:match|revision|missing).*addrtype|"
        r"Extension addrtype revision \d+ not supported",
        cause="the kernel lacks iptables' match addrtype (module xt_addrtype)",
        remedy="use a kernel that has it, or -s kubernetes.proxy_mode=nftables, which does "
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
        cause="kube-proxy cannot create its interface kube-ipvs0: the kernel has no module dummy",
        remedy="use a kernel that has it: -s debian.kernel=PACKAGE; `xk8s plan` checks it",
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
        remedy="use a newer release of the runtime (kubelet 1.36 and later need one that reports "
        "its cgroup driver), by the runtime's settings version or dir; xk8s logs NODE cri",
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
        remedy="use systemd for both: set the runtime's cgroup_driver to systemd, and nothing else "
        "in fragments of kubernetes.kubelet.config",
        examples=(
            "failed to create containerd task: expected cgroupsPath to be of format "
            '\\"slice:prefix:name\\" for systemd cgroups, got \\"/kubepods/besteffort/pod1\\" '
            "instead",
        ),
    ),
    Fault(
        name="port-in-use",
        pattern=r"listen (?:tcp|udp)\d? (?P<address>\S+): bind: address already in use",
        cause="something in the guest already listens on {address}",
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
"""Faults that keep a component from starting."""

KEYS = (
    Fault(
        name="clock",
        # The times in it differ from line to line, but it is one fault.
        pattern=r"x509: certificate has expired or is not yet valid",
        cause="a certificate is not valid at the time that a clock of the cluster shows",
        remedy="compare the clocks: xk8s exec NODE -- date; set a clock: xk8s exec NODE -- date "
        "-u -s @$(date +%s); keys that have really expired: xk8s ca rotate",
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
        cause="one side of a connection does not trust the other's certificate: it belongs to "
        "another cluster or an earlier start (or a clock is wrong)",
        remedy="replace all keys: xk8s ca rotate; for your own kubeconfig: xk8s kubeconfig --merge",
        examples=(
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "http: TLS handshake error from 192.168.1.2:51514: remote error: tls: bad certificate",
        ),
    ),
    Fault(
        name="wrong-name",
        pattern=r"x509: certificate is (?:valid for|not valid for any names)(?P<why>[^\"]+)",
        cause="a server was addressed by a name or address that is not in its certificate:{why}",
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
        cause="a program in a pod needs the API, and the pod has no service account's {file}",
        remedy="leave automountServiceAccountToken on for that pod; the check `service account` "
        'tests it: xk8s check "service account"',
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
