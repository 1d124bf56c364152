"""The additional image store, filled by a real skopeo and read by one."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from xk8s.util.jobs import Jobs
from xk8s_crio.store import bake
from xk8s_images.layout import Member, config_digest, layer_tar, write_layout
from xk8s_images.stores import namespace_argv

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


@pytest.fixture
def namespace() -> list[str]:
    argv = namespace_argv()
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    return argv


def test_another_store_finds_the_images_without_copying_them(tmp_path, namespace):
    layouts = {}
    for name in "ab":
        layer = layer_tar([Member(path="bin/x", mode=0o755, data=name.encode() * 5000)])
        (tmp_path / name).mkdir()
        write_layout(tmp_path / name / "oci", ref=f"xk8s.local/{name}:1", layer=layer)
        layouts[name] = f"xk8s.local/{name}:1"
    for name in ("out", "work", "empty"):
        (tmp_path / name).mkdir()
    jobs = Jobs()
    recipe = SimpleNamespace(
        out=tmp_path / "out",
        work=tmp_path / "work",
        params={"images": layouts},
        inputs={name: tmp_path / name for name in layouts},
        run=lambda argv, **options: jobs.run(
            argv, log=tmp_path / "work/log", mark=str(tmp_path), **options
        ),
    )
    bake(recipe)
    assert (tmp_path / "out/store.erofs").stat().st_size > 4096

    store = tmp_path / "work/tree/usr/lib/xk8s/crio"
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/empty"\nrunroot = "{tmp_path}/r"\n'
        f'[storage.options]\nadditionalimagestores = ["{store}"]\n'
    )
    for name, ref in layouts.items():
        found = subprocess.run(
            [*namespace, "skopeo", "inspect", "--config", "--raw", f"containers-storage:{ref}"],
            env={**os.environ, "CONTAINERS_STORAGE_CONF": str(config), "HOME": str(tmp_path)},
            capture_output=True,
            check=True,
        )
        blob = config_digest(tmp_path / name / "oci").replace(":", "/")
        assert found.stdout == (tmp_path / name / "oci/blobs" / blob).read_bytes()
    assert not list((tmp_path / "empty").glob("overlay/*/diff"))
