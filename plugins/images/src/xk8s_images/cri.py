"""The capability ``cri``: what an overlay with a container runtime has to provide, and the parts
that are the same for every runtime.

docs/howto/cri.md is the contract. `kubernetes` knows a runtime by this contract alone, never by
its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen
from xk8s.checks import CheckContext
from xk8s.context import ClusterAccess
from xk8s.errors import Xk8sError
from xk8s.overlay import NODE_ROLES, Entry, File, Fragment, Layer, Symlink, Take
from xk8s.progress import Progress
from xk8s.sources import Artifact

from xk8s_images import build, loader
from xk8s_images.loader import Loader
from xk8s_images.pause import pause_image

SOCKET = "/run/cri.sock"
"""Where kubelet, crictl and people find the runtime, whichever it is."""

UNIT = "cri.service"
"""An alias of the runtime's unit, for the order of units and for `xk8s logs NODE cri`."""

STORE_MEMBER = "store.erofs"
"""The member of the artifact that a runtime's store layer is made of."""

_UNITS = "/usr/lib/systemd/system"
_LINES = "30"


@frozen(kw_only=True)
class ContainerRuntime:
    """A container runtime as an overlay that provides ``cri``.

    ``name`` is that of the overlay and, with ".service", of the runtime's unit. ``socket`` is where
    the runtime listens. ``mounts`` are the mount units it needs before local-fs.target: its
    writable state cannot lie on the node's root, which is an overlayfs. ``loader`` puts images into
    a running node.
    """

    name: str
    socket: str
    mounts: tuple[str, ...]
    loader: Loader

    @property
    def unit(self) -> str:
        """The runtime's systemd unit."""
        return f"{self.name}.service"

    def fragments(self) -> Iterator[Fragment]:
        """Return the image of pod sandboxes, and the loader, for `xk8s_fragments`."""
        yield Fragment(point=build.POINT, value=pause_image())
        yield Fragment(point=loader.POINT, value=self.loader)

    def layers(
        self, *, programs: Iterable[Entry], config: Iterable[Entry], store: Artifact
    ) -> Iterator[Layer]:
        """Return programs, configuration and store, which change independently, for `xk8s_layers`.

        ``config`` has the unit, the mount units and the runtime's configuration. ``store`` has the
        member `STORE_MEMBER`, an EROFS image with all images of the cluster.
        """
        units = (self.unit,)
        yield Layer(name=self.name, units=units, entries=tuple(programs), roles=NODE_ROLES)
        yield Layer(
            name=f"{self.name}-config",
            units=units,
            entries=(*config, *self._links()),
            roles=NODE_ROLES,
        )
        yield Layer(
            name=store_layer(self.name),
            image=Take(artifact=store, member=STORE_MEMBER, path="/"),
            roles=NODE_ROLES,
            applied_by_hook=True,
        )

    def explain(self, check: CheckContext) -> str:
        """Return the last lines of the runtime's log on each node, for ``Check(explain=…)``."""
        return "\n".join(
            check.ok(node.name, "journalctl", "-u", self.name, "-n", _LINES, "--no-pager", "-o",
                     "short-iso")
            for node in check.access.ctx.by_role("control-plane", "worker")
        )  # fmt: skip

    def _links(self) -> Iterator[Entry]:
        """Enable the units, and put alias and socket where everybody looks for them."""
        yield _enable("multi-user.target.wants", self.unit)
        for mount in self.mounts:
            yield _enable("local-fs.target.requires", mount)
        yield Symlink(path=f"/etc/systemd/system/{UNIT}", target=f"{_UNITS}/{self.unit}")
        yield File(
            path="/usr/lib/tmpfiles.d/xk8s-cri.conf",
            data=f"# Where kubelet looks for the container runtime, whichever it is.\n"
            f"L+ {SOCKET} - - - - {self.socket}\n".encode(),
        )


def store_layer(name: str) -> str:
    """Return the name of the store layer of the runtime ``name``."""
    return f"{name}-store"


def store_mount(name: str) -> str:
    """Return where a node has the store layer of the runtime ``name`` mounted on its own.

    A runtime that mounts what is in its store must use this path, not the merged root: overlayfs
    limits how deep it is stacked.
    """
    return f"/run/xk8s/layers/{store_layer(name)}"


def apply(access: ClusterAccess, progress: Progress) -> None:
    """Load the images that are new, for `xk8s_apply`: a store in use cannot be replaced."""
    from xk8s_images.missing import load_missing  # slow to import, and a plan has no use for it

    load_missing(access, progress)


def unit_name(access: ClusterAccess, node: str) -> str:
    """Return the name of the runtime's unit on ``node``, or `UNIT` when the node does not say.

    journalctl does not follow aliases.
    """
    argv = ("systemctl", "show", "--property=Id", "--value", UNIT)
    try:
        result = access.run(node, argv, timeout=30)
    except (TimeoutError, Xk8sError):
        return UNIT
    return result.stdout.decode(errors="replace").strip() or UNIT


def _enable(target: str, unit: str) -> Symlink:
    return Symlink(path=f"/etc/systemd/system/{target}/{unit}", target=f"{_UNITS}/{unit}")
