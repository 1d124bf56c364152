"""Plugins that are denied, clash, break or lie: throw-away distributions as pip leaves them, and
xk8s in a process of its own where it matters what is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from xk8s.errors import PluginError, UsageError
from xk8s.names.allow_list import Policy
from xk8s.names.registry import Registry
from xk8s.overlay import Check, File, Layer, Overlay

NOTHING: Any = None
"""For an argument that the hooks here do not look at."""

PLUGIN = """
from xk8s import hookimpl
from xk8s.overlay import Overlay

@hookimpl
def xk8s_overlay():
    return Overlay(summary="a test", requires=("base",))
"""


@frozen
class Site:
    """A directory for PYTHONPATH, and one to be in."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "site"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def install(
        self,
        distribution: str,
        code: str = PLUGIN,
        *,
        overlays: Mapping[str, str] | None = None,
        verbs: Mapping[str, str] | None = None,
        version: str = "1.5",
    ) -> str:
        """A distribution with one module (its name with underscores), which makes the file
        MODULE.imported when it is imported. ``overlays`` and ``verbs``: entry points, by default
        the overlay "t-NAME".
        """
        module = distribution.replace("-", "_")
        self.path.mkdir(exist_ok=True)
        self.work.mkdir(exist_ok=True)
        mark = f"open({str(self.path / module)!r} + '.imported', 'w').close()\n"
        (self.path / f"{module}.py").write_text(mark + textwrap.dedent(code))
        info = self.path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: test\n"
        )
        groups = {
            "xk8s.v1": {f"t-{distribution}": module} if overlays is None else overlays,
            "xk8s.v1.commands": verbs or {},
        }
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
                for group, points in groups.items()
            )
        )
        return module

    def imported(self, distribution: str) -> bool:
        return (self.path / f"{distribution.replace('-', '_')}.imported").exists()

    def xk8s(
        self, *words: str, timeout: float = 60, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        self.work.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "xk8s.cli", *words],
            env={
                **os.environ,
                "PYTHONPATH": str(self.path),
                "XK8S_STATE": str(self.root / "state"),
                "XK8S_RUNTIME": str(self.root / "run"),
                **(env or {}),
            },
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


ALLOW = {"XK8S_PLUGINS_ALLOW": "xk8s-*"}
VERB = "import click\n\n@click.command()\ndef command():\n    click.echo('the verb ran')\n"


# --- the list of what may be used -----------------------------------------------------------


def test_without_a_list_all_are_allowed(site: Site) -> None:
    site.install("acme-one")
    done = site.xk8s("plan", "debian", "t-acme-one")
    assert done.returncode == 0, done.stderr
    assert "t-acme-one  acme-one 1.5 " in done.stdout
    assert site.imported("acme-one")
    overlays = json.loads(site.xk8s("plan", "debian", "t-acme-one", "--json").stdout)["overlays"]
    (overlay,) = [overlay for overlay in overlays if overlay["name"] == "t-acme-one"]
    assert (overlay["distribution"], overlay["version"]) == ("acme-one", "1.5")


@pytest.mark.parametrize(
    ("words", "toml", "environment", "source"),
    [
        ((), '[plugins]\nallow = ["xk8s-*"]\n', {}, "xk8s.toml"),
        ((), "", ALLOW, "environment XK8S_PLUGINS_ALLOW"),
        (("-s", "plugins.allow=xk8s-*"), "", {}, "command line"),
        # The stronger source counts.
        ((), '[plugins]\nallow = ["*"]\n', ALLOW, "environment XK8S_PLUGINS_ALLOW"),
    ],
)
def test_a_denied_overlay_is_never_imported(
    site: Site, words: tuple[str, ...], toml: str, environment: dict[str, str], source: str
) -> None:
    site.install("acme-one")
    (site.work / "xk8s.toml").write_text(toml)
    done = site.xk8s("plan", "debian", "t-acme-one", *words, env=environment)
    assert done.returncode == UsageError.exit_code
    assert f"acme-one is not in plugins.allow ({source})" in done.stderr
    assert "distribution acme-one 1.5" in done.stderr
    assert not site.imported("acme-one")
    assert site.xk8s("plan", "debian", *words, env=environment).returncode == 0


