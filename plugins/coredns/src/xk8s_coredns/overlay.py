"""The hooks of the overlay ``coredns``."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator

import yaml
from xk8s import hookimpl
from xk8s.artifact_keys import artifact_key
from xk8s.context import Context
from xk8s.overlay import NODE_ROLES, Check, Fragment, GuestNeeds, Overlay
from xk8s.render import render_text
from xk8s_images import Image, image_artifact
from xk8s_kubernetes import Manifest, addresses
from xk8s_kubernetes.settings import KubernetesSettings

from xk8s_coredns.artifacts import coredns_image
from xk8s_coredns.checks import explain, resolves
from xk8s_coredns.settings import CorednsSettings, forward_to


@hookimpl
def xk8s_overlay() -> Overlay:
    """Describe the cluster's DNS."""
    return Overlay(
        summary="CoreDNS: names of Services, as a Deployment behind the Service kube-dns",
        requires=("kubernetes", "images"),
        # Its pods are the first that need more than their node's part of the network.
        after=("cni",),
        settings=CorednsSettings,
    )


@hookimpl
def xk8s_guest(ctx: Context) -> GuestNeeds:  # noqa: ARG001
    """Require the node's program that the pod of the check runs."""
    return GuestNeeds(files=("/usr/bin/busybox",), roles=NODE_ROLES)


@hookimpl
def xk8s_fragments(ctx: Context) -> Iterator[Fragment]:
    """Return the image, and the objects that make it the cluster's DNS."""
    settings = ctx.settings(CorednsSettings)
    image = coredns_image(settings)
    yield Fragment(point="images.image", value=image)
    manifest = Manifest(name="50-coredns", yaml=_yaml(ctx, settings, image))
    yield Fragment(point="kubernetes.manifest", value=manifest)


def _yaml(ctx: Context, settings: CorednsSettings, image: Image) -> str:
    render = functools.partial(
        render_text,
        "xk8s_coredns",
        "coredns.yaml.j2",
        ctx,
        settings=settings,
        image=image.ref,
        zone=ctx.settings(KubernetesSettings).cluster_domain,
        addresses=addresses.dns_addresses(ctx),
        forward=forward_to(settings.upstream),
    )
    documents = yaml.safe_load_all(render(made_of=""))
    data = [document["data"] for document in documents if document["kind"] == "ConfigMap"]
    return render(made_of=_digest([artifact_key(image_artifact(image)), data])[:16])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@hookimpl
def xk8s_checks(ctx: Context) -> Iterator[Check]:  # noqa: ARG001
    """Check that a pod resolves a Service."""
    yield Check(name="coredns", run=resolves, timeout=600.0, interval=1.0, explain=explain)
