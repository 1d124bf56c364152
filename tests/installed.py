"""xk8s as users install it: wheels, and an environment outside of the repository that has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent

_PIN = re.compile(r"^([A-Za-z0-9._-]+==[^ \\]+)(?: (;[^\\]*?))? \\$", re.M)


@frozen(kw_only=True)
class Installed:
    """A directory outside of the repository: its ``wheels``, and an environment ``venv`` in it."""

    directory: Path
    venv: str = "venv"

    @property
    def wheels(self) -> Path:
        """Every distribution's wheel and source archive."""
        return self.directory / "wheels"

    @property
    def python(self) -> Path:
        """Of the environment."""
        return self.directory / self.venv / "bin" / "python"

    @property
    def environment(self) -> dict[str, str]:
        """Of a user who has activated it and knows nothing of the repository.

        Third-party packages are those of the lock, so that a release of theirs changes no result.
        """
        mine = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XK8S_", "VIRTUAL_ENV", "PYTHON"))
        }
        path = f"{self.python.parent}:{mine['PATH']}"
        # Compiled when it is imported: most of it never is.
        pip = {"PIP_CONSTRAINT": str(self.directory / "constraints.txt"), "PIP_NO_COMPILE": "1"}
        return {**mine, "PATH": path, **pip}

    def make_environment(self) -> None:
        """A fresh one, with nothing but pip."""
        python = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([python, "-m", "venv", self.directory / self.venv], check=True)

    def run(
        self,
        *words: str | Path,
        cwd: str = ".",
        code: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program below ``directory`` and expect that exit code; stdout and stderr."""
        done = subprocess.run(
            [str(word) for word in words], cwd=self.directory / cwd,
            env={**self.environment, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def shell(self, line: str, cwd: str = ".") -> str:
        """The same for a line of shell, as a page or a CI file has it."""
        return self.run("sh", "-euc", line, cwd=cwd)


def build(directory: Path) -> None:
    """Build every distribution, its wheel from its source archive, with what is locked."""
    command = [sys.executable, "-m", "uv", "build", "--all-packages", "--no-build-isolation"]
    subprocess.run([*command, "-q", "--out-dir", directory], cwd=ROOT, check=True)


def install(directory: Path) -> Installed:
    """Build all, and install the standard ones into a fresh environment as a user does."""
    made = Installed(directory=directory)
    build(made.wheels)
    pins = _PIN.findall((ROOT / "requirements.lock").read_text())
    text = "".join(f"{pin} {marker}\n" for pin, marker in pins)
    (directory / "constraints.txt").write_text(text)
    made.make_environment()
    # An index, whichever this machine has, only gives what ours require: ours are no names there.
    made.run("pip", "install", "--find-links", "wheels", "xk8s-standard")
    return made
