"""xk8s bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem
from xk8s.cli.session import CliSession, complete_overlays, pass_session, plan_options
from xk8s.errors import UsageError
from xk8s.util.files import write_atomic
from xk8s.verbs import (
    echo,
    json_option,
    print_json,
    table,
    talk_options,
)

if TYPE_CHECKING:
    from xk8s_bench.result import Result

OVERLAYS = ("kubernetes", "coredns")


def _complete(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from xk8s_bench.catalog import COMPARISONS

    return [
        CompletionItem(comparison.name, help=comparison.summary)
        for comparison in COMPARISONS
        if comparison.name.startswith(incomplete)
    ]


def _counts(_ctx: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not N,N,…") from None
    if min(counts) < 1 or len(set(counts)) != len(counts):
        raise click.BadParameter(f"{value!r}: numbers of nodes are 1 or more, each once")
    return counts


@click.command()
@click.argument("comparisons", nargs=-1, metavar="[COMPARISON]…", shell_complete=_complete)
@click.option(
    "--overlay", "overlays", multiple=True, metavar="OVERLAY", shell_complete=complete_overlays,
    help=f"What clusters are made of; may be given many times  [default: {' '.join(OVERLAYS)}].",
)  # fmt: skip
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Of each series."
)
@click.option(
    "--counts", callback=_counts, default="1,2,4", show_default=True, metavar="N,N,…",
    help="Numbers of nodes that `memory` and `template` compare.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="DIR", default="xk8s-bench", show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where COMPARISON.json and COMPARISON.svg go.",
)  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="List the comparisons and their series.")
@click.option(
    "--draw", metavar="FILE", type=click.Path(path_type=Path),
    help="Draw the SVG of a COMPARISON.json again, beside it; measure nothing.",
)  # fmt: skip
@json_option
@plan_options
@talk_options
@pass_session
def command(
    session: CliSession,
    comparisons: tuple[str, ...],
    overlays: tuple[str, ...],
    runs: int,
    counts: tuple[int, ...],
    output: Path,
    listing: bool,
    draw: Path | None,
    as_json: bool,
) -> None:
    """Measure COMPARISONs (all by default) of ways to start clusters, side by side.

    The series of a comparison are run in turn on clusters of their own: yours stay as they are. But
    what else runs on this machine is measured along. Look at the ratios: times are the machine's.
    """
    from xk8s_bench.catalog import chosen

    selected = chosen(comparisons)
    if draw is not None:
        if comparisons or listing:
            raise UsageError("--draw measures nothing", hint="give it alone, with its FILE")
        _draw(draw)
    elif listing:
        _list(comparisons, as_json=as_json)
    else:
        from xk8s_bench.lab import laboratory
        from xk8s_bench.run import measure

        output.mkdir(parents=True, exist_ok=True)
        results = []
        request = session.request(overlays or OVERLAYS)
        with (
            session.progress() as progress,
            laboratory(request, progress, counts=counts) as lab,
        ):
            for comparison in selected:
                result = measure(comparison, lab, runs)
                _write(result, output)
                results.append(result)
        _show(results, output, as_json=as_json)


def _list(names: tuple[str, ...], *, as_json: bool) -> None:
    from xk8s_bench.catalog import chosen

    found = chosen(names)
    if as_json:
        import attrs

        print_json(
            [
                attrs.asdict(comparison, filter=lambda at, _: at.name != "prepare")
                for comparison in found
            ]
        )
        return
    for comparison in found:
        echo(f"{comparison.name}: {comparison.summary}")
        for quantity in comparison.quantities:
            echo(f"  measures {quantity.title} [{quantity.unit}]")
        for about in comparison.series:
            echo(f"  {about.name}: {about.how}")


def _draw(source: Path) -> None:
    from xk8s_bench.draw import svg
    from xk8s_bench.result import read

    target = source.with_suffix(".svg")
    write_atomic(target, svg(read(source)))
    echo(str(target))


def _write(result: Result, output: Path) -> None:
    from xk8s_bench.draw import svg
    from xk8s_bench.result import to_json

    write_atomic(output / f"{result.comparison}.json", to_json(result))
    write_atomic(output / f"{result.comparison}.svg", svg(result))


def _show(results: list[Result], output: Path, *, as_json: bool) -> None:
    import json

    from xk8s_bench.result import amount, times, to_json

    if as_json:
        print_json([json.loads(to_json(result)) for result in results])
        return
    for result in results:
        echo(f"{result.comparison}: {result.summary}")
        for measure in result.measures:
            rows = [(f"  {measure.title}", "MEDIAN", "LEAST", "MOST", "RATIO", "GOAL")]
            for series in measure.series:
                rows.append(
                    (
                        f"    {result.title(series)}",
                        amount(series.median, measure.unit),
                        amount(min(series.values), measure.unit),
                        amount(max(series.values), measure.unit),
                        times(measure.ratio(series)),
                        "" if series.goal is None else f"≤ {times(series.goal)}",
                    )
                )
            table(rows)
        for kind in ("json", "svg"):
            echo(f"  {output / result.comparison}.{kind}")
