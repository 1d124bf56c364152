"""The settings of this pytest are not those of the ones that tests start."""

from __future__ import annotations

import os

import pytest

INHERITED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Forget them: this pytest has read them, others may lack the plugins that they name."""
    for name in INHERITED:
        os.environ.pop(name, None)
