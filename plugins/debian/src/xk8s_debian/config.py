"""The layer of guest configuration: rendered files, what is enabled, and what is masked."""

from __future__ import annotations

from xk8s.context import Context
from xk8s.overlay import Entry, Layer, Symlink
from xk8s.render import render_tree

from xk8s_debian import sessions
from xk8s_debian.power_off import power_off

_ENABLED = {
    "qemu-guest-agent.service": "sysinit.target",
    "xk8s-sessions.service": "sysinit.target",
    "systemd-networkd.service": "multi-user.target",
    "systemd-networkd.socket": "sockets.target",
    "systemd-networkd-wait-online.service": "network-online.target",
    "xk8s-console.service": "multi-user.target",
    "xk8s-limit-logs.timer": "timers.target",
    "xk8s-shell.service": "multi-user.target",
}
_OWN = (
    "qemu-guest-agent.service",
    "xk8s-console.service",
    "xk8s-limit-logs.timer",
    "xk8s-sessions.service",
    "xk8s-shell.service",
)

_MASKED_UNITS = (
    # What a volatile VM with one user never needs; each costs a process at boot.
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "initctl.service",
    "ipvsadm.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-udev-load-credentials.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "run-lock.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hostnamed.socket",
    "systemd-hwdb-update.service",
    "systemd-initctl.socket",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-network-generator.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysext.socket",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
    "tmp.mount",
)

_MASKED_GENERATORS = (
    "systemd-debug-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
)

_MASKED_RULES = (
    # Rules that read every layer's disk, or look for hardware that a VM does not have.
    "60-autosuspend.rules",
    "60-block.rules",
    "60-cdrom_id.rules",
    "60-dmi-id.rules",
    "60-drm.rules",
    "60-evdev.rules",
    "60-fido-id.rules",
    "60-infiniband.rules",
    "60-input-id.rules",
    "60-persistent-alsa.rules",
    "60-persistent-input.rules",
    "60-persistent-storage-mtd.rules",
    "60-persistent-storage-tape.rules",
    "60-persistent-storage.rules",
    "60-persistent-v4l.rules",
    "60-qemu-guest-agent.rules",
    "60-sensor.rules",
    "60-serial.rules",
    "64-btrfs.rules",
    "70-camera.rules",
    "70-joystick.rules",
    "70-memory.rules",
    "70-mouse.rules",
    "70-power-switch.rules",
    "70-touchpad.rules",
    "70-uaccess.rules",
    "71-seat.rules",
    "73-seat-late.rules",
    "75-net-description.rules",
    "75-probe_mtd.rules",
    "78-sound-card.rules",
    "81-net-dhcp.rules",
    "90-iocost.rules",
)


def config_layer(ctx: Context) -> Layer:
    """Return the layer ``debian-config``."""
    return Layer(
        name="debian-config",
        entries=(
            *render_tree("xk8s_debian", "config", ctx),
            sessions.entry(),
            power_off(),
            *_links(),
        ),
    )


def _links() -> tuple[Entry, ...]:
    links = {"/etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target"}
    links["/usr/lib/systemd/system-shutdown/xk8s"] = "/usr/lib/xk8s/shutdown"
    for unit, target in _ENABLED.items():
        where = "/etc" if unit in _OWN else "/usr/lib"
        links[f"/etc/systemd/system/{target}.wants/{unit}"] = f"{where}/systemd/system/{unit}"
    masked = [
        *(f"/etc/systemd/system/{unit}" for unit in _MASKED_UNITS),
        *(f"/etc/systemd/system-generators/{name}" for name in _MASKED_GENERATORS),
        *(f"/etc/udev/rules.d/{name}" for name in _MASKED_RULES),
    ]
    links |= dict.fromkeys(masked, "/dev/null")
    return tuple(Symlink(path=path, target=target) for path, target in sorted(links.items()))
