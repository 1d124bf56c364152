"""The settings file: read once, whatever it is; and what one that nobody named may set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xk8s.cli import app
from xk8s.errors import UsageError
from xk8s.names.allow_list import policy
from xk8s.names.config_file import CONFIG_FILE, read_config
from xk8s.names.core_settings import ClusterSettings
from xk8s.names.request import Request
from xk8s.names.settings import Settings

GUARDED = {
    "qemu_args": "-device virtio-rng-pci",
    "outside": "all",
    "proxy": "http://127.0.0.1:3128",
}


@pytest.fixture(autouse=True)
def here(own_places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def load(config_file: Path | None = None) -> ClusterSettings:
    request = Request(overlays=(), config_file=config_file, environment={})
    settings: ClusterSettings = Settings(request).load("cluster", ClusterSettings)
    return settings


# --- what it is -------------------------------------------------------------------------


def test_a_pipe_is_read_once_and_its_settings_count() -> None:
    script = "cd /; exec 3< <(printf '[cluster]\\nnodes = 7\\n'); exec \"$@\" /dev/fd/3"
    program = (
        "import sys\nfrom pathlib import Path\nfrom xk8s.names.allow_list import policy\n"
        "from xk8s.names.request import Request\nfrom xk8s.names.settings import Settings\n"
        "from xk8s.names.core_settings import ClusterSettings\n"
        "request = Request(overlays=(), config_file=Path(sys.argv[1]), environment={})\n"
        "policy(request)\nprint(Settings(request).load('cluster', ClusterSettings).nodes)\n"
    )
    argv = ["bash", "-c", script, "bash", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr


def test_a_pipe_that_nobody_writes_to_is_an_error(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with pytest.raises(UsageError, match="nobody wrote anything to it"):
        load(here / "pipe")


def test_a_pipe_that_merely_lies_there_is_not_waited_for(here: Path) -> None:
    os.mkfifo(here / CONFIG_FILE)
    for reads in (load, policy):
        with pytest.raises(UsageError, match="it is not a regular file"):
            reads()


def test_a_link_to_nothing_is_no_absent_file(here: Path) -> None:
    (here / CONFIG_FILE).symlink_to("moved.toml")
    for reads in (load, policy):
        with pytest.raises(UsageError, match=r"a link to moved\.toml, which does not exist"):
            reads()


def test_a_directory_and_an_endless_file_are_errors(here: Path) -> None:
    (here / CONFIG_FILE).mkdir()
    with pytest.raises(UsageError, match="cannot read it: Is a directory"):
        load()
    for path in (here / "long", Path("/dev/zero")):
        if path.name == "long":
            path.write_text("#" * (2 << 20))
        with pytest.raises(UsageError, match="longer than 1 MiB"):
            load(path)


# --- trust ------------------------------------------------------------------------------


def write(path: Path, **settings: str) -> Path:
    lines = [f'{name} = "{value}"\n' for name, value in settings.items()]
    path.write_text("[cluster]\n" + "".join(lines))
    return path


@pytest.mark.parametrize("name", GUARDED)
def test_a_found_file_gives_power_over_this_machine_only_when_it_is_trusted(
    here: Path, name: str
) -> None:
    path = write(here / CONFIG_FILE, **{name: GUARDED[name]})
    with pytest.raises(UsageError, match=rf"cluster\.{name} gives power .* not trusted") as caught:
        load()
    assert caught.value.where == str(path)
    assert "xk8s trust" in caught.value.hint
    assert app.run(["trust"]) == 0
    assert getattr(load(), name) == GUARDED[name]
    # Another content, and the same file elsewhere, are not.
    write(here / CONFIG_FILE, **{name: GUARDED[name]}, kernel_args="quiet")
    with pytest.raises(UsageError, match="not trusted"):
        load()
    write(here / CONFIG_FILE, **{name: GUARDED[name]})
    assert getattr(load(), name) == GUARDED[name]
    assert app.run(["trust", "--revoke"]) == 0
    with pytest.raises(UsageError, match="not trusted"):
        load()


def test_a_file_that_was_named_and_settings_that_give_no_power_need_no_trust(here: Path) -> None:
    write(here / CONFIG_FILE, **GUARDED)
    assert load(Path(CONFIG_FILE)).qemu_args == GUARDED["qemu_args"]
    write(here / CONFIG_FILE, outside="none", kernel_args="quiet", qemu_args="", proxy="")
    assert load().outside == "none"


def test_every_plan_says_so_before_anything_is_done(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(here / CONFIG_FILE, qemu_args="-device virtio-rng-pci")
    assert app.run(["plan", "debian"]) == UsageError.exit_code
    assert "xk8s trust" in capfd.readouterr().err
    assert app.run(["trust"]) == 0
    assert app.run(["plan", "debian"]) == 0


def test_trust_of_nothing_or_of_what_is_no_toml_is_an_error(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["trust"]) == UsageError.exit_code
    assert "there is no xk8s.toml" in capfd.readouterr().err
    (here / CONFIG_FILE).write_text("[cluster\n")
    assert app.run(["trust"]) == UsageError.exit_code
    assert "not TOML" in capfd.readouterr().err
    config = read_config(None)
    assert config is not None
    with pytest.raises(UsageError):
        config.check_trusted("cluster.qemu_args")
