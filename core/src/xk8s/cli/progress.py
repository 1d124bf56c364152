"""Drawing progress on stderr: a live display on a terminal, plain lines with times elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from attrs import define, field

from xk8s.progress import Progress, Silent
from xk8s.util.console_text import without_controls
from xk8s.util.log import PROGRESS, get_logger

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

log = get_logger(PROGRESS)

REPEAT_SECONDS = 10.0
"""Seconds between lines of one item without a terminal: logs stay short."""

MAX_TEXT = 120

REFRESH_SECONDS = 0.125
"""Between two drawings of the live display."""


def clean(text: str) -> str:
    """Return one short line without control sequences: items may quote consoles and programs."""
    plain = " ".join(without_controls(text, " ").split())
    return plain if len(plain) <= MAX_TEXT else plain[: MAX_TEXT - 1] + "…"


@contextmanager
def renderer(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """Return the right way to draw for ``stream`` (stderr); the display is cleared at the end."""
    stream = stream or sys.stderr
    if quiet:
        yield Silent()
    elif stream.isatty():
        from rich.console import Console

        with Live(Console(file=stream)).shown() as live:
            yield live
    else:
        yield Plain(stream)


class Plain:
    """One line per event with the seconds since the start."""

    def __init__(self, stream: TextIO, *, repeat: float = REPEAT_SECONDS) -> None:
        """``repeat``: minimum number of seconds between two lines of one item."""
        self._stream = stream
        self._repeat = repeat
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._repeats = _Repeats(repeat)

    def _line(self, text: str) -> None:
        # One write: log lines of other threads go to the same stream.
        self._stream.write(f"{time.monotonic() - self._start:7.1f} s  {text}\n")
        self._stream.flush()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Print begin, end and duration of a stage; a failed one is marked as such."""
        begin = time.monotonic()
        with self._lock:
            self._line(name)
        try:
            yield
        except BaseException:
            with self._lock:
                self._line(f"{name}: failed after {time.monotonic() - begin:.1f} s")
            raise
        with self._lock:
            self._line(f"{name}: done in {time.monotonic() - begin:.1f} s")

    def note(self, text: str) -> None:
        """Print it."""
        with self._lock:
            self._line(without_controls(text))

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Print it if it is new, or if it has changed and was not printed recently."""
        with self._lock:
            share = f" {100 * done // total} %" if total else ""
            line = f"  {key}: {clean(text)}{share}"
            if self._repeats.due(key, line):
                self._line(line)

    def finish(self, key: str) -> None:
        """Do nothing: results are notes."""
        with self._lock:
            self._repeats.forget(key)


class Recorded:
    """Progress that is logged as well as drawn by another one."""

    def __init__(self, drawn: Progress, *, repeat: float = REPEAT_SECONDS) -> None:
        """``repeat`` as in `Plain`."""
        self._drawn = drawn
        self._lock = threading.Lock()
        self._repeats = _Repeats(repeat)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Log begin and end, with the time that it took."""
        log.info("stage_started", stage=name)
        with log.timed("stage_ended", stage=name), self._drawn.stage(name):
            yield

    def note(self, text: str) -> None:
        """Log it."""
        log.info("note", text=text)
        self._drawn.note(text)

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Log it as often as `Plain` writes it."""
        with self._lock:
            due = self._repeats.due(key, f"{text} {done}")
        if due:
            share = {"done": done, "total": total} if total else {}
            log.info("item", item=key, text=clean(text), **share)
        self._drawn.item(key, text, done=done, total=total)

    def finish(self, key: str) -> None:
        """Log nothing: results are notes."""
        with self._lock:
            self._repeats.forget(key)
        self._drawn.finish(key)


class _Repeats:
    """Decides whether an item is worth a line again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._told: dict[str, tuple[float, str]] = {}

    def due(self, key: str, line: str) -> bool:
        """Return whether it is new, or has changed and was not written lately; it counts as
        written.
        """
        now = time.monotonic()
        last, said = self._told.get(key, (float("-inf"), ""))
        if now - last < self._seconds or line == said:
            return False
        self._told[key] = (now, line)
        return True

    def forget(self, key: str) -> None:
        """Forget an item that is over."""
        self._told.pop(key, None)


@define(eq=False)
class _Running:
    text: str
    since: float
    done: int = 0
    total: int = 0


@define(eq=False)
class Live:
    """Finished stages and notes scroll by; running ones are drawn below them."""

    console: Console
    _stages: list[tuple[str, float]] = field(factory=list, init=False)
    _items: dict[str, _Running] = field(factory=dict, init=False)
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _printing: threading.RLock = field(factory=threading.RLock, init=False)

    @contextmanager
    def shown(self) -> Iterator[Live]:
        """Draw as long as the block runs."""
        from rich.live import Live as Display

        # rich draws from a thread of its own. Another thread that prints at that moment erases the
        # display at its previous height, and a row of it stays on the screen. So everything is
        # printed under one lock, and the thread that draws is ours.
        display = Display(
            get_renderable=self._draw, console=self.console, transient=True, auto_refresh=False,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        over = threading.Event()

        def refresh() -> None:
            while not over.wait(REFRESH_SECONDS):
                with self._printing:
                    display.refresh()

        thread = threading.Thread(target=refresh, daemon=True)
        with self._redirected():
            with self._printing:
                display.start()
            thread.start()
            try:
                yield self
            finally:
                over.set()
                thread.join()
                with self._printing:
                    display.stop()

    @contextmanager
    def _redirected(self) -> Iterator[None]:
        """Print above the display what others write to stdout and stderr."""
        from rich.file_proxy import FileProxy

        printing = self._printing

        class Above(FileProxy):
            def write(self, text: str) -> int:
                with printing:
                    return super().write(text)

        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (
            cast("TextIO", Above(self.console, stream)) if stream.isatty() else stream
            for stream in before
        )
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before

    def _print(self, text: str, **options: Any) -> None:
        with self._printing:
            self.console.print(text, highlight=False, **options)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the stage with its running time, and a line when it ends."""
        begin = time.monotonic()
        with self._lock:
            self._stages.append((name, begin))
        mark = "[green]✓[/]"
        try:
            yield
        except BaseException:
            mark = "[red]✗[/]"
            raise
        finally:
            with self._lock:
                self._stages.remove((name, begin))
                self._items.clear()
            self._print(f"{mark} {name} [dim]{time.monotonic() - begin:.1f} s[/]")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._print(f"  {without_controls(text)}", markup=False)

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        """Show or change the line of ``key``."""
        with self._lock:
            running = self._items.setdefault(key, _Running("", time.monotonic()))
            running.text, running.done, running.total = clean(text), done, total

    def finish(self, key: str) -> None:
        """Remove the line of ``key``."""
        with self._lock:
            self._items.pop(key, None)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            stages = [
                Spinner("dots", Text.assemble(name, (f" {now - begin:.0f} s", "dim")))
                for name, begin in self._stages
            ]
            table = Table.grid(padding=(0, 1))
            for key, running in list(self._items.items())[: self.console.height - 4]:
                bar: RenderableType = ""
                if running.total:
                    bar = ProgressBar(running.total, running.done, width=20)
                seconds = Text(f"{now - running.since:.0f} s", "dim")
                table.add_row(
                    " ",
                    Text(key, "bold"),
                    bar,
                    seconds,
                    Text(running.text, no_wrap=True, overflow="ellipsis"),
                )
        return Group(*stages, table)