def test_a_list_in_another_settings_file(site: Site) -> None:
    site.install("acme-one")
    (site.work / "mine.toml").write_text('[plugins]\nallow = ["xk8s-*"]\n')
    for words in (("plan", "debian", "t-acme-one"), ("explain", "t-acme-one")):
        done = site.xk8s(*words, "--config", "mine.toml")
        assert "acme-one is not in plugins.allow (mine.toml)" in done.stderr
        assert not site.imported("acme-one")


def test_names_of_distributions_are_compared_as_pip_does(site: Site) -> None:
    site.install("Acme.One", overlays={"t-one": "acme_one_module"})
    (site.path / "acme_one_module.py").write_text(PLUGIN)
    for allow in ("acme_one,xk8s-*", "ACME-*,xk8s_*"):
        done = site.xk8s("plan", "debian", "t-one", env={"XK8S_PLUGINS_ALLOW": allow})
        assert done.returncode == 0, done.stderr


def test_a_denied_overlay_is_listed_with_the_reason(site: Site) -> None:
    site.install("acme-one")
    text = site.xk8s("overlays", "--long", env=ALLOW).stdout
    assert "refused: acme-one is not in plugins.allow (environment XK8S_PLUGINS_ALLOW)" in text
    listed = json.loads(site.xk8s("overlays", "--json", env=ALLOW).stdout)
    by_name = {overlay["name"]: overlay for overlay in listed}
    assert by_name["debian"]["refused"] is None
    assert by_name["t-acme-one"]["refused"].startswith("acme-one is not in plugins.allow")
    assert not site.imported("acme-one")


def test_who_could_provide_something_is_not_asked_of_a_denied_one(site: Site) -> None:
    site.install("acme-one", "1 / 0")
    site.install("beta-two", PLUGIN.replace('"base",', '"t-nothing",'))
    done = site.xk8s("plan", "debian", "t-beta-two", env={"XK8S_PLUGINS_ALLOW": "xk8s-*,beta-two"})
    assert done.returncode != 0
    assert "t-nothing" in done.stderr
    assert not site.imported("acme-one")


def test_a_default_that_is_denied_is_passed_over(site: Site) -> None:
    site.install("acme-cri", PLUGIN.replace('requires=("base",)', 'provides=("t-cap",)'))
    other = PLUGIN.replace(
        'requires=("base",)',
        'requires=("base", "t-cap"), defaults={"t-cap": ("t-acme-cri", "t-beta-cri")}',
    )
    site.install("beta-cri", PLUGIN.replace('requires=("base",)', 'provides=("t-cap",)'))
    site.install("gamma", other)
    done = site.xk8s("plan", "debian", "t-gamma", env={"XK8S_PLUGINS_ALLOW": "xk8s-*,beta-*,gamma"})
    assert done.returncode == 0, done.stderr
    assert "t-cap: t-beta-cri (t-acme-cri: acme-cri is not in plugins.allow" in done.stdout


def test_a_denied_verb_is_never_imported(site: Site) -> None:
    site.install("acme-one", VERB, overlays={}, verbs={"t-verb": "acme_one:command"})
    assert site.xk8s("t-verb").stdout == "the verb ran\n"
    (site.path / "acme_one.imported").unlink()
    listed = site.xk8s("--help", env=ALLOW)
    assert listed.returncode == 0
    assert "Denied: acme-one is not in plugins.allow" in " ".join(listed.stdout.split())
    done = site.xk8s("t-verb", env=ALLOW)
    assert done.returncode == UsageError.exit_code
    assert "'t-verb' may not be used: acme-one is not in plugins.allow" in done.stderr
    assert not site.imported("acme-one")


