"""What a reader can do about a mistake in a plugin, or about one that is missing."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from xk8s.names.discovery import Offer

PROVIDERS = {
    "base": ("xk8s-debian",),
    "cri": ("xk8s-containerd", "xk8s-crio"),
    "cni": ("xk8s-bridge", "xk8s-flannel", "xk8s-kube-router"),
}
"""Our distributions whose overlays provide a capability; what is not installed cannot be asked."""


def about_mistake(offer: Offer, hook: str = "") -> str:
    """Return what to do about a mistake in a plugin: whoever works on it, so that it is installed
    from a source tree, fixes it; all others report it.
    """
    tree = source_tree(offer.distribution)
    if tree is None:
        return "report it to the authors of that distribution"
    module = offer.value.partition(":")[0]
    return (
        f"fix {hook} in module {module}, in {tree}" if hook else f"fix module {module}, in {tree}"
    )


def about_missing(capability: str) -> str:
    """Return what to install so that something provides a capability."""
    if names := PROVIDERS.get(capability):
        return f"install {' or '.join(names)}, or another overlay that provides {capability!r}"
    return f"install an overlay that provides {capability!r}"


def source_tree(name: str) -> Path | None:
    """Return the source tree that a distribution is installed from as "editable", or None."""
    try:
        origin = json.loads(distribution(name).read_text("direct_url.json") or "{}")  # PEP 610
        if origin["dir_info"]["editable"] and origin["url"].startswith("file://"):
            return Path(url2pathname(urlsplit(origin["url"]).path))
    except (PackageNotFoundError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it is not known, or not in the form that is agreed on
    return None
