"""The comparisons, in the order in which they are run."""

from __future__ import annotations

from xk8s.errors import UsageError, nearest

from xk8s_bench import commands, floor, layers, memory, start, template
from xk8s_bench.comparison import Comparison

COMPARISONS: tuple[Comparison, ...] = (
    start.COMPARISON,
    layers.COMPARISON,
    floor.COMPARISON,
    memory.COMPARISON,
    template.COMPARISON,
    commands.COMPARISON,
)


def chosen(names: tuple[str, ...]) -> tuple[Comparison, ...]:
    """Return the named comparisons, each once; every one if none is named. `UsageError` for an
    unknown one.
    """
    known = {comparison.name: comparison for comparison in COMPARISONS}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no comparison {name!r}",
                hint=f"{nearest(name, known)}there are: {', '.join(known)}; overlays are given "
                "with --overlay",
            )
    return tuple(known[name] for name in dict.fromkeys(names)) or COMPARISONS
