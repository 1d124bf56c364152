"""Facts about a Debian kernel package, read from its config and module lists.

The plan must not need the package itself, so a table of facts is shipped with this plugin
(`recorded_facts`, written by ``python -m xk8s_debian.record_kernel``); the build writes the
facts of the real package beside the image, and `missing_facts` compares the two.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from xk8s.overlay import KernelFacts

BOOT_MODULES = (
    "virtio_blk", "ext4", "virtio_pmem", "nd_pmem", "erofs", "overlay", "qemu_fw_cfg"
)  # fmt: skip
"""Modules that the initramfs needs before it can mount layers and volumes (virtio_blk, ext4); and
qemu_fw_cfg, which tells the copy of a template which node it is.
"""

_SYMBOL = re.compile(r"^CONFIG_([A-Za-z0-9_]+)=([ym])$", re.MULTILINE)


def parse_facts(
    *, release: str, config: str, modules_dep: str, modules_builtin: str
) -> KernelFacts:
    """Return the facts from the texts of /boot/config-*, modules.dep and modules.builtin."""
    return KernelFacts(
        release=release,
        config=dict(_SYMBOL.findall(config)),
        modules=frozenset(_name(line.partition(":")[0]) for line in modules_dep.splitlines()),
        builtin=frozenset(_name(line) for line in modules_builtin.splitlines()),
    )


def facts_to_json(facts: KernelFacts) -> str:
    """Return the same text for the same facts."""
    table = {
        "release": facts.release,
        "config": {value: sorted(_having(facts, value)) for value in ("y", "m")},
        "modules": sorted(facts.modules),
        "builtin": sorted(facts.builtin),
    }
    return json.dumps(table, indent=0, sort_keys=True) + "\n"


def facts_from_json(text: str) -> KernelFacts:
    """Return the inverse of `facts_to_json`."""
    table: dict[str, Any] = json.loads(text)
    config = {symbol: value for value, names in table["config"].items() for symbol in names}
    return KernelFacts(
        release=table["release"],
        config=config,
        modules=frozenset(table["modules"]),
        builtin=frozenset(table["builtin"]),
    )


def recorded_facts() -> KernelFacts:
    """Return the table shipped with this plugin: that of the cloud kernel of Debian trixie."""
    data = resources.files("xk8s_debian") / "data" / "kernel-facts.json"
    return facts_from_json(data.read_text())


def missing_facts(recorded: KernelFacts, actual: KernelFacts) -> tuple[str, ...]:
    """Return symbols and modules that ``recorded`` promises and ``actual`` lacks."""
    symbols = {f"CONFIG_{symbol}" for symbol in recorded.config.keys() - actual.config.keys()}
    promised = recorded.modules | recorded.builtin
    modules = {f"module {name}" for name in promised - actual.modules - actual.builtin}
    return tuple(sorted(symbols | modules))


def _having(facts: KernelFacts, value: str) -> list[str]:
    return [symbol for symbol, has in facts.config.items() if has == value]


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