def test_a_list_that_cannot_be_read_allows_no_verb(site: Site) -> None:
    site.install("acme-one", VERB, overlays={}, verbs={"t-verb": "acme_one:command"})
    (site.work / "xk8s.toml").write_text("[plugins\n")
    assert site.xk8s("--help").returncode == 0
    done = site.xk8s("t-verb")
    assert done.returncode == UsageError.exit_code
    assert "not TOML" in done.stderr
    assert not site.imported("acme-one")


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("[plugins]\nallow = [3]\n", "plugins.allow"),
        ("[plugins]\nalow = []\n", "did you mean 'allow'"),
        ("[plugins]\ntimeout = -1\n", "timeout=-1.0 is out of range"),
    ],
)
def test_a_list_that_is_wrong_is_an_error(site: Site, toml: str, text: str) -> None:
    site.work.mkdir()
    (site.work / "xk8s.toml").write_text(toml)
    done = site.xk8s("plan", "debian")
    assert done.returncode == UsageError.exit_code
    assert text in done.stderr


def test_a_report_has_distributions_versions_and_refusals(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xk8s.report.host import versions

    site.install("acme-one", VERB, verbs={"t-verb": "acme_one:command"})
    site.install("beta-two")
    monkeypatch.syspath_prepend(str(site.path))
    monkeypatch.setenv("XK8S_PLUGINS_ALLOW", "xk8s-*,acme-one")
    found = versions()
    assert found["overlays"]["t-acme-one"] == "acme-one 1.5"
    assert found["overlays"]["t-beta-two"].startswith("beta-two 1.5, refused: beta-two is not in")
    assert found["verbs of overlays"]["t-verb"] == "acme-one 1.5"


# --- two of one name ------------------------------------------------------------------------


def test_two_distributions_of_one_overlay_are_both_named(site: Site) -> None:
    site.install("acme-one", overlays={"t-twin": "acme_one"})
    site.install("beta-two", overlays={"t-twin": "beta_two"}, version="2")
    done = site.xk8s("plan", "debian", "t-twin")
    assert done.returncode == PluginError.exit_code
    assert (
        "two distributions offer the overlay 't-twin': acme-one 1.5 and beta-two 2" in done.stderr
    )
    assert not site.imported("acme-one")
    assert not site.imported("beta-two")
    # Whoever does not name it has no part in it.
    for words in (("--help",), ("plan", "debian"), ("explain", "debian.suite")):
        assert site.xk8s(*words).returncode == 0
    assert site.xk8s("overlays").stdout.count("two distributions offer the overlay") == 2


def test_the_list_decides_between_two_of_one_name(site: Site) -> None:
    site.install("acme-one", overlays={"t-twin": "acme_one"})
    site.install("beta-two", overlays={"t-twin": "beta_two"})
    done = site.xk8s("plan", "debian", "t-twin", env={"XK8S_PLUGINS_ALLOW": "xk8s-*,beta-two"})
    assert done.returncode == 0, done.stderr
    assert "t-twin  beta-two 1.5" in done.stdout
    assert site.imported("beta-two")
    assert not site.imported("acme-one")


def test_two_distributions_of_one_verb_are_both_named(site: Site) -> None:
    site.install("acme-one", VERB, overlays={}, verbs={"t-verb": "acme_one:command"})
    site.install("beta-two", VERB, overlays={}, verbs={"t-verb": "beta_two:command"})
    done = site.xk8s("t-verb")
    assert done.returncode == PluginError.exit_code
    assert "two distributions offer the verb 't-verb': acme-one 1.5 and beta-two 1.5" in done.stderr
    assert site.xk8s("--help").returncode == 0
    assert not site.imported("acme-one")
    allowed = site.xk8s("t-verb", env={"XK8S_PLUGINS_ALLOW": "acme-one"})
    assert allowed.stdout == "the verb ran\n"


def test_verbs_and_settings_of_xk8s_itself_cannot_be_taken(site: Site) -> None:
    site.install(
        "acme-one",
        VERB,
        overlays={"status": "acme_one", "cluster": "acme_one", "a.b": "acme_one"},
        verbs={"status": "acme_one:command"},
    )
    shown = " ".join(site.xk8s("--help").stdout.split())
    assert "acme-one 1.5 offers the verb 'status', which is a verb of xk8s itself" in shown
    assert "--json" in site.xk8s("status", "--help").stdout  # the built-in one
    reasons = {
        overlay["name"]: overlay["refused"]
        for overlay in json.loads(site.xk8s("overlays", "--json").stdout)
    }
    assert "which is a verb of xk8s itself" in reasons["status"]
    assert "and settings of xk8s itself have that name" in reasons["cluster"]
    assert "which is not a valid name" in reasons["a.b"]
    assert site.xk8s("plan", "debian", "status").returncode == PluginError.exit_code
    assert not site.imported("acme-one")


def test_broken_metadata_of_another_distribution_does_no_harm(site: Site) -> None:
    site.install("acme-one")
    (site.path / "beta_two-1.dist-info").mkdir()
    (site.path / "beta_two-1.dist-info" / "METADATA").write_bytes(b"Name: beta\xff\n")
    (site.path / "beta_two-1.dist-info" / "entry_points.txt").write_bytes(b"[xk8s.v1]\nx\xff = y\n")
    assert "t-acme-one" in site.xk8s("overlays").stdout


# --- plugins that break at import -----------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("def broken(:", "SyntaxError: "),
        ("import sys; sys.setrecursionlimit(60)\ndef f(): f()\nf()", "RecursionError"),
        ("class Other(BaseException): pass\nraise Other('x')", "Other: x"),
        ("from xk8s import hookimpl\ndef xk8s_overlay(): pass", "xk8s_overlay lacks @hookimpl"),
        ("", "has no xk8s_overlay"),
        ("def __dir__(): raise ValueError('no dir')", "ValueError: no dir"),
    ],
)
def test_a_plugin_that_breaks_at_import(site: Site, code: str, text: str) -> None:
    site.install("acme-one", code)
    done = site.xk8s("plan", "debian", "t-acme-one")
    assert done.returncode == PluginError.exit_code, done.stderr
    assert text in done.stderr
    assert "overlay 't-acme-one'" in done.stderr
    assert "distribution acme-one 1.5" in done.stderr
    assert site.xk8s("plan", "debian").returncode == 0
    listed = site.xk8s("overlays", "--long")
    assert listed.returncode == 0
    assert text in listed.stdout
    assert "debian" in listed.stdout


