"""Points of the core for things that every guest has: sysctls, and options of systemd units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, DropIn, File, Fragment, Point, Role, Sysctl

SYSCTL_POINT = "cluster.sysctl"
DROPIN_POINT = "cluster.dropin"

SYSCTL_FILE = "/etc/sysctl.d/70-xk8s.conf"
"""Name sorted after those of the base, whose values are defaults."""

_SYSCTL = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_*./:@-]*")
_UNIT = re.compile(
    r"[A-Za-z0-9:_.@\\-]+\.(automount|mount|path|scope|service|slice|socket|target|timer)"
)
_WORD = re.compile(r"[A-Za-z0-9-]+")

_ADDING = re.compile(
    r"After|Before|Wants|WantedBy|Requires|Requisite|BindsTo|PartOf|Upholds|Conflicts|OnFailure|"
    r"OnSuccess|Documentation|Environment|EnvironmentFile|PassEnvironment|SetCredential|"
    r"LoadCredential|ImportCredential|Exec\w*|Condition\w*|Assert\w*|\w*Paths|Device(Allow|Policy)|"
    r"AmbientCapabilities|CapabilityBoundingSet|SystemCallFilter|SupplementaryGroups|\w*Directory|"
    r"RestrictAddressFamilies|IPAddress(Allow|Deny)|Socket|Listen\w+|On\w+Sec|OnCalendar|Sockets"
)
"""Options that may be repeated, and add up."""


def sysctl_key(key: str) -> str:
    """Return the path of a sysctl below /proc/sys: ``net/ipv4/ip_forward``, whichever way it is
    written (the first separator decides, see sysctl.d(5)).
    """
    first = re.search(r"[./]", key)
    return key.translate(str.maketrans("./", "/.")) if first and first[0] == "." else key


def sysctl_of_role(key: str, role: Role) -> str:
    """Name a sysctl of the nodes of a role, for errors; the same however ``key`` is written."""
    return f"{sysctl_key(key)} on a {role}"


def sysctl_value(value: str) -> str:
    """Return a value as the kernel takes it: spaces do not count."""
    return " ".join(value.split())


def _sysctl(value: Sysctl) -> Mapping[str, str]:
    if not _SYSCTL.fullmatch(value.key) or ".." in value.key:
        raise ValueError(f"{value.key!r} is not the name of a sysctl")
    if "\n" in value.value or not value.value.strip():
        raise ValueError(f"{value.value!r} is not a value of a sysctl")
    return {
        sysctl_of_role(value.key, role): sysctl_value(value.value) for role in sorted(value.roles)
    }


def _dropin(value: DropIn) -> Mapping[str, str]:
    if not _UNIT.fullmatch(value.unit):
        raise ValueError(f"{value.unit!r} is not the name of a unit")
    for word in (value.section, value.option):
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} is not a section or option")
    if "\n" in value.value:
        raise ValueError(f"{value.value!r} has more than one line")
    if _ADDING.fullmatch(value.option):
        return {}
    what = f"{value.option} in [{value.section}] of {value.unit}"
    return {f"{what} on a {role}": value.value for role in sorted(value.roles)}


SYSCTLS = Point(
    type=Sysctl,
    help=f"A kernel parameter of the guests, put into {SYSCTL_FILE} on its roles. What the base "
    "system sets are defaults that it replaces.",
    example=Sysctl(key="net.core.somaxconn", value="4096", roles=NODE_ROLES),
    sets=_sysctl,
)

DROPINS = Point(
    type=DropIn,
    help="An option of a systemd unit, whoever the unit is from: all of a unit go into "
    "/etc/systemd/system/UNIT.d/70-xk8s.conf on their roles. Those that systemd adds up (After, "
    "Environment, ExecStartPre …) do not conflict. A whole unit is a file of your own layer.",
    example=DropIn(
        unit="kubelet.service",
        section="Service",
        option="MemoryMax",
        value="512M",
        roles=NODE_ROLES,
    ),
    sets=_dropin,
)


def guest_files(ctx: Context, role: Role) -> Iterator[File]:
    """Return the files that result from the fragments of these points, on nodes of one role."""
    sysctls = _of(ctx, SYSCTL_POINT, role)
    if sysctls:
        lines = [
            (sysctl, f"{sysctl_key(sysctl.value.key)} = {sysctl.value.value}") for sysctl in sysctls
        ]
        yield File(path=SYSCTL_FILE, data=_told(lines).encode())
    units: dict[str, dict[str, list[Fragment]]] = {}
    for fragment in _of(ctx, DROPIN_POINT, role):
        units.setdefault(fragment.value.unit, {}).setdefault(fragment.value.section, []).append(
            fragment
        )
    for unit, sections in sorted(units.items()):
        text = "\n".join(
            f"[{section}]\n"
            + _told(
                [
                    (fragment, f"{fragment.value.option}={fragment.value.value}")
                    for fragment in fragments
                ]
            )
            for section, fragments in sorted(sections.items())
        )
        yield File(path=f"/etc/systemd/system/{unit}.d/70-xk8s.conf", data=text.encode())


def _of(ctx: Context, point: str, role: Role) -> list[Fragment]:
    return [
        fragment for fragment in ctx.all_fragments.get(point, ()) if role in fragment.value.roles
    ]


def _told(lines: Sequence[tuple[Fragment, str]]) -> str:
    """Yield the lines, each once, below the name of the first overlay that wants it."""
    text, last = "", ""
    for line in dict.fromkeys(line for _, line in lines):
        overlay = next(fragment.overlay for fragment, text in lines if text == line)
        text += f"# {overlay}\n" if overlay != last else ""
        text += f"{line}\n"
        last = overlay
    return text
