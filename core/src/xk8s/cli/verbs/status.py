"""xk8s status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from xk8s.cli.session import CliSession, pass_session
from xk8s.errors import StateError
from xk8s.verbs import (
    cluster_option,
    echo,
    json_option,
    print_json,
    table,
)


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
    status = session.cluster_as_it_is().status()
    if as_json:
        print_json(status)
    else:
        show(status)
    if error := problem(session.name, status["phase"]):
        raise error


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
        return StateError(
            f"cluster {name!r} has ended: none of its VMs runs any more",
            hint="`xk8s up` or `xk8s reset` starts it again, `xk8s down` removes what is left",
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