@pytest.mark.parametrize(
    ("code", "text"),
    [("raise SystemExit(0)", "SystemExit: 0"), ("command = 3", "must be a click.Command, not 3")],
)
def test_a_verb_that_breaks_at_import(site: Site, code: str, text: str) -> None:
    site.install("acme-one", code, overlays={}, verbs={"t-verb": "acme_one:command"})
    done = site.xk8s("t-verb")
    assert done.returncode == PluginError.exit_code
    assert text in done.stderr
    assert "distribution acme-one 1.5" in done.stderr
    assert site.xk8s("--help").returncode == 0


# --- plugins that take for ever -------------------------------------------------------------

HANGS = {
    "sleep": "import time\ndef hang():\n    time.sleep(600)  # here\n",
    "loop": "def hang():\n    while True:\n        pass  # here\n",
    "swallow": (
        "def hang():\n    while True:\n        try:\n            while True:\n"
        "                len('')  # here\n        except Exception:\n            pass\n"
    ),
    "stubborn": (
        "import time\nold = [0]\ndef hang():\n    try:\n        time.sleep(600)\n"
        "    except BaseException:\n        time.sleep(600)  # here\n"
    ),
    "socket": (
        "import socket\ndef hang():\n    one, two = socket.socketpair()\n    one.recv(1)  # here\n"
    ),
    "program": ("import subprocess\ndef hang():\n    subprocess.run(['sleep', '600'])  # here\n"),
    "pattern": "import re\ndef hang():\n    re.match('(a*)*b', 'a' * 99)  # here\n",
}


@pytest.mark.parametrize("how", HANGS)
def test_a_hook_that_hangs(site: Site, how: str) -> None:
    hook = "\n@hookimpl\ndef xk8s_layers(ctx):\n    hang()\n    yield\n"
    module = site.install("acme-one", PLUGIN + HANGS[how] + hook)
    done = site.xk8s("plan", "debian", "t-acme-one", "-s", "plugins.timeout=1")
    assert done.returncode == PluginError.exit_code, done.stderr
    assert "overlay 't-acme-one': xk8s_layers did not finish within 1 s" in done.stderr
    source = (site.path / f"{module}.py").read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(source) if "# here" in text)
    if how not in ("loop", "swallow"):
        place = f"where: distribution acme-one 1.5, {site.path / module}.py line {line}"
        assert place in done.stderr
    assert "| " in done.stderr
    assert "in xk8s_layers" in done.stderr


