"""Faults of a base system."""

from __future__ import annotations

from xk8s.overlay import Fault

FAULTS = (
    Fault(
        name="program-missing",
        pattern=r"exec: \"(?P<program>[^\"]+)\": executable file not found in \$PATH",
        cause="the guest has no program {program}",
        remedy="add its package to the base system: -s debian.packages=PACKAGE (nsenter and "
        "mount are in util-linux and mount); overlays say by xk8s_guest what they need",
        examples=('exec: "nsenter": executable file not found in $PATH',),
    ),
    Fault(
        name="resolv-conf-missing",
        pattern=r"/etc/resolv\.conf: no such file or directory",
        cause="the guest has no /etc/resolv.conf, which every pod sandbox is made with",
        remedy="let a layer bring one (overlay debian's does; something removed it): "
        "xk8s exec NODE -- sh -c 'echo nameserver 192.168.255.3 > /etc/resolv.conf'",
        examples=("open /etc/resolv.conf: no such file or directory",),
    ),
    Fault(
        name="overlay-on-overlay",
        pattern=r"overlay(?:fs)?: filesystem on \S+ not supported as upperdir",
        cause="an overlayfs cannot have its upper directory on the guest's root, which is one",
        remedy="put a tmpfs there by a mount unit, as var-lib-containerd.mount does",
        examples=("overlayfs: filesystem on /upper not supported as upperdir",),
    ),
    Fault(
        name="module-missing",
        pattern=r"Failed to find module '(?P<module>[^']+)'|"
        r"modprobe: FATAL: Module (?P<other>\S+) not found",
        cause="the guest's kernel has no module {module}{other}",
        remedy="let the overlay that wants it say so (xk8s_kernel): `xk8s plan` compares that with "
        "the kernel before anything boots; another kernel: -s debian.kernel=PACKAGE",
        examples=(
            "systemd-modules-load[211]: Failed to find module 'ip_vs_none'",
            "modprobe: FATAL: Module ip_vs_none not found in directory /lib/modules/6.12",
        ),
    ),
    Fault(
        name="entropy",
        pattern=r"random: (?:\S+: uninitialized urandom read|crng not ready)|"
        r"getrandom\(\) blocked|waiting for entropy",
        cause="a program waits for random numbers, of which an idle VM has few",
        remedy="give the VMs a virtio-rng device (overlay kubernetes does, by xk8s_boot): "
        "-object rng-random,filename=/dev/urandom,id=rng0 -device virtio-rng-pci,rng=rng0",
        examples=("random: kube-apiserver: uninitialized urandom read (16 bytes read)",),
    ),
    Fault(
        name="unit-failed",
        pattern=r"(?P<unit>[\w@.:-]+)\.service: Failed with result '(?P<result>[^']+)'",
        cause="the service {unit} ended ({result})",
        remedy="xk8s logs NODE {unit}",
        examples=("systemd[1]: kubelet.service: Failed with result 'exit-code'.",),
        transient=True,
    ),
)
