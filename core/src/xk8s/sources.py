"""What an artifact is and where it may come from: pure values, nothing is fetched here.

An artifact is a tree of named members. Its sources are tried in order, and per member: a source
may provide some of them, the next ones are asked for the rest (that is how a directory with one
own-built binary is completed by a release).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen(kw_only=True)
class OwnDirectory:
    """The user's own builds: ``path`` is a directory with any subset of the members, each under
    its name. What it lacks comes from the next source.
    """

    path: str


@frozen(kw_only=True)
class Release:
    """A download with a published checksum.

    ``url`` and ``checksum_url`` are https (http only to 127.0.0.1). The checksum file is
    either a bare hex digest or lines of ``<hex>  <file name>``; its length tells sha256 or
    sha512. ``sha256`` given instead pins it. ``members`` maps member -> path inside the archive
    (.tar.gz, .tar.xz, .tar.zst, .zip), or to "" when the download itself is the member.
    """

    url: str
    members: Mapping[str, str]
    checksum_url: str = ""
    sha256: str = ""


@frozen(kw_only=True)
class GoModule:
    """A build with Go from pinned go.mod and go.sum.

    ``go_mod`` and ``go_sum`` are the texts of the files; ``packages`` maps member -> import
    path; ``ldflags`` are added to ``-s -w``; ``extra_files`` (name -> text) are written beside
    go.mod, for a main package of our own (import path = the module's path in go_mod).
    """

    go_mod: str
    go_sum: str
    packages: Mapping[str, str]
    ldflags: str = ""
    tags: tuple[str, ...] = ()
    extra_files: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class GoRelease:
    """A build with Go from a version of a module whose checksums nobody pinned: the module's own
    go.mod chooses the versions, and Go's checksum database must know every download.

    What the module requires at v0.0.0 is in its own repository (Kubernetes) and is taken at version
    ``staging``. ``packages``, ``ldflags`` and ``tags`` as for `GoModule`.
    """

    module: str
    version: str
    packages: Mapping[str, str]
    staging: str = ""
    ldflags: str = ""
    tags: tuple[str, ...] = ()


@frozen(kw_only=True)
class DebPackage:
    """Files taken out of Debian packages: nothing is installed, no dependency and no script.

    ``members`` maps each member to (package, path in it), for example
    ``{"etcd": ("etcd-server", "/usr/bin/etcd")}``; a path may be a directory. Packages are those of
    ``suite``, component main, for amd64; mirror and keys are those of the host's apt settings.
    For a package with its dependencies and scripts give a `Fragment` for ``debian.packages``.
    """

    members: Mapping[str, tuple[str, str]]
    suite: str = "trixie"


@frozen(kw_only=True)
class OciImage:
    """An image from a registry, saved as an OCI layout directory: the tree of ``member``.
    ``ref`` is a full reference, ``registry.example/name:tag`` or ``…@sha256:…``.
    """

    ref: str
    member: str = "oci"


@frozen(kw_only=True)
class Recipe:
    """A function of the plugin that makes the artifact from other artifacts.

    ``function`` is "package.module:name"; it is called with a `xk8s.recipe.RecipeContext`
    and must write the members into ``recipe.out``. ``params`` (JSON values), ``inputs`` and
    ``revision`` (raise it when the function's result changes) make the cache key.

    ``places`` tells the function where on this machine it finds what ``params`` identify by a
    digest (a path, a name that a local daemon knows). It is not part of the key: equal content is
    the same artifact wherever it is, and a cached one is not searched for again.
    """

    function: str
    params: Mapping[str, Any] = field(factory=dict)
    inputs: tuple[Artifact, ...] = ()
    revision: int = 1
    places: Mapping[str, str] = field(factory=dict)


Source = OwnDirectory | Release | GoModule | GoRelease | DebPackage | OciImage | Recipe


@frozen(kw_only=True)
class Artifact:
    """A tree of files, the content of `Take`s. ``name`` and ``version`` are what users see of it.

    ``sources`` are asked in order, each for the members that are still missing. ``members`` are
    the files or directories that must be there when it is complete, as relative paths.

    ``verify`` is "package.module:name" of a function that is called with an
    `xk8s.recipe.Inspection` before the artifact is used the first time; it raises
    `ArtifactError` if the members cannot work, or not with each other. It is not part of the
    cache key: it changes nothing.
    """

    name: str
    version: str
    members: tuple[str, ...]
    sources: tuple[Source, ...]
    verify: str = ""


OWN_DIRECTORY = "own directory"
"""`Provenance.kind` of the user's own builds."""


LOCAL = "this machine"
"""`Provenance.kind` of what a recipe found at its `places`."""


@frozen(kw_only=True)
class Provenance:
    """Origin of a member: kind of source, detail (URL, module and version, package and version),
    hex sha256 of the member's content (`tree_digest` for a directory).
    """

    member: str
    kind: str
    detail: str
    sha256: str
