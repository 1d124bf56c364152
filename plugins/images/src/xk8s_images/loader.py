"""Values that an overlay with ``cri`` contributes to the point ``images.loader``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import field, frozen
from xk8s.context import ClusterAccess
from xk8s.errors import MachineError
from xk8s.image_reference import split_ref

POINT = "images.loader"

_COMMAND_SECONDS = 900.0
"""Limit in seconds: without KVM a gigabyte takes minutes to arrive and to be unpacked."""

_LIST_SECONDS = 120.0


@frozen(kw_only=True)
class LoadableImage:
    """An image for loading into nodes: its full reference, its OCI layout directory, the digest of
    the manifest, and its ID (the digest of the configuration).
    """

    ref: str
    layout: Path
    digest: str
    id: str

    @property
    def registry(self) -> str:
        """The host of the reference, with its port if it has one."""
        return self.ref.partition("/")[0]

    @property
    def repository(self) -> str:
        """``registry/repository`` without tag and digest."""
        return split_ref(self.ref)[0]


@frozen(kw_only=True)
class ServerPort:
    """Access for one client. ``path`` (a single path component) begins the name of every
    repository: docker.io/library/a is served as <path>/docker.io/library/a. ``sent`` is the number
    of bytes of blobs that this client received so far.
    """

    port: int
    path: str
    _sent: list[int] = field(factory=lambda: [0], repr=False)

    @property
    def sent(self) -> int:
        """Bytes of blobs that were sent."""
        return self._sent[0]

    def count(self, size: int) -> None:
        """Add to what was sent."""
        self._sent[0] += size


@frozen(kw_only=True)
class Delivery:
    """One image for one running node.

    ``door`` is a registry that serves it meanwhile, for this node alone; None if this machine is
    unreachable through the node's management network. ``gateway`` is the address at which the
    node reaches it. ``say`` shows the user what is happening.
    """

    access: ClusterAccess
    node: str
    parcel: LoadableImage
    door: ServerPort | None
    gateway: str
    say: Callable[[str], None] = field(default=lambda _: None, repr=False)

    @property
    def registry(self) -> str:
        """``host:port`` of the registry as the node sees it."""
        assert self.door is not None
        return f"{self.gateway}:{self.door.port}"

    def run(
        self,
        *argv: str,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        timeout: float = _COMMAND_SECONDS,
        what: str = "",
    ) -> str:
        """Run a program on the node and return its stdout. `MachineError` with its stderr, which
        calls it ``what`` (by default by its name), if it fails or takes too long.
        """
        try:
            result = self.access.run(self.node, argv, stdin=stdin, timeout=timeout)
        except TimeoutError as error:
            raise MachineError(str(error), where=self.node) from error
        if result.exit_code not in ok:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise MachineError(
                f"{what or argv[0]} failed with exit code {result.exit_code}",
                where=self.node,
                log=said,
            )
        return result.stdout.decode(errors="replace")

    def write(self, path: str, data: bytes) -> None:
        """Create a file on the node, mode 0600, and the directories above it."""
        self.run("install", "-D", "-m", "600", "/dev/stdin", path, stdin=data)


def list_images(access: ClusterAccess, node: str, argv: Sequence[str], *, runtime: str) -> bytes:
    """Run the program that lists a node's images; its output. `MachineError` when it fails."""
    try:
        result = access.run(node, argv, timeout=_LIST_SECONDS)
    except TimeoutError as error:
        raise MachineError(str(error), where=node) from error
    if result.exit_code:
        said = result.stderr.decode(errors="replace").strip()
        raise MachineError(f"{node}: {runtime} does not list its images", where=node, log=said)
    return result.stdout


@frozen(kw_only=True)
class Loader:
    """The way in which a running node's container runtime takes an image.

    ``load`` is called once per node and image, for several nodes at a time. It returns when the
    runtime has the image, complete and by the parcel's digest, under the parcel's reference, so
    that pods can be started from it; it raises an `xk8s.errors.Xk8sError` otherwise, and leaves
    nothing behind in either case. ``listing`` says what a node has: reference -> digest of the
    manifest, ID, or both.
    """

    load: Callable[[Delivery], None]
    listing: Callable[[ClusterAccess, str], Mapping[str, frozenset[str]]]
