"""REPORT.md: what stands at the top of a report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from xk8s.cluster.state.record import Record
from xk8s.faults.recognise import Hint
from xk8s.report.contents import Contents


@define(eq=False, kw_only=True)
class Summary:
    """What is known of a cluster when all is collected. ``failed`` is the error of an `up` whose
    remains this is; ``alive`` says per node whether its VM runs.
    """

    cluster: str
    made: float
    versions: dict[str, Any] = field(factory=dict)
    record: Record | None = None
    alive: dict[str, bool] = field(factory=dict)
    failed: str = ""
    hints: tuple[Hint, ...] = ()
    checks: tuple[dict[str, Any], ...] = ()


def summary(known: Summary, contents: Contents) -> str:
    """Return the page, in Markdown."""
    made = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(known.made))
    lines = [
        f"# Report of cluster {known.cluster!r}",
        "",
        f"Made {made}.",
        *_cluster(known),
        *_faults(known),
        *_checks(known),
        *_missing(contents),
        *_versions(known),
        *_files(contents),
    ]
    return "\n".join(lines) + "\n"


def _cluster(known: Summary) -> Iterator[str]:
    record = known.record
    if record is None:
        yield from ("", "No record says that it is running: this is what is left of it.")
    else:
        yield from ("", f"Phase **{record.phase}**, overlays {', '.join(record.overlays)}, "
                        f"{record.accel}, plan {record.digest[:16]}.")  # fmt: skip
        yield ""
        for node in record.nodes:
            state = "runs" if known.alive.get(node.name) else "**the VM does not exist**"
            yield f"- {node.name} ({node.role}): {state}"
        if not record.nodes:
            yield "No VM was started yet."
    if known.failed:
        yield from ("", "```text", known.failed.rstrip(), "```")


def _faults(known: Summary) -> Iterator[str]:
    yield from ("", "## Known faults in its logs", "")
    if not known.hints:
        yield "None was recognised."
    for hint in known.hints:
        times = f", {hint.count} times" if hint.count > 1 else ""
        yield f"- **{hint.cause}** (`{hint.fault}`; {', '.join(hint.places)}{times})"
        yield f"  - do: {hint.remedy}"
        yield f"  - `{hint.line.replace('`', chr(39))}`"


def _checks(known: Summary) -> Iterator[str]:
    if known.checks:
        yield from ("", "## Checks", "")
        for check in known.checks:
            mark = "ok" if check["ok"] else "**failed**"
            yield f"- {check['name']}: {mark}, {check['detail']} ({check['seconds']} s)"


def _missing(contents: Contents) -> Iterator[str]:
    yield from ("", "## What could not be collected", "")
    yield from (f"- {line}" for line in contents.missing)
    if not contents.missing:
        yield "Nothing: it is complete."


def _versions(known: Summary) -> Iterator[str]:
    yield from ("", "## Versions", "")
    for key, value in known.versions.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} ({what})" for name, what in value.items())
        yield f"- {key}: {value}"


def _files(contents: Contents) -> Iterator[str]:
    yield from ("", "## Files", "")
    yield from (f"- {path} ({len(data)} bytes)" for path, data in sorted(contents.files.items()))
    yield ""
    yield f"{contents.scrub.removed} keys, tokens or passwords were removed. Addresses, names and"
    yield "the output of pods are still included: look at it before you pass it on."
