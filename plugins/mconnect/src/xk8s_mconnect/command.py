"""``xk8s mconnect``: the client as a verb, from inside the cluster's namespace."""

from __future__ import annotations

import sys

import click
from xk8s.errors import CheckFailed, UsageError
from xk8s.verbs import (
    Session,
    cluster_option,
    echo,
    json_option,
    pass_session,
    print_json,
)

from xk8s_mconnect.client import Tally, connect, parse_address


@click.command(short_help="Open many connections to an address, and count the answers per pod.")
@click.option("--address", required=True, help="10.0.0.2:5001 or [1000::2]:5001")
@click.option("--nconn", default=100, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--parallel", default=8, show_default=True, type=click.IntRange(1, 256))
@click.option("--timeout", "seconds", default=10.0, show_default=True, help="per connection")
@json_option
@cluster_option
@pass_session
def command(
    session: Session, address: str, nconn: int, parallel: int, seconds: float, as_json: bool
) -> None:
    """Open many TCP connections to ADDRESS from outside of the cluster's nodes, as a client
    behind the router would, and print connects, failures and the share of each pod.

    Needs no root and no route on the host. Exit code 9 if a connection failed.
    """
    try:
        host, port = parse_address(address)
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{address!r} is not an address and port", hint="10.0.0.2:5001 or [1000::2]:5001"
        ) from error
    cluster = session.cluster()
    tally = connect(cluster.dial, host, port, nconn=nconn, parallel=parallel, timeout=seconds)
    if as_json:
        print_json(
            {
                "connects": tally.connects,
                "failed": tally.failed,
                "answers": tally.answers,
                "failures": tally.failures,
            }
        )
    else:
        echo(report(tally))
    if tally.failed:
        sys.exit(CheckFailed.exit_code)


def report(tally: Tally) -> str:
    """Return the tally as lines of text."""
    lines = [f"connects {tally.connects}, failed {tally.failed}"]
    lines += [f"  failed: {count:6} {reason}" for reason, count in tally.failures.items()]
    good = sum(tally.answers.values()) or 1
    lines += [
        f"  {pod:40} {count:6} {100 * count / good:5.1f} %" for pod, count in tally.answers.items()
    ]
    return "\n".join(lines)