def test_an_import_that_hangs(site: Site) -> None:
    site.install("acme-one", "import time\ntime.sleep(600)\n")
    done = site.xk8s("plan", "debian", "t-acme-one", env={"XK8S_PLUGINS_TIMEOUT": "1"})
    assert done.returncode == PluginError.exit_code
    assert "overlay 't-acme-one': its import did not finish within 1 s" in done.stderr
    assert f"{site.path / 'acme_one'}.py line 3" in done.stderr


def test_a_verb_whose_import_hangs(site: Site) -> None:
    hang = "import time\ntime.sleep(600)\n"
    site.install("acme-one", hang, overlays={}, verbs={"t-verb": "acme_one:command"})
    done = site.xk8s("t-verb", env={"XK8S_PLUGINS_TIMEOUT": "1"})
    assert "the verb 't-verb': its import did not finish within 1 s" in done.stderr
    assert "distribution acme-one 1.5" in done.stderr


def test_a_hang_in_machine_code_cannot_be_ended_but_is_shown(site: Site) -> None:
    hook = "\n@hookimpl\ndef xk8s_layers(ctx):\n    sum(range(10**12))  # looks for no signal\n"
    site.install("acme-one", PLUGIN + hook)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        site.xk8s("plan", "debian", "t-acme-one", "-s", "plugins.timeout=1", timeout=15)
    text = (caught.value.stderr or b"").decode()
    assert "Timeout" in text
    assert f'"{site.path}/acme_one.py", line 12 in xk8s_layers' in text


# --- plugins that return what the hook does not say -----------------------------------------

RUBBISH = [
    ("xk8s_overlay()", "return Overlay(summary='x', requires='base')", "whose requires is 'base'"),
    ("xk8s_overlay()", "return Overlay(summary=3)", "whose summary is 3, not str"),
    ("xk8s_overlay()", "return 'base'", "returned 'base', not Overlay"),
    ("xk8s_overlay()", "return Overlay(summary='x', settings=3)", "whose settings is 3"),
    ("xk8s_overlay()", "return Overlay(summary='x', settings=dict)", "are not an attrs class"),
    (
        "xk8s_overlay()",
        "from attrs import define, field\n    @define\n    class S:\n        x: 'Nope' = 3\n"
        "    return Overlay(summary='x', settings=S)",
        "have a type that does not exist at run time: name 'Nope' is not defined",
    ),
    ("xk8s_overlay()", "raise SystemExit('bye')", "xk8s_overlay raised SystemExit: bye"),
    ("xk8s_layers(ctx)", "return 7", "xk8s_layers returned 7, not Layers"),
    ("xk8s_layers(ctx)", "return {1, 2}", "xk8s_layers returned {1, 2}, not Layers"),
    ("xk8s_layers(ctx)", "return Layer(name='x')", "not Layers"),
    ("xk8s_layers(ctx)", "yield 7", "xk8s_layers returned 7, not Layer"),
    ("xk8s_layers(ctx)", "yield 1 / 0", "xk8s_layers raised ZeroDivisionError"),
    (
        "xk8s_layers(ctx)",
        "yield Layer(name='x', entries=(File(path='/x', data='text'),))",
        "a Layer whose entries[0].data is 'text', not bytes",
    ),
    (
        "xk8s_layers(ctx)",
        "yield Layer(name='x', entries=[File(path='/x', data=b'')])",
        "a Layer whose entries is [File",
    ),
    (
        "xk8s_layers(ctx)",
        "yield Layer(name='x', roles=frozenset({'wrker'}))",
        "roles[0] is 'wrker'",
    ),
    ("xk8s_layers(ctx)", "yield Bad()", "a Bad without a repr, not Layer"),
    ("xk8s_node_files(ctx)", "yield File(path='etc/x', data=b'')", "not an absolute path"),
    ("xk8s_kernel(ctx)", "return KernelNeeds(config='X')", "config is 'X', not tuple[str, ...]"),
    ("xk8s_checks(ctx)", "yield Check(name='x', run=3)", "a Check whose run is 3"),
]


