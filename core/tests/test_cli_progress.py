from __future__ import annotations

import io
import json
import subprocess
import sys
import threading

import pytest
from rich.console import Console
from xk8s.cli.progress import Live, Plain, renderer
from xk8s.progress import Silent


def test_plain_tells_stages_notes_and_items_with_times() -> None:
    stream = io.StringIO()
    plain = Plain(stream)
    with plain.stage("build"):
        plain.note("crio: unreachable, containerd instead")
        plain.item("etcd", "download", done=1, total=4)
        plain.item("etcd", "download", done=2, total=4)  # too soon to be told again
        plain.finish("etcd")
        plain.item("etcd", "again")
    lines = [line.split(" s  ", 1) for line in stream.getvalue().splitlines()]
    assert all(float(seconds) >= 0 for seconds, _ in lines)
    texts = [text for _, text in lines]
    assert texts[:-1] == [
        "build",
        "crio: unreachable, containerd instead",
        "  etcd: download 25 %",
        "  etcd: again",
    ]
    assert texts[-1].startswith("build: done in ")


def test_items_are_one_short_line_without_control_sequences() -> None:
    stream = io.StringIO()
    Plain(stream).item(
        "vm-001", "\x1b[?7l\x1b[2J[  OK  ] Started\r\n\x1b[0;32mudev\x1b[0m " + "x" * 500
    )
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("…")
    assert "vm-001: [ OK ] Started udev xxx" in line
    assert "\x1b" not in line
    assert len(line) < 160


def test_plain_tells_a_failed_stage() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), Plain(stream).stage("build"):
        raise ValueError("x")
    assert "build: failed after" in stream.getvalue()


def test_plain_lines_stay_whole_with_many_threads() -> None:
    stream = io.StringIO()
    plain = Plain(stream, repeat=0)

    def work(number: int) -> None:
        for step in range(50):
            plain.item(f"vm-{number:03}", f"step {step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 400
    assert all(" s    vm-00" in line for line in lines)


def test_live_draws_what_runs_and_leaves_what_is_done() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    assert isinstance(console.file, io.StringIO)
    with Live(console).shown() as live:
        with live.stage("artifacts"):
            live.item("etcd", "download", done=1, total=2)
            live.item("[bold]", "markup [red] is text")
            console.print(live._draw())
            drawn = console.file.getvalue()
            live.finish("etcd")
            live.note("a note [x]")
        with pytest.raises(KeyError), live.stage("layers"):
            raise KeyError
    text = console.file.getvalue()
    assert "etcd" in drawn
    assert "markup [red] is text" in drawn
    assert "a note [x]" in text
    assert "✓ artifacts" in text
    assert "✗ layers" in text


def test_quiet_says_nothing_and_a_file_gets_lines() -> None:
    with renderer(quiet=True) as progress:
        assert isinstance(progress, Silent)
    with renderer(stream=io.StringIO()) as progress:
        assert isinstance(progress, Plain)


@pytest.mark.parametrize(
    ("options", "lines"),
    [({}, 2), ({"quiet": True}, 1), ({"verbose": 1}, 3), ({"verbose": 2, "as_json": True}, 4)],
)
def test_log_levels_and_forms(options: dict[str, object], lines: int) -> None:
    code = f"""if True:
        from xk8s.cli.log import configure
        configure(**{options!r})
        import structlog
        log = structlog.get_logger()
        log.debug("d"); log.info("i"); log.warning("w", node="vm-001"); log.error("e")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    found = done.stderr.splitlines()
    assert len(found) == lines
    if options.get("as_json"):
        assert json.loads(found[2])["node"] == "vm-001"
