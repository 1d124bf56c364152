from __future__ import annotations

import os
import stat

import pytest
from xk8s_images.whiteouts import make_portable


def test_opaque_directories_become_whiteouts(tmp_path):
    below, above = tmp_path / "1/fs", tmp_path / "2/fs"
    for path in ("d/old", "d/sub/old", "d/kept", "other/x"):
        (below / path).parent.mkdir(parents=True, exist_ok=True)
        (below / path).touch()
    (above / "d/sub").mkdir(parents=True)
    (above / "d/kept").touch()
    try:
        os.setxattr(above / "d", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("no user attributes on this file system")
    try:
        make_portable([below, above])
    except PermissionError:
        pytest.skip("mknod of a whiteout is not allowed here")
    for hidden in ("d/old", "d/sub/old"):
        status = (above / hidden).lstat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0
    assert (above / "d/kept").is_file()
    assert not (above / "other").exists()
    assert os.listxattr(above / "d") == []
