"""The values that hooks return: frozen, comparable, without behaviour.

A plan consists only of these, so it can be built, compared and printed with
no QEMU, no root and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import Attribute, field, frozen

from xk8s.errors import UsageError
from xk8s.limits import Limit
from xk8s.sources import Artifact
from xk8s.util.digest import UNDIGESTED

if TYPE_CHECKING:
    from xk8s.checks import CheckContext

Role = Literal["control-plane", "worker", "router", "tester"]
"""What a VM is for. A node of Kubernetes is a control-plane or a worker."""

NODE_ROLES: frozenset[Role] = frozenset({"control-plane", "worker"})
ALL_ROLES: frozenset[Role] = frozenset({"control-plane", "worker", "router", "tester"})


def setting(
    default: Any,
    help: str,  # noqa: A002
    *,
    env: str | None = None,
    pin: Callable[[Any], Any] | None = None,
    limit: Limit | None = None,
    guard: Callable[[Any], bool] | None = None,
) -> Any:
    """Declare a field of a settings class: its default, its meaning, and an environment variable
    that sets it besides the general ``XK8S_<OVERLAY>_<FIELD>``.

    ``pin`` is called once with a value that the user gave, and its result becomes the value: this
    makes relative paths absolute and adds digests to names that can move. A running cluster's
    settings are kept as pinned, so that its plan can be made again later, and from anywhere.
    It may read files but must not run programs; `UsageError` says what is wrong.

    ``limit`` says which values can work (see `xk8s.limits`): others are refused with exit code 2.

    ``guard`` says which values give power over this machine. An ``xk8s.toml`` that merely lies in
    the current directory may have these only once the user trusts it (`xk8s trust`).
    """
    metadata = {"help": help, "env": env, "pin": pin, "limit": limit, "guard": guard}
    options: dict[str, Any] = {"metadata": metadata, "kw_only": True}
    if limit is not None:
        options["validator"] = _within
    if isinstance(default, (dict, list, set)):
        return field(factory=lambda: type(default)(default), **options)
    return field(default=default, **options)


def _within(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Refuse what is outside of a setting's limit, however an instance is made."""
    if problem := attribute.metadata["limit"].problem(value):
        owner = type(instance).__name__.removesuffix("Settings").lower()
        raise UsageError(
            f"{owner}.{attribute.name}={value} {problem}", hint=attribute.metadata["limit"].text
        )


@frozen(kw_only=True)
class Overlay:
    """What an overlay is and needs.

    ``requires`` and ``provides`` name overlays or capabilities (an overlay provides its own
    name). ``defaults`` says, per required capability, which overlays are tried in which order
    when none of the selected ones provides it. ``after`` orders without requiring;
    ``completed_by`` requires without ordering: capabilities that overlays on top of this one bring,
    such as the network without which a cluster is useless.
    ``settings`` is an attrs class made of `setting` fields, or None. ``points`` are the named
    points that other overlays may give a `Fragment` for; their names begin with this overlay's
    name and a dot.
    """

    summary: str
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    completed_by: tuple[str, ...] = ()
    defaults: Mapping[str, tuple[str, ...]] = field(factory=dict)
    settings: type[Any] | None = None
    points: Mapping[str, Point] = field(factory=dict)


# --- files and layers -------------------------------------------------------------------


@frozen(kw_only=True)
class File:
    """A regular file: absolute guest path, bytes, permission bits. Owner is root.

    ``units`` are the systemd units to restart when it changes in a running VM; None: those of its
    layer, or of all layers of its overlay for a file of a node. (Leave it out for a unit's own
    file and drop-ins, and for files in sysctl.d, modules-load.d, tmpfiles.d, systemd/network,
    udev and profile.d.)
    """

    path: str
    data: bytes
    mode: int = 0o644
    units: tuple[str, ...] | None = field(default=None, metadata=UNDIGESTED)


@frozen(kw_only=True)
class Symlink:
    """A symbolic link at ``path``. ``target`` is its text, absolute or relative in the guest."""

    path: str
    target: str


@frozen(kw_only=True)
class Directory:
    """A directory that must exist, empty or not."""

    path: str
    mode: int = 0o755


@frozen(kw_only=True)
class Take:
    """Files of an artifact: ``member`` (a file or a directory of the artifact's tree, "." for all)
    is copied to ``path``. ``mode`` None keeps the artifact's permission bits. ``units`` as in
    `File`.
    """

    artifact: Artifact
    member: str
    path: str
    mode: int | None = None
    units: tuple[str, ...] | None = field(default=None, metadata=UNDIGESTED)


Entry = File | Symlink | Directory | Take


