"""Comparison ``commands``: what `xk8s` itself takes, before any VM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from xk8s.errors import Xk8sError

from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import Lab
from xk8s_bench.result import About

PYTHON = About(
    name="python",
    title="Python alone",
    how="`python -c pass`: what no command of Python can be faster than.",
)
HELP = About(name="help", title="xk8s --help", how="`xk8s --help`: imports no verb.")
PLAN = About(
    name="plan",
    title="xk8s plan --json",
    how="`xk8s plan --json` of all overlays: their hooks are called, nothing is touched.",
)

QUANTITIES = (Quantity(name="time", title="whole command", unit="s"),)
_CLI = (sys.executable, "-m", "xk8s.cli")


def prepare(lab: Lab) -> Prepared:
    """Nothing but the plan."""
    plan = lab.plan()
    planning = (*_CLI, "plan", "--json", *lab.words())
    return Prepared(
        quantities=QUANTITIES,
        ways=(
            Way(about=PYTHON, run=lambda: _whole((sys.executable, "-c", "pass"))),
            Way(about=HELP, run=lambda: _whole((*_CLI, "--help"))),
            Way(about=PLAN, run=lambda: _whole(planning)),
        ),
        plans=(plan,),
    )


def _whole(argv: Sequence[str]) -> Mapping[str, float]:
    begin = time.monotonic()
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        raise Xk8sError(
            f"{' '.join(argv)}: exit code {done.returncode}", hint="run it", log=done.stderr
        )
    return {"time": seconds}


COMPARISON = Comparison(
    name="commands",
    summary="Commands that touch no VM, against Python itself",
    series=(PYTHON, HELP, PLAN),
    quantities=QUANTITIES,
    prepare=prepare,
)
