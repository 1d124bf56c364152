"""One typed method for each hook of `xk8s.hookspecs`: the only place that calls hooks by name.

mypy cannot see through a name in a string, so each method says once what a hook takes and returns.
The rest of the core calls ``registry.hooks.layers(overlay, ctx)`` and is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from xk8s.context import ClusterAccess, Context
from xk8s.overlay import (
    BootImage,
    BootOptions,
    Check,
    Fault,
    File,
    Fragment,
    GuestNeeds,
    KernelFacts,
    KernelNeeds,
    Layer,
    LogFiles,
    Node,
    Observation,
    Overlay,
)
from xk8s.progress import Progress

if TYPE_CHECKING:
    from xk8s.pki import Keys  # cryptography takes long to import, and a plan needs no keys

T = TypeVar("T")


class HookCaller(Protocol):
    """Calls a hook of one overlay, checks what it returns and attributes its errors."""

    def call_one(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> T | None:
        """Return the value of a hook, or None where the overlay does not implement it."""

    def call_many(self, overlay: str, hook: str, kind: type[T], **arguments: Any) -> tuple[T, ...]:
        """Return the values of a hook that returns an iterable."""


class Hooks:
    """The hooks of every overlay: each method takes the overlay's name, then the hook's arguments.

    An overlay that does not implement a hook gives None, or an empty tuple where there may be many.
    Raises `PluginError` when the hook fails or returns something else than it should.
    """

    def __init__(self, caller: HookCaller) -> None:
        self._caller = caller

    def overlay(self, overlay: str) -> Overlay | None:
        """Call `xk8s_overlay`."""
        return self._caller.call_one(overlay, "xk8s_overlay", Overlay)

    def unavailable(self, overlay: str, settings: object, online: bool) -> str | None:
        """Call `xk8s_unavailable`."""
        return self._caller.call_one(
            overlay, "xk8s_unavailable", str, settings=settings, online=online
        )

    def fragments(self, overlay: str, ctx: Context) -> tuple[Fragment, ...]:
        """Call `xk8s_fragments`."""
        return self._caller.call_many(overlay, "xk8s_fragments", Fragment, ctx=ctx)

    def layers(self, overlay: str, ctx: Context) -> tuple[Layer, ...]:
        """Call `xk8s_layers`."""
        return self._caller.call_many(overlay, "xk8s_layers", Layer, ctx=ctx)

    def kernel(self, overlay: str, ctx: Context) -> KernelNeeds | None:
        """Call `xk8s_kernel`."""
        return self._caller.call_one(overlay, "xk8s_kernel", KernelNeeds, ctx=ctx)

    def guest(self, overlay: str, ctx: Context) -> GuestNeeds | None:
        """Call `xk8s_guest`."""
        return self._caller.call_one(overlay, "xk8s_guest", GuestNeeds, ctx=ctx)

    def kernel_facts(self, overlay: str, ctx: Context) -> KernelFacts | None:
        """Call `xk8s_kernel_facts`."""
        return self._caller.call_one(overlay, "xk8s_kernel_facts", KernelFacts, ctx=ctx)

    def boot_image(self, overlay: str, ctx: Context) -> BootImage | None:
        """Call `xk8s_boot_image`."""
        return self._caller.call_one(overlay, "xk8s_boot_image", BootImage, ctx=ctx)

    def boot(self, overlay: str, ctx: Context, node: Node) -> BootOptions | None:
        """Call `xk8s_boot`."""
        return self._caller.call_one(overlay, "xk8s_boot", BootOptions, ctx=ctx, node=node)

    def node_files(self, overlay: str, ctx: Context, node: Node) -> tuple[File, ...]:
        """Call `xk8s_node_files`."""
        return self._caller.call_many(overlay, "xk8s_node_files", File, ctx=ctx, node=node)

    def secrets(self, overlay: str, ctx: Context, node: Node, keys: Keys) -> tuple[File, ...]:
        """Call `xk8s_secrets`."""
        return self._caller.call_many(overlay, "xk8s_secrets", File, ctx=ctx, node=node, keys=keys)

    def host_files(self, overlay: str, access: ClusterAccess, keys: Keys) -> tuple[File, ...]:
        """Call `xk8s_host_files`."""
        return self._caller.call_many(overlay, "xk8s_host_files", File, access=access, keys=keys)

    def apply(
        self, overlay: str, access: ClusterAccess, layers: tuple[str, ...], progress: Progress
    ) -> None:
        """Call `xk8s_apply`."""
        self._caller.call_one(
            overlay, "xk8s_apply", type(None), access=access, layers=layers, progress=progress
        )

    def leave(
        self, overlay: str, access: ClusterAccess, nodes: tuple[str, ...], progress: Progress
    ) -> None:
        """Call `xk8s_leave`."""
        self._caller.call_one(
            overlay, "xk8s_leave", type(None), access=access, nodes=nodes, progress=progress
        )

    def checks(self, overlay: str, ctx: Context) -> tuple[Check, ...]:
        """Call `xk8s_checks`."""
        return self._caller.call_many(overlay, "xk8s_checks", Check, ctx=ctx)

    def faults(self, overlay: str) -> tuple[Fault, ...]:
        """Call `xk8s_faults`."""
        return self._caller.call_many(overlay, "xk8s_faults", Fault)

    def observe(self, overlay: str, ctx: Context) -> tuple[Observation, ...]:
        """Call `xk8s_observe`."""
        return self._caller.call_many(overlay, "xk8s_observe", Observation, ctx=ctx)

    def log_files(self, overlay: str, ctx: Context) -> tuple[LogFiles, ...]:
        """Call `xk8s_log_files`."""
        return self._caller.call_many(overlay, "xk8s_log_files", LogFiles, ctx=ctx)