@pytest.mark.parametrize(("hook", "body", "text"), RUBBISH)
def test_rubbish_is_told_with_overlay_distribution_and_hook(
    site: Site, monkeypatch: pytest.MonkeyPatch, hook: str, body: str, text: str
) -> None:
    head = (
        "from xk8s.overlay import *\nclass Bad:\n    def __repr__(self): raise ValueError\n"
        f"{'' if 'overlay' in hook else PLUGIN}"
    )
    code = f"{head}\nfrom xk8s import hookimpl\n@hookimpl\ndef {hook}:\n    {body}\n"
    name = f"acme-{RUBBISH.index((hook, body, text))}"  # each is another module of this process
    site.install(name, code)
    monkeypatch.syspath_prepend(str(site.path))
    registry = Registry(rules=Policy())

    def ask() -> None:
        registry.overlay(f"t-{name}")
        hooks: dict[str, Callable[[], object]] = {
            "xk8s_layers(ctx)": lambda: registry.hooks.layers(f"t-{name}", NOTHING),
            "xk8s_node_files(ctx)": lambda: registry.hooks.node_files(
                f"t-{name}", NOTHING, NOTHING
            ),
            "xk8s_checks(ctx)": lambda: registry.hooks.checks(f"t-{name}", NOTHING),
            "xk8s_kernel(ctx)": lambda: registry.hooks.kernel(f"t-{name}", NOTHING),
        }
        hooks[hook]()

    with pytest.raises(PluginError) as caught:
        ask()
    assert text in str(caught.value)
    assert f"overlay 't-{name}'" in str(caught.value)
    assert hook.partition("(")[0] in str(caught.value)
    assert caught.value.where.startswith(f"distribution {name} 1.5")


def local(**hooks: Callable[..., object]) -> Registry:
    import types

    from xk8s import hookimpl

    found = types.SimpleNamespace(xk8s_overlay=hookimpl(lambda: Overlay(summary="x")))
    for name, function in hooks.items():
        setattr(found, f"xk8s_{name}", hookimpl(function))
    registry = Registry({"t-local": found}, Policy())
    registry.overlay("t-local")
    return registry


def test_any_iterable_in_order_will_do() -> None:
    from itertools import chain

    layers = [Layer(name="one"), Layer(name="two")]
    for value in (layers, tuple(layers), iter(layers), chain(layers)):
        registry = local(layers=lambda ctx, found=value: found)
        assert registry.hooks.layers("t-local", NOTHING) == tuple(layers)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_file_for_the_host_stays_in_the_clusters_directory(path: str) -> None:
    registry = local(host_files=lambda access, keys: [File(path=path, data=b"")])
    with pytest.raises(PluginError, match="not a path below the cluster's state directory"):
        registry.hooks.host_files("t-local", NOTHING, NOTHING)


def test_what_a_check_raises_is_its_makers_fault() -> None:
    from xk8s.checks import CheckContext, NotYet
    from xk8s.errors import CheckFailed

    def run(context: CheckContext) -> str:
        raise errors[0]

    errors: list[BaseException] = [NotYet("wait")]
    registry = local(checks=lambda ctx: [Check(name="c", run=run)])
    (check,) = registry.hooks.checks("t-local", NOTHING)
    with pytest.raises(NotYet, match="wait"):
        check.run(None)  # type: ignore[arg-type]
    errors[0] = CheckFailed("no")
    with pytest.raises(CheckFailed, match="no"):
        check.run(None)  # type: ignore[arg-type]
    errors[0] = KeyError("x")
    with pytest.raises(PluginError, match="overlay 't-local': check 'c' raised KeyError"):
        check.run(None)  # type: ignore[arg-type]


def test_ctrl_c_in_a_hook_is_the_users() -> None:
    def layers(ctx: object) -> list[Layer]:
        raise KeyboardInterrupt

    registry = local(layers=layers)
    with pytest.raises(KeyboardInterrupt):
        registry.hooks.layers("t-local", NOTHING)


@pytest.mark.timeout(600, method="thread")  # its own timer would be what is found
def test_a_hook_leaves_no_alarm_behind() -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    registry = local(layers=lambda ctx: [])
    registry.hooks.layers("t-local", NOTHING)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
