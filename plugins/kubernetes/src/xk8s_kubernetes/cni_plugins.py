"""The layer /opt/cni/bin: the common CNI plugins, those of a CNI overlay, and the user's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

from attrs import evolve
from xk8s.context import Context
from xk8s.errors import PlanError, UsageError
from xk8s.overlay import NODE_ROLES, Layer, Take
from xk8s.sources import Artifact, OwnDirectory

from xk8s_kubernetes import cni
from xk8s_kubernetes.artifacts import cni_artifact
from xk8s_kubernetes.settings import KubernetesSettings

BIN = "/opt/cni/bin"


def layer(ctx: Context) -> Layer:
    """Return the layer with all plugins. The user's own win over others of the same name;
    `PlanError` for one that two artifacts have.
    """
    directory, own = split(ctx.settings(KubernetesSettings).cni_dir)
    origins: dict[str, Artifact] = {}
    for artifact in (cni_artifact(), *ctx.fragments(cni.PLUGINS, Artifact)):
        mixed = artifact
        if own & set(artifact.members):
            mixed = evolve(artifact, sources=(OwnDirectory(path=directory), *artifact.sources))
        for member in artifact.members:
            other = origins.setdefault(member, mixed)
            if other is not mixed:
                raise PlanError(
                    f"the CNI plugin {member!r} is in two artifacts: {other.name} and "
                    f"{artifact.name}",
                    where=cni.PLUGINS,
                    hint="leave out one of the overlays that provide it",
                )
    if more := own - origins.keys():
        mine = Artifact(
            name="cni-plugins-own",
            version="own",
            members=tuple(sorted(more)),
            sources=(OwnDirectory(path=directory),),
        )
        origins |= dict.fromkeys(mine.members, mine)
    return Layer(
        name="cni",
        roles=NODE_ROLES,
        entries=tuple(
            Take(artifact=artifact, member=name, path=f"{BIN}/{name}", mode=0o755)
            for name, artifact in sorted(origins.items())
        ),
    )


def pin(text: str) -> str:
    """Return the setting as it is kept: the absolute directory and, after "@", the plugins in it.
    `UsageError` for a directory without any, or with one that cannot run.
    """
    from xk8s_kubernetes.programs import unfit

    if not text:
        return text
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise UsageError(f"{what}: {path}", hint="give the directory with the plugins themselves")
    names = sorted(child.name for child in path.iterdir() if _is_program(child))
    if not names:
        raise UsageError(
            f"no programs in {path}",
            hint="build the plugins first; give the directory with the programs, often bin/",
        )
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UsageError(f"{name!r} is not the name of a plugin", where=str(path))
        if not _is_script(path / name) and (why := unfit(path / name)):
            raise UsageError(
                f"the CNI plugin {name} cannot run in the VMs: it is {why}",
                where=str(path / name),
                hint="build it for linux/amd64 and static (GOOS=linux GOARCH=amd64 "
                "CGO_ENABLED=0), or remove it: another source then provides it",
            )
    return f"{path}@{','.join(names)}"


def split(pinned: str) -> tuple[str, frozenset[str]]:
    """Return directory and names of a pinned value; without names for none."""
    directory, _, names = pinned.rpartition("@")
    return directory, frozenset(names.split(",")) - {""}


def _is_program(path: Path) -> bool:
    """Return whether it is meant to be run. A program that lost its x bit on the way is one too."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return os.access(path, os.X_OK) or path.read_bytes()[:4] == b"\x7fELF"


def _is_script(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"#!"
