"""xk8s status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from xk8s.cli.session import CliSession, pass_session
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
    status = session.cluster().status()
    if as_json:
        print_json(status)
        return
    echo(
        f"cluster {status['name']!r}: {status['phase']}, {status['accel']}, "
        f"overlays {' '.join(status['overlays'])}"
    )
    rows: list[tuple[str, ...]] = [
        ("NODE", "ROLE", "STATE", "CPUS", "MEMORY", "ADDRESSES", "FORWARDS")
    ]
    rows += [row(node) for node in status["nodes"]]
    table(rows)


def row(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line of the table. Memory is what the host spends (of what the guest may have)."""
    addresses = [address.partition("/")[0] for address in node["addresses"]]
    forwards = [f"{name}=127.0.0.1:{port}" for name, port in node["forwards"].items()]
    return (
        node["name"],
        node["role"],
        "running" if node["running"] else "gone",
        str(node["cpus"]),
        f"{node['host_memory_mib']} of {node['memory_mib']} MiB",
        " ".join(addresses),
        " ".join(forwards),
    )


def show_all(*, as_json: bool) -> None:
    """Print name, phase and overlays of every cluster; "unknown" for one without a record."""
    from xk8s.cluster.state.record import list_clusters, read_record

    records = {name: read_record(name) for name in list_clusters()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "phase": record.phase if record else "unknown",
                    "overlays": list(record.overlays) if record else [],
                    "nodes": [node.name for node in record.nodes] if record else [],
                }
                for name, record in records.items()
            ]
        )
        return
    for name, record in records.items():
        text = f"{record.phase}: {' '.join(record.overlays)}" if record else "unknown"
        echo(f"{name}  {text}")