@frozen(kw_only=True)
class Layer:
    """Files that belong together and change together; they become one EROFS image.

    ``roles`` says which VMs get the layer. ``replaces`` lists path prefixes of lower layers that
    this layer hides on purpose; any other path owned by two layers is an error. ``units`` are the
    systemd units that `apply` restarts when files of this layer, or secrets of its overlay, change:
    name only units that run on every VM of ``roles``. They are not part of the layer's digest.
    ``image`` names a ready EROFS image inside an artifact instead of ``entries`` (the base system,
    whose owners need a user namespace to make). It cannot be replaced in a running VM, unless it
    is ``applied_by_hook``: then the overlay's `xk8s_apply` puts into the VM what changed.
    """

    name: str
    entries: tuple[Entry, ...] = ()
    image: Take | None = None
    replaces: tuple[str, ...] = ()
    roles: frozenset[Role] = ALL_ROLES
    units: tuple[str, ...] = ()
    applied_by_hook: bool = False


# --- kernel and boot --------------------------------------------------------------------


@frozen(kw_only=True)
class KernelNeeds:
    """Requirements of a kernel. ``config``: symbols without CONFIG_ that must be y or m.
    ``modules``: modules that must exist or be built in. ``load``: those of them to be loaded at
    boot on ``roles``.
    """

    config: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    roles: frozenset[Role] = ALL_ROLES


@frozen(kw_only=True)
class KernelFacts:
    """Features of the base's kernel: symbol -> "y" or "m" (unset ones absent), module names
    (underscores, loadable ones), and names of built-in modules.
    """

    release: str
    config: Mapping[str, str]
    modules: frozenset[str]
    builtin: frozenset[str]


@frozen(kw_only=True)
class BootImage:
    """Kernel and initramfs of the base. The initramfs must follow docs/reference/boot.md:
    stack the images /dev/pmem0, pmem1 … (the first one lowest) as overlayfs lower directories,
    each left mounted at /run/xk8s/layers/<name> (names: kernel argument xk8s.layers=a,b,c).
    ``template``: it also follows that page's part on templates, so that nodes may be copies.
    """

    kernel: Take
    initramfs: Take
    kernel_args: tuple[str, ...] = ()
    template: bool = False


@frozen(kw_only=True)
class Forward:
    """A TCP port of a node offered on 127.0.0.1 of the host. ``preferred`` is tried first; if it is
    taken, a free port is used. ``name`` identifies it in the cluster's record.
    """

    name: str
    guest_port: int
    preferred: int = 0


@frozen(kw_only=True)
class Volume:
    """A file system (ext4) of a node that outlives its VM: what was flushed to it is there after a
    reboot, and after the VM was killed. Without one a node's whole state is its memory.

    ``name`` (1 to 16 lower-case letters, digits and dashes) identifies it, ``path`` is where the
    guest has it mounted before its first program starts, ``size`` is in MiB: it takes as much of
    the disk as it has content. It is part of snapshots, and ends with the cluster, or with its node
    when `xk8s scale` removes that.
    """

    name: str
    path: str
    size: int


@frozen(kw_only=True)
class BootOptions:
    """What an overlay adds to a node's start: kernel arguments, QEMU arguments (each one argv
    word, e.g. ("-device", "virtio-rng-pci,rng=rng0")), port forwards, and volumes.
    """

    kernel_args: tuple[str, ...] = ()
    qemu_args: tuple[str, ...] = ()
    forwards: tuple[Forward, ...] = ()
    volumes: tuple[Volume, ...] = ()


# --- topology ---------------------------------------------------------------------------


@frozen(kw_only=True)
class Network:
    """An L2 network. Index 0 is management, where VMs are apart; all are bridges in the
    cluster's namespace, where the bridge itself has host part .250.
    """

    index: int
    ipv4: str
    ipv6: str
    mtu: int = 1500


@frozen(kw_only=True)
class Nic:
    """One interface: guest name eth<network index>. Addresses in CIDR form, of both families,
    whatever the cluster's IP family is.
    """

    network: int
    mac: str
    ipv4: str
    ipv6: str


@frozen(kw_only=True)
class Node:
    """One VM before layers are chosen. ``number`` is the number in its name: vm-201 has 201."""

    name: str
    number: int
    role: Role
    cpus: int
    memory: int
    """MiB"""
    nics: tuple[Nic, ...]

    def nic(self, network: int) -> Nic:
        """Return the interface on that network. KeyError if there is none."""
        for nic in self.nics:
            if nic.network == network:
                return nic
        raise KeyError(f"{self.name} has no interface on network {network}")


# --- fragments and checks ---------------------------------------------------------------


