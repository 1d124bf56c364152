"""xk8s status."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import StateError, Xk8sError
from xk8s.verbs import cluster_option, echo, json_option, print_json, table

if TYPE_CHECKING:
    from xk8s.cluster.handle import Cluster


@click.command()
@click.option("--all", "every", is_flag=True, help="All clusters of this user, one line each.")
@json_option
@cluster_option
@pass_session
def command(session: CliSession, every: bool, as_json: bool) -> None:
    """Show the cluster's nodes: state, addresses, forwarded ports, memory."""
    if every:
        show_all(as_json=as_json)
        return
    cluster = session.cluster_as_it_is()
    status = cluster.status()
    lacking = rebooted(cluster) if status["phase"] in ("running", "failed") else ()
    for node in status["nodes"]:
        node["rebooted"] = node["name"] in lacking
    if as_json:
        print_json(status)
    else:
        show(status)
        for name in lacking:
            session.remark(f"{name} has rebooted and lacks what was applied before: xk8s apply")
    if error := problem(session.name, status["phase"]):
        raise error


def rebooted(cluster: Cluster) -> tuple[str, ...]:
    """Return the nodes that have rebooted and lost something, as far as they answer."""
    from xk8s.cluster.change.reboots import lacking_nodes

    with suppress(Xk8sError):
        return lacking_nodes(cluster, timeout=2.0)
    return ()


def show(status: Mapping[str, Any]) -> None:
    """Print a line about the cluster, and one for each node."""
    echo(
        f"cluster {status['name']!r}: {status['phase']}, {status['accel']}, "
        f"overlays {' '.join(status['overlays'])}"
    )
    rows: list[tuple[str, ...]] = [
        ("NODE", "ROLE", "STATE", "CPUS", "MEMORY", "ADDRESSES", "FORWARDS")
    ]
    rows += [row(node) for node in status["nodes"]]
    table(rows)


def problem(name: str, phase: str) -> StateError | None:
    """Return what is wrong with a cluster that its user may believe to run, and what to do."""
    if phase == "ended":
        from xk8s.cluster.absent import ended

        return ended(name)
    if phase == "paused":
        return StateError(
            f"cluster {name!r} does not run: its VMs are paused",
            hint="`xk8s node resume NODE` lets one run on",
        )
    if phase == "interrupted":
        return StateError(
            f"a command that worked on the VMs of {name!r} was killed: some may be paused",
            hint="the next command continues it or takes it back, for example `xk8s check`",
        )
    return None


def row(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line of the table. Memory is what the host spends (of what the guest may have)."""
    addresses = [address.partition("/")[0] for address in node["addresses"]]
    forwards = [f"{name}=127.0.0.1:{port}" for name, port in node["forwards"].items()]
    return (
        node["name"],
        node["role"],
        node["state"],
        str(node["cpus"]),
        f"{node['host_memory_mib']} of {node['memory_mib']} MiB",
        " ".join(addresses),
        " ".join(forwards),
    )


def show_all(*, as_json: bool) -> None:
    """Print name, phase and overlays of every cluster; "unknown" for one whose record is missing or
    cannot be read.
    """
    from xk8s.cluster.handle import phase_of
    from xk8s.cluster.state.record import list_clusters, readable_record

    records = {name: readable_record(name) for name in list_clusters()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "phase": phase_of(record) if record else "unknown",
                    "overlays": list(record.overlays) if record else [],
                    "nodes": [node.name for node in record.nodes] if record else [],
                }
                for name, record in records.items()
            ]
        )
        return
    for name, record in records.items():
        text = f"{phase_of(record)}: {' '.join(record.overlays)}" if record else "unknown"
        echo(f"{name}  {text}")
