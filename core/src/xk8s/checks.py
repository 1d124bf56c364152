"""Post-start checks: how they run and what they see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from attrs import frozen

from xk8s.context import ClusterAccess, ExecResult
from xk8s.errors import CheckFailed, Xk8sError
from xk8s.overlay import Check


class NotYet(Exception):
    """Raised by a check while its condition is not met; the message is what it saw."""


@frozen(kw_only=True)
class CheckContext:
    """What a check gets: the running cluster."""

    access: ClusterAccess

    def ok(self, node: str, *argv: str, timeout: float = 60.0) -> str:
        """Run a command in a guest and return its stdout. Raises `NotYet` with its stderr if it
        fails or the guest does not answer.
        """
        try:
            result: ExecResult = self.access.run(node, argv, timeout=timeout)
        except (TimeoutError, Xk8sError) as error:
            raise NotYet(f"{node}: {' '.join(argv)}: {error}") from error
        if result.exit_code != 0:
            text = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise NotYet(f"{node}: {' '.join(argv)}: exit {result.exit_code}: {text}")
        return result.stdout.decode(errors="replace")


@frozen(kw_only=True)
class CheckResult:
    """One finished check: name, whether it passed, its message, its duration in seconds, and the
    log that came with a failure, with its place, hint and known faults.
    """

    name: str
    ok: bool
    detail: str
    seconds: float
    log: str = ""
    where: str = ""
    hint: str = ""
    faults: tuple[str, ...] = ()


def run_check(
    check: Check,
    context: CheckContext,
    *,
    alive: Callable[[], None] = lambda: None,
    progress: Callable[[str], None] = lambda _: None,
) -> CheckResult:
    """Call the check until it passes, fails, or times out.

    ``alive`` is called between tries and raises when a VM has died: waiting on would be
    pointless. ``progress`` gets what the check saw last.
    """
    start = time.monotonic()
    while True:
        try:
            detail = check.run(context)
        except NotYet as seen:
            last = str(seen)
        except CheckFailed as error:
            return CheckResult(
                name=check.name,
                ok=False,
                detail=str(error),
                seconds=time.monotonic() - start,
                log=error.log,
                where=error.where,
                hint=error.hint,
                faults=error.faults,
            )
        else:
            return CheckResult(
                name=check.name, ok=True, detail=detail, seconds=time.monotonic() - start
            )
        alive()
        progress(last)
        if time.monotonic() - start > check.timeout:
            return CheckResult(
                name=check.name,
                ok=False,
                detail=f"not met after {check.timeout:.0f} s; last seen: {last}",
                seconds=time.monotonic() - start,
            )
        time.sleep(check.interval)


def run_checks(
    checks: Iterable[Check],
    context: CheckContext,
    *,
    alive: Callable[[], None] = lambda: None,
    progress: Callable[[str, str], None] = lambda _name, _text: None,
) -> Iterable[CheckResult]:
    """Run checks in order, yielding each result as it arrives; stop after the first failure."""
    for check in checks:

        def tell(text: str, name: str = check.name) -> None:
            progress(name, text)

        result = run_check(check, context, alive=alive, progress=tell)
        yield result
        if not result.ok:
            return