@frozen(kw_only=True)
class Fragment:
    """A value for a named point of another overlay, or of the core (``cluster.…``):
    docs/reference/points.md lists those of xk8s. ``value`` has the type that the owner declares in
    its `Point`. ``overlay``, the origin of the fragment, is filled in by the core.
    """

    point: str
    value: Any
    overlay: str = field(default="", eq=False, metadata=UNDIGESTED)


@frozen(kw_only=True)
class Point:
    """A named point of an overlay, to which others may add a `Fragment`.

    ``type`` is the type of a fragment's value, ``help`` says what it is used for, ``example`` is
    such a value. ``sets`` returns what a value sets, key by key: if two overlays set one key to
    different values, the error names both; it raises ValueError for a wrong value. Without it
    values just add up. The owner reads them with ``ctx.fragments(point, type)``, or in a template
    with ``patch(point)`` if they are strings.
    """

    type: Any
    help: str
    example: Any
    sets: Callable[[Any], Mapping[str, Any]] | None = None


@frozen(kw_only=True)
class Sysctl:
    """A kernel parameter of guests (a value of the point ``cluster.sysctl``)."""

    key: str
    value: str
    roles: frozenset[Role] = ALL_ROLES


@frozen(kw_only=True)
class DropIn:
    """``option=value`` in ``[section]`` of a systemd unit (a value of the point
    ``cluster.dropin``).
    """

    unit: str
    section: str
    option: str
    value: str
    roles: frozenset[Role] = ALL_ROLES


@frozen(kw_only=True)
class Check:
    """A test of the running cluster, run after `up` and by `xk8s check NAME`.

    ``run`` is called every ``interval`` seconds until it returns (its string is shown) or
    ``timeout`` seconds have passed. It raises `xk8s.checks.NotYet` with what it saw while the
    condition is not met, and `xk8s.errors.CheckFailed` to fail at once. Checks run in the order of
    their overlays. ``explain`` is called on failure and returns the log that matters.
    ``after_restore``: run it also after `up` restored a snapshot, whose cluster passed every check
    before it was saved.
    """

    name: str
    run: Callable[[CheckContext], str]
    timeout: float = 300.0
    interval: float = 0.5
    explain: Callable[[CheckContext], str] | None = None
    after_restore: bool = False


# --- what can go wrong ------------------------------------------------------------------


@frozen(kw_only=True)
class GuestNeeds:
    """Requirements of the guest. ``programs``: names that must be found in the guest's PATH;
    ``files``: absolute paths that must exist. Verified on ``roles`` right after the boot, before
    anything waits for them.
    """

    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    roles: frozenset[Role] = ALL_ROLES


@frozen(kw_only=True)
class Fault:
    """A known fault, recognised by what it leaves in a log.

    ``pattern`` is a regular expression, searched in each line of consoles, journals and the
    outputs of searched `Observation`s (backslashes before quotes are removed first). ``cause``
    says in a sentence what is wrong, ``remedy`` what to do about it in xk8s terms. In both,
    ``{image}`` stands for what the pattern's group ``(?P<image>...)`` matched; any other name is an
    error, and a brace is written twice. ``examples`` are lines as they were seen.
    ``transient``: it also appears briefly in a cluster that starts well, so it is reported last,
    and only while it lasts.
    """

    name: str
    pattern: str
    cause: str
    remedy: str
    examples: tuple[str, ...]
    transient: bool = False


@frozen(kw_only=True)
class Observation:
    """A command in a guest whose output is useful when something is wrong.

    ``name`` becomes a file below ``nodes/<node>/`` of a report; it may contain directories, and
    ``.txt`` is added unless it has a suffix;
    ``argv`` is run as root, without a shell, on every node of ``roles``, and ended after
    ``timeout`` seconds. ``searched``: search it for faults; its lines should then begin with the
    time in ISO 8601, if possible.
    It must not change anything or print keys (known forms of them are removed).
    """

    name: str
    argv: tuple[str, ...]
    roles: frozenset[Role] = ALL_ROLES
    timeout: float = 60.0
    searched: bool = False


@frozen(kw_only=True)
class LogFiles:
    """Logs that are files of the guest: `xk8s logs KIND/NAME` (or KIND/SCOPE/NAME) shows those
    whose path matches.

    ``directory`` is searched for ``paths``, patterns of ``find -path``; in them ``{name}``
    is NAME, ``{scope}`` is SCOPE or ``*``, and ``{part}`` what the user says with ``-c``, or
    ``*``.
    """

    kind: str
    directory: str
    paths: tuple[str, ...]
    roles: frozenset[Role] = ALL_ROLES
