"""Images in every form, made by real programs where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from xk8s_images.layout import Member, layer_tar, write_layout


@pytest.fixture(autouse=True)
def own_cache(own_places: Path) -> Path:
    """Nothing of these tests gets into the user's cache."""
    return own_places / "cache"


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    """Makes a layout of an image with one file; the same text gives the same image."""

    def make(text: str = "hello", *, name: str = "layout", ref: str = "xk8s.local/a:1",
             architecture: str = "amd64") -> Path:  # fmt: skip
        layer = layer_tar([Member(path="etc/text", mode=0o644, data=text.encode())])
        out = tmp_path / name
        shutil.rmtree(out, ignore_errors=True)
        write_layout(out, ref=ref, layer=layer, cmd=["/bin/true"], architecture=architecture)
        return out

    return make


@pytest.fixture
def skopeo() -> Callable[..., None]:
    """`skopeo copy`, without the host's policy; skips where it is not installed."""
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")

    def copy(*words: str, **environment: str) -> None:
        subprocess.run(
            [program, "--insecure-policy", "copy", "--quiet", *words],
            env={**os.environ, **environment},
            check=True,
        )

    return copy
