"""What hooks see: the cluster that is planned, and later how to reach the one that runs."""

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
    """The cluster as far as it is planned; the same for every overlay.

    ``overlays`` are the resolved names in order. ``fragments`` maps a point to what overlays
    gave for it, in overlay order (empty while fragments are collected).
    """

    cluster: str
    ip_family: IpFamily
    overlays: tuple[str, ...]
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    all_settings: Mapping[type[Any], Any] = field(factory=dict, repr=False)
    all_fragments: Mapping[str, tuple[Fragment, ...]] = field(factory=dict, repr=False)

    def settings(self, cls: type[T]) -> T:
        """The settings of the selected overlay whose settings class is ``cls``; KeyError when
        that overlay is not selected.
        """
        value = self.all_settings[cls]
        assert isinstance(value, cls)
        return value

    def fragments(self, point: str, kind: type[T]) -> tuple[T, ...]:
        """The values contributed to ``point``; TypeError names the point for one that is not a
        ``kind``.
        """
        found = []
        for fragment in self.all_fragments.get(point, ()):
            if not isinstance(fragment.value, kind):
                got = type(fragment.value).__name__
                raise TypeError(f"{point} takes {kind.__name__}, not {got}")
            found.append(fragment.value)
        return tuple(found)

    def by_role(self, *roles: Role) -> tuple[Node, ...]:
        """The nodes of these roles, by number."""
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
    """What a command in a guest printed, and its exit code."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@runtime_checkable
class ClusterAccess(Protocol):
    """How to reach a running cluster. Everything here works without root."""

    @property
    def name(self) -> str:
        """The cluster's name."""

    @property
    def ctx(self) -> Context:
        """The context that the cluster was planned with."""

    @property
    def state_dir(self) -> Path:
        """Directory with the cluster's kubeconfig and records."""

    @property
    def keys(self) -> Keys:
        """The cluster's own keys."""

    def fetch(self, artifacts: Sequence[Artifact], progress: Progress) -> Mapping[str, Path]:
        """Return the tree (read only) of each artifact by its `artifact_key`, from the cache or
        made now. `ArtifactError` or `BuildError` when one cannot be had.
        """

    def forward(self, name: str) -> tuple[str, int]:
        """(host, port) on the host of a named forward; KeyError when there is none."""

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        """Run a command in a guest through its agent; works when every network is broken.
        Raises `MachineError` when the guest does not answer, TimeoutError past ``timeout``.
        """

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> Any:
        """A connected, blocking TCP `socket.socket` from outside the cluster's nodes: made
        inside the cluster's network namespace. Raises OSError as connect does.
        """
