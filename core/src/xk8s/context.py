"""What hooks see: the planned cluster, and later how to reach the running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from attrs import field, frozen

from xk8s.overlay import Fragment, Network, Node, Role

if TYPE_CHECKING:
    from xk8s.pki import Keys  # cryptography takes long to import
    from xk8s.progress import Progress
    from xk8s.sources import Artifact

T = TypeVar("T")

IpFamily = Literal["ipv4", "ipv6", "dual"]


@frozen(kw_only=True)
class Context:
    """The cluster as planned so far; the same for every overlay.

    ``overlays`` are the resolved names in order. ``fragments`` maps a point to what overlays
    contributed to it, in overlay order (empty while fragments are collected).
    """

    cluster: str
    ip_family: IpFamily
    overlays: tuple[str, ...]
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    all_settings: Mapping[type[Any], Any] = field(factory=dict, repr=False)
    all_fragments: Mapping[str, tuple[Fragment, ...]] = field(factory=dict, repr=False)

    def settings(self, cls: type[T]) -> T:
        """Return the settings of the selected overlay whose settings class is ``cls``. KeyError if
        that overlay is not selected.
        """
        value = self.all_settings[cls]
        assert isinstance(value, cls)
        return value

    def fragments(self, point: str, kind: type[T]) -> tuple[T, ...]:
        """Return the values contributed to ``point``. TypeError, which names the point, if one is
        not a ``kind``.
        """
        found = []
        for fragment in self.all_fragments.get(point, ()):
            if not isinstance(fragment.value, kind):
                got = type(fragment.value).__name__
                raise TypeError(f"{point} takes {kind.__name__}, not {got}")
            found.append(fragment.value)
        return tuple(found)

    def by_role(self, *roles: Role) -> tuple[Node, ...]:
        """Return the nodes with these roles, by number."""
        return tuple(node for node in self.nodes if node.role in roles)

    @property
    def ipv4(self) -> bool:
        """Whether the cluster uses IPv4 (ipv4 or dual)."""
        return self.ip_family != "ipv6"

    @property
    def ipv6(self) -> bool:
        """Whether the cluster uses IPv6 (ipv6 or dual)."""
        return self.ip_family != "ipv4"


@frozen(kw_only=True)
class ExecResult:
    """Output and exit code of a command in a guest."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@runtime_checkable
class ClusterAccess(Protocol):
    """Access to a running cluster. Everything here works without root."""

    @property
    def name(self) -> str:
        """The cluster's name."""

    @property
    def ctx(self) -> Context:
        """The context with which the cluster was planned."""

    @property
    def state_dir(self) -> Path:
        """Directory with the cluster's kubeconfig and records."""

    @property
    def keys(self) -> Keys:
        """The cluster's own keys."""

    def fetch(self, artifacts: Sequence[Artifact], progress: Progress) -> Mapping[str, Path]:
        """Return the tree (read only) of each artifact by its `artifact_key`, from the cache or
        made now. `ArtifactError` or `BuildError` if one is not available.
        """

    def forward(self, name: str) -> tuple[str, int]:
        """Return (host, port) on the host of a named forward. KeyError if there is none."""

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        """Run a command in a guest through its agent; works when every network is broken. Raises
        `MachineError` if the guest does not answer, TimeoutError after ``timeout``.
        """

    def listen(self) -> Any:
        """Return a TCP server `socket.socket` that VMs reach by their management network, at its
        gateway's address (`xk8s.addresses.address` of network 0 and `HOST_PART`), and nobody else.
        """

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> Any:
        """Return a connected, blocking TCP `socket.socket` from outside of the cluster's nodes,
        opened inside the cluster's network namespace. Raises OSError as connect does.
        """
