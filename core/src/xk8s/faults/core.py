"""Faults that the core knows: kernels, init, memory, QEMU. It knows nothing of what runs in guests.

Examples are lines as they were seen; those of QEMU 7.2 are from Debian 12.
"""

from __future__ import annotations

from xk8s.overlay import Fault

_MEMORY = "give it more: --memory NODE=MIB (`xk8s status` shows how much it has)"

CORE_FAULTS: tuple[Fault, ...] = (
    Fault(
        name="initramfs",
        # A module that is not loaded is reported, too, but need not matter.
        pattern=r"xk8s-initramfs: (?!module )(?P<why>.+)",
        cause="the guest could not be assembled from its layers: {why}",
        remedy="an overlay that provides `base`, or a layer, is broken: see "
        "docs/reference/boot.md, and `xk8s plan` for the layers",
        examples=("xk8s-initramfs: cannot mount layer kubernetes-node: no disk with serial L07",),
    ),
    Fault(
        name="init-died",
        pattern=r"Kernel panic - not syncing: Attempted to kill init! exitcode=(?P<code>\S+)",
        cause="the guest's init ended (exit code {code}), so the kernel gave up",
        remedy="the lines before it on the console say why; with an emulated CPU see "
        "`xk8s doctor`: QEMU before 9 breaks programs at random",
        examples=("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00",),
    ),
    Fault(
        name="no-root",
        pattern=r"VFS: Unable to mount root fs|No working init found",
        cause="the kernel found no initramfs, or one that it cannot start",
        remedy="the overlay that provides `base` returns a broken one (xk8s_boot_image)",
        examples=(
            "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "Kernel panic - not syncing: No working init found.  Try passing init= option to "
            "kernel.",
        ),
    ),
    Fault(
        name="panic-on-oom",
        pattern=r"System is deadlocked on memory|Out of memory and no killable processes",
        cause="a node ran out of memory, with no process left to kill",
        remedy=_MEMORY,
        examples=("Kernel panic - not syncing: System is deadlocked on memory",),
    ),
    Fault(
        name="kernel-panic",
        pattern=r"Kernel panic - not syncing: (?P<why>.+?)\s*$",
        cause="the guest's kernel panicked: {why}",
        remedy="without KVM and with QEMU before 9 this happens at random (`xk8s doctor`): start "
        "again, or install a later QEMU; otherwise report the console",
        examples=(
            "Kernel panic - not syncing: Fatal exception in interrupt",
            "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted",
        ),
    ),
    Fault(
        name="kernel-oops",
        pattern=r"(?P<what>BUG: unable to handle .+|Oops: .+|invalid opcode: .+|"
        r"kernel BUG at .+|general protection fault.+)",
        cause="the guest's kernel hit a fault: {what}",
        remedy="without KVM and with QEMU before 9 this happens at random (`xk8s doctor`): start "
        "again, or install a later QEMU; otherwise report the console",
        examples=(
            "BUG: unable to handle page fault for address: ffffffffb3a012c0",
            "Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
        ),
    ),
    Fault(
        name="out-of-memory",
        # Not "Memory cgroup out of memory", which is a container's own limit.
        # It often kills many, and not what used the memory: that is still one fault.
        pattern=r"Out of memory: Killed process \d+ \(",
        cause="a node ran out of memory, and its kernel killed programs",
        remedy=_MEMORY,
        examples=(
            "Out of memory: Killed process 1322 (kube-apiserver) total-vm:1508232kB, "
            "anon-rss:284120kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:892kB "
            "oom_score_adj:0",
        ),
    ),
    Fault(
        name="host-memory",
        pattern=r"cannot set up guest memory|unable to map backing store for guest RAM|"
        r"can't allocate RAM|failed to allocate memory",
        cause="this machine does not have enough memory for the VMs",
        remedy="stop other programs or clusters, or use less: --nodes 1, --memory worker=1024",
        examples=(
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        ),
    ),
    Fault(
        name="kvm-permission",
        pattern=r"Could not access KVM kernel module: (?P<why>.+)|failed to initialize kvm: "
        r"(?P<also>.+)",
        cause="KVM cannot be used: {why}{also}",
        remedy="let this user open /dev/kvm (sudo adduser $USER kvm, then log in again), or use "
        "--accel tcg",
        examples=("Could not access KVM kernel module: Permission denied",),
    ),
    Fault(
        name="port-taken",
        pattern=r"Could not set up host forwarding rule '(?P<rule>[^']+)'",
        cause="a port of this machine that cluster.qemu_args forwards is taken by another program: "
        "{rule}",
        remedy="choose another port there; those that overlays forward skip what is in use",
        examples=(
            "qemu-system-x86_64: -netdev user,id=net0: Could not set up host forwarding "
            "rule 'tcp:127.0.0.1:18080-:6443'",
        ),
    ),
    Fault(
        name="guest-disk-full",
        pattern=r"[Nn]o space left on device",
        cause="a file system of the guest is full; all of them are in its memory",
        remedy="`xk8s exec NODE -- df -h` shows which; " + _MEMORY,
        examples=(
            "tee: /var/log/kubelet.log: No space left on device",
            'E1124 05:45:19.000000 1 kubelet.go:1] "x" err="write /run/x: no space left on device"',
        ),
    ),
    Fault(
        name="conntrack-full",
        pattern=r"nf_conntrack: (?:nf_conntrack: )?table full, dropping packet",
        cause="a node's connection table is full, so packets are lost",
        remedy="xk8s exec NODE -- sysctl -w net.netfilter.nf_conntrack_max=262144",
        examples=("nf_conntrack: nf_conntrack: table full, dropping packet",),
    ),
    Fault(
        name="neighbour-table-full",
        pattern=r"neighbour: (?:arp_cache|ndisc_cache): neighbor table overflow",
        cause="a node knows more neighbours than its table holds",
        remedy="xk8s exec NODE -- sysctl -w net.ipv4.neigh.default.gc_thresh3=8192 (and for "
        "net.ipv6)",
        examples=("neighbour: arp_cache: neighbor table overflow!",),
    ),
    Fault(
        name="host-overloaded",
        pattern=r"rcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?|"
        r"watchdog: BUG: soft lockup|INFO: task \S+ blocked for more than|"
        r"clocksource: .* skewed|Marking clocksource '[^']+' as unstable",
        cause="a guest got no CPU time for a long while",
        remedy="this machine is overloaded: stop other programs, or use fewer VMs and CPUs "
        "(--nodes 1, --cpus 1)",
        examples=(
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:1]",
        ),
        transient=True,
    ),
)
