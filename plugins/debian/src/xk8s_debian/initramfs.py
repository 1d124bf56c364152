"""The initramfs: busybox, the modules that reach the layers, and our /init."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from xk8s_debian import cpio

_DIRECTORIES = ("bin", "dev", "modules", "proc", "root", "run", "sys")
APPLETS = (
    "date", "insmod", "ln", "mkdir", "mknod", "mount", "poweroff", "rmmod", "sh", "sleep",
    "switch_root",
)  # fmt: skip
"""Applets that /init calls: busybox finds its applets without links only if /proc is mounted."""


def init_script() -> str:
    """Return the text of /init."""
    return (resources.files("xk8s_debian") / "data" / "init").read_text()


def build(*, init: str, busybox: Path, modules: Path) -> bytes:
    """Return the archive. ``modules`` is a directory with the modules and the file ``order``, their
    names in the order of loading.

    It is not compressed: the host's page cache holds it, and unpacking costs a guest without
    KVM more than reading does.
    """
    order = (modules / "order").read_text()
    entries = [
        *(cpio.directory(path) for path in _DIRECTORIES),
        # The kernel opens it for /init before anything is mounted.
        cpio.character_device("dev/console", 5, 1),
        cpio.regular("bin/busybox", busybox.read_bytes(), 0o755),
        *(cpio.symlink(f"bin/{applet}", "busybox") for applet in APPLETS),
        cpio.regular("init", init.encode(), 0o755),
        cpio.regular("modules/order", order.encode()),
    ]
    entries += [
        cpio.regular(f"modules/{name}", (modules / name).read_bytes()) for name in order.split()
    ]
    return cpio.archive(entries)
