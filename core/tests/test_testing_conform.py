"""The test kit, on overlays that are broken on purpose: one or more for each rule."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from xk8s.testing import assert_conforms, violations
from xk8s.testing.conform import difference

HEAD = """\
import attrs
from xk8s import hookimpl
from xk8s.overlay import *
from xk8s.overlay import setting
from xk8s.sources import Artifact
from xk8s.context import Context


@hookimpl
def xk8s_overlay() -> Overlay:
    return Overlay(summary="for tests", requires=("base",), settings=globals().get("Settings"),
                   points=globals().get("POINTS", {}))


"""
NAME = "t-broken"

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs an overlay of that source, under a module name that no other test used."""
    site = tmp_path / "site"

    def make(source: str, *, head: str = HEAD, name: str = NAME) -> str:
        module = f"kit_{abs(hash(str(tmp_path)))}_{len(list(tmp_path.glob('site/*')))}"
        info = site / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(head + textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[xk8s.v1]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(str(site))
        return name

    return make


GOOD = '''
    @attrs.frozen(kw_only=True)
    class Settings:
        text: str = setting("hello", "what is said")


    POINTS = {"t-broken.lines": Point(type=str, help="A line.", example="x")}


    @hookimpl
    def xk8s_fragments(ctx: Context) -> list[Fragment]:
        return [Fragment(point="cluster.route", value="10.9.0.0/24"),
                Fragment(point="t-broken.lines", value="more")]


    @hookimpl
    def xk8s_layers(ctx: Context) -> list[Layer]:
        text = ctx.settings(Settings).text + "".join(ctx.fragments("t-broken.lines", str))
        return [Layer(name="t-broken", entries=(File(path="/etc/t", data=text.encode()),))]


    @hookimpl
    def xk8s_node_files(ctx: Context, node: Node) -> list[File]:
        return [File(path="/etc/issue", data=node.name.encode())]


    @hookimpl
    def xk8s_kernel(ctx: Context) -> KernelNeeds:
        return KernelNeeds(config=("BRIDGE",), modules=("bridge",))


    @hookimpl
    def xk8s_checks(ctx: Context) -> list[Check]:
        return [Check(name="t", run=lambda context: "ok")]
'''  # fmt: skip


def test_a_good_overlay_conforms(install: Install) -> None:
    assert_conforms(install(GOOD))


def test_settings_of_the_caller_count(install: Install) -> None:
    name = install("""
        @attrs.frozen(kw_only=True)
        class Settings:
            nice: bool = setting(True, "whether it is")

        @hookimpl
        def xk8s_layers(ctx: Context) -> list[Layer]:
            return [Layer(name="t", entries=(Directory(path=
                "/etc/t" if ctx.settings(Settings).nice else "etc/../t"),))]
    """)
    assert_conforms(name)
    with pytest.raises(AssertionError, match=r"'\.\.'"):
        assert_conforms(name, sets=("t-broken.nice=false",))


LAYERS = """
    @hookimpl
    def xk8s_layers(ctx: Context) -> list[Layer]:
        {before}
        return [Layer(name="t", entries=({entry},))]
"""
FILE = 'File(path="/etc/t", data={})'


def layers(entry: str, before: str = "pass") -> str:
    return LAYERS.format(entry=entry, before=before)


def fault(*, times: int = 1, **other: object) -> str:
    fields = {"name": "t", "pattern": "gone: (?P<it>.*)", "cause": "{it} is gone",
              "remedy": "bring it", "examples": ("gone: all",), **other}  # fmt: skip
    said = ", ".join(f"{key}={value!r}" for key, value in fields.items())
    return f"@hookimpl\ndef xk8s_faults() -> list[Fault]: return [Fault({said})] * {times}"


def about(**other: object) -> str:
    fields = {"summary": "s", "requires": ("base",), **other}
    said = ", ".join(f"{key}={value!r}" for key, value in fields.items())
    return f"@hookimpl\ndef xk8s_overlay() -> Overlay: return Overlay({said})"


BROKEN = {
    "unknown hook": (
        "@hookimpl\ndef xk8s_layer(ctx: Context) -> list[Layer]: return []", "import",
        "unknown hook 'xk8s_layer'",
    ),
    "unknown argument": (
        "@hookimpl\ndef xk8s_layers(context: Context) -> list[Layer]: return []", "import",
        "'context'",
    ),
    "no mark": ("def xk8s_layers(ctx: Context) -> list[Layer]: return []", "import", "@hookimpl"),
    "fails at import": ("1 / 0", "import", "ZeroDivisionError"),
    "no types": (
        "@hookimpl\ndef xk8s_layers(ctx): return []", "xk8s_layers",
        "no type for ctx, what it returns",
    ),
    "async": (
        "@hookimpl\nasync def xk8s_layers(ctx: Context) -> list[Layer]: return []", "xk8s_layers",
        "it is async",
    ),
    "rubbish": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]: return ['x']", "xk8s_layers",
        "'x', not Layer",
    ),
    "raises": (
        "@hookimpl\ndef xk8s_boot(ctx: Context, node: Node) -> BootOptions: return node.disk",
        "xk8s_boot", "no attribute 'disk'",
    ),
    "wrong type": (
        layers(FILE.format("'text'")), "xk8s_layers", "Layer: entries[0].data is 'text', not bytes"
    ),
    "wrong type in a check": (
        "@hookimpl\ndef xk8s_checks(ctx: Context) -> list[Check]:\n"
        "    return [Check(name='t', run=lambda: 'ok')]", "xk8s_checks",
        "Check: run is called with a CheckContext",
    ),
    "no description": (
        "@attrs.frozen\nclass Settings:\n    size: int = setting(1, '')", "xk8s_overlay",
        "the setting t-broken.size has no description",
    ),
    "not by setting": (
        "@attrs.frozen\nclass Settings:\n    size: int = 1", "xk8s_overlay",
        "the setting t-broken.size has no description",
    ),
    "no default": (
        "@attrs.frozen\nclass Settings:\n    size: int = attrs.field(metadata={'help': 'x'})",
        "xk8s_overlay", "the setting t-broken.size has no default",
    ),
    "default of another type": (
        "@attrs.frozen\nclass Settings:\n    size: int = setting('1', 'how large')",
        "xk8s_overlay", "the default of t-broken.size",
    ),
    "reads": (
        layers(FILE.format("open('/etc/passwd', 'rb').read()")), "xk8s_layers", "read /etc/passwd"
    ),
    "lists": (
        layers(FILE.format("str(sorted(__import__('os').listdir('/etc'))).encode()")),
        "xk8s_layers", "read /etc",
    ),
    "writes": (
        layers(FILE.format("b''"), "open('/tmp/xk8s-kit-must-not-be', 'w')"), "xk8s_layers",
        "opened /tmp/xk8s-kit-must-not-be for writing",
    ),
    "makes a directory": (
        layers(FILE.format("b''"), "__import__('os').mkdir('/tmp/xk8s-kit-must-not-be')"),
        "xk8s_layers", "called os.mkdir(/tmp/xk8s-kit-must-not-be)",
    ),
    "asks the network": (
        layers(FILE.format("b''"), "__import__('socket').create_connection(('127.0.0.1', 9))"),
        "xk8s_layers", "used the network (socket.",
    ),
    "starts a process": (
        layers(FILE.format("b''"), "__import__('subprocess').run(['touch', "
               "'/tmp/xk8s-kit-must-not-be'])"),
        "xk8s_layers", "started a process: touch",
    ),
    "acts when imported": (
        "__import__('subprocess').run(['true'])", "import", "started a process: true"
    ),
    "hides what it does": (
        layers(FILE.format("b''"), "\n    ".join((
            "try: __import__('subprocess').run(['true'])", "    except Exception: pass"))),
        "xk8s_layers", "started a process: true",
    ),
    "random": (
        layers(FILE.format("__import__('secrets').token_bytes()")), "xk8s_layers",
        "it answers differently when asked again",
    ),
    "order of a set": (
        layers(FILE.format("repr({str(i) for i in range(50)}).encode()")), "xk8s_layers",
        "it answers differently in another process",
    ),
    "a path twice": (
        layers(f"{FILE.format(bytes(1))}, {FILE.format(bytes(2))}"), "xk8s_layers",
        "has /etc/t twice",
    ),
    "a bad path": (layers('File(path="etc/t", data=b"")'), "xk8s_layers", "etc/t"),
    "a node's path twice": (
        "@hookimpl\ndef xk8s_node_files(ctx: Context, node: Node) -> list[File]:\n"
        "    return [File(path='/etc/n', data=b''), File(path='/etc/n', data=b'2')]",
        "xk8s_node_files", "vm-001: /etc/n is used twice",
    ),
    "a node's path over a layer's": (
        layers(FILE.format("b''"))
        + "\n    @hookimpl\n    def xk8s_node_files(ctx: Context, node: Node) -> list[File]:\n"
        "        return [File(path='/etc/t', data=b'')]",
        "xk8s_node_files", "/etc/t is owned by 't-broken' (layer 't') as well",
    ),
    "no such point": (
        "@hookimpl\ndef xk8s_fragments(ctx: Context) -> list[Fragment]:\n"
        "    return [Fragment(point='cluster.rout', value='10.9.0.0/24')]", "xk8s_fragments",
        "there is no point 'cluster.rout'",
    ),
    "a point of nobody": (
        "@hookimpl\ndef xk8s_fragments(ctx: Context) -> list[Fragment]:\n"
        "    return [Fragment(point='nobody.here', value='')]", "xk8s_fragments",
        "there is no point 'nobody.here'",
    ),
    "a point that is not declared": (
        layers(FILE.format("str(ctx.fragments('t-broken.x', str)).encode()")), "xk8s_layers",
        "it takes fragments for 't-broken.x'",
    ),
    "a point under another's name": (
        "POINTS = {'kubernetes.mine': Point(type=str, help='x', example='x')}",
        "xk8s_overlay",
        "the point 'kubernetes.mine'",
    ),
    "an example that is none": (
        "POINTS = {'t-broken.mine': Point(type=str, help='x', example=3)}",
        "xk8s_overlay",
        "the example of the point 't-broken.mine': it is 3, not str",
    ),
    # --- what a value says of itself, beyond its types ---
    "no summary": (about(summary=" "), "xk8s_overlay", "its summary is empty"),
    "a default of what it does not need": (
        about(defaults={"cri": ("crio",)}), "xk8s_overlay",
        "defaults name 'cri', which it neither requires nor is completed by",
    ),
    "a conflict with what it needs": (
        about(conflicts=("base",)), "xk8s_overlay", "conflicts name 'base', which it needs as well"
    ),
    "a layer's name that the kernel takes for two": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]: return [Layer(name='a,b')]",
        "xk8s_layers", "name 'a,b' cannot be a layer's",
    ),
    "a layer's name for QEMU": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]: return [Layer(name='a:b')]",
        "xk8s_layers", "name 'a:b' cannot be a layer's",
    ),
    "a layer's name that is a path": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]: return [Layer(name='../x')]",
        "xk8s_layers", "name '../x' cannot be a layer's",
    ),
    "a layer's name that is taken": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]: return [Layer(name='node')]",
        "xk8s_layers", "name 'node' cannot be a layer's",
    ),
    "two layers of one name": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]:\n"
        "    return [Layer(name='t'), Layer(name='t')]",
        "xk8s_layers", "two Layer values named 't'",
    ),
    "a mode": (
        layers('File(path="/etc/t", data=b"", mode=-1)'), "xk8s_layers",
        "entries[0].mode is -1, not permission bits",
    ),
    "a mode in decimal": (
        layers('Directory(path="/etc/t", mode=40755)'), "xk8s_layers",
        "entries[0].mode is 40755, not permission bits",
    ),
    "a mode of a node's file": (
        "@hookimpl\ndef xk8s_node_files(ctx: Context, node: Node) -> list[File]:\n"
        "    return [File(path='/etc/n', data=b'', mode=-1)]",
        "xk8s_node_files", "File of vm-001: File.mode is -1",
    ),
    "a file that is the root": (layers('File(path="/", data=b"")'), "xk8s_layers",
                                "'/' is a directory"),
    "a node's file that is the root": (
        "@hookimpl\ndef xk8s_node_files(ctx: Context, node: Node) -> list[File]:\n"
        "    return [File(path='/', data=b'')]",
        "xk8s_node_files", "'/' is a directory",
    ),
    "a link to nothing": (
        layers('Symlink(path="/etc/t", target="")'), "xk8s_layers", "entries[0].target is ''"
    ),
    "a unit without its type": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]:\n"
        "    return [Layer(name='t', units=('kubelet',))]",
        "xk8s_layers", "units has 'kubelet', which is not the name of a systemd unit",
    ),
    "a relative prefix to replace": (
        "@hookimpl\ndef xk8s_layers(ctx: Context) -> list[Layer]:\n"
        "    return [Layer(name='t', replaces=('etc/t',))]",
        "xk8s_layers", "replaces: 'etc/t' is not an absolute path",
    ),
    "a member that the artifact has not": (
        layers("Take(artifact=a, member='kubelt', path='/usr/bin/kubelet')",
               "a = Artifact(name='k', version='1', members=('kubelet',), sources=())"),
        "xk8s_layers", "member is 'kubelt', which artifact k does not have; it has kubelet",
    ),
    "a member outside of the artifact": (
        layers("Take(artifact=a, member='../x', path='/usr/bin/x')",
               "a = Artifact(name='k', version='1', members=('kubelet',), sources=())"),
        "xk8s_layers", "member is '../x', not a path in the artifact's tree",
    ),
    "a symbol with CONFIG_": (
        "@hookimpl\ndef xk8s_kernel(ctx: Context) -> KernelNeeds:\n"
        "    return KernelNeeds(config=('CONFIG_BRIDGE',))",
        "xk8s_kernel", "config has 'CONFIG_BRIDGE': write a symbol, without CONFIG_",
    ),
    "a module to load that is not needed": (
        "@hookimpl\ndef xk8s_kernel(ctx: Context) -> KernelNeeds:\n"
        "    return KernelNeeds(load=('bridge',))",
        "xk8s_kernel", "load has 'bridge', which is not among modules",
    ),
    "NUL in kernel arguments": (
        "@hookimpl\ndef xk8s_boot(ctx: Context, node: Node) -> BootOptions:\n"
        "    return BootOptions(kernel_args=('a\\0b',))",
        "xk8s_boot", "kernel_args has 'a\\x00b'",
    ),
    "port 0": (
        "@hookimpl\ndef xk8s_boot(ctx: Context, node: Node) -> BootOptions:\n"
        "    return BootOptions(forwards=(Forward(name='a', guest_port=0),))",
        "xk8s_boot", "forward 'a': guest_port is 0, not 1 to 65535",
    ),
    "a port of the host that none is": (
        "@hookimpl\ndef xk8s_boot(ctx: Context, node: Node) -> BootOptions:\n"
        "    return BootOptions(forwards=(Forward(name='a', guest_port=1, preferred=99999),))",
        "xk8s_boot", "forward 'a': preferred is 99999, not 0 to 65535",
    ),
    "a check that never ends": (
        "@hookimpl\ndef xk8s_checks(ctx: Context) -> list[Check]:\n"
        "    return [Check(name='t', run=lambda context: 'ok', timeout=float('nan'))]",
        "xk8s_checks", "timeout is nan, not a number of seconds",
    ),
    "a check without a name": (
        "@hookimpl\ndef xk8s_checks(ctx: Context) -> list[Check]:\n"
        "    return [Check(name='', run=lambda context: 'ok')]",
        "xk8s_checks", "name is ''",
    ),
    "two checks of one name": (
        "@hookimpl\ndef xk8s_checks(ctx: Context) -> list[Check]:\n"
        "    return [Check(name='t', run=lambda context: 'ok') for _ in range(2)]",
        "xk8s_checks", "two Check values named 't'",
    ),
    "a fault's expression": (fault(pattern="("), "xk8s_faults", "'(' is not a regular expression"),
    "a fault's placeholder": (
        fault(cause="{what} is gone"), "xk8s_faults",
        "its texts name 'what', which is not a group of its pattern",
    ),
    "a fault's remedy": (
        fault(remedy="mend {what"), "xk8s_faults", "its texts are malformed"
    ),
    "a fault's example": (
        fault(examples=("all is well",)), "xk8s_faults",
        "its pattern does not match its example 'all is well'",
    ),
    "a fault without an example": (fault(examples=()), "xk8s_faults", "it has no example"),
    "two faults of one name": (
        fault(times=2), "xk8s_faults", "two Fault values named 't'",
    ),
    "an observation of nothing": (
        "@hookimpl\ndef xk8s_observe(ctx: Context) -> list[Observation]:\n"
        "    return [Observation(name='t', argv=())]",
        "xk8s_observe", "argv names no program",
    ),
    "an observation outside of its node": (
        "@hookimpl\ndef xk8s_observe(ctx: Context) -> list[Observation]:\n"
        "    return [Observation(name='../t', argv=('true',))]",
        "xk8s_observe", "name is '../t', not a path below the node's directory",
    ),
    "logs in a relative directory": (
        "@hookimpl\ndef xk8s_log_files(ctx: Context) -> list[LogFiles]:\n"
        "    return [LogFiles(kind='t', directory='var/log', paths=('*',))]",
        "xk8s_log_files", "directory: 'var/log' is not an absolute path",
    ),
    "logs by another placeholder": (
        "@hookimpl\ndef xk8s_log_files(ctx: Context) -> list[LogFiles]:\n"
        "    return [LogFiles(kind='t', directory='/var/log', paths=('{pod}.log',))]",
        "xk8s_log_files", "paths has {pod}, not one of {name}, {scope}, {part}",
    ),
    "a file of the guest that is relative": (
        "@hookimpl\ndef xk8s_guest(ctx: Context) -> GuestNeeds:\n"
        "    return GuestNeeds(files=('etc/t',))",
        "xk8s_guest", "files: 'etc/t' is not an absolute path",
    ),
    "a program by its path": (
        "@hookimpl\ndef xk8s_guest(ctx: Context) -> GuestNeeds:\n"
        "    return GuestNeeds(programs=('/usr/bin/t',))",
        "xk8s_guest", "programs has '/usr/bin/t'",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_finds_who_breaks_it(rule: str, install: Install) -> None:
    source, hook, what = BROKEN[rule]
    found = violations(install(source))
    said = "\n".join(map(str, found))
    assert any(violation.hook == hook and what in violation.what for violation in found), (
        said or "nothing was found"
    )
    assert all(violation.overlay == NAME and violation.todo for violation in found)
    assert {violation.hook for violation in found} == {hook}, f"the rest is noise: {said}"
    assert not Path("/tmp/xk8s-kit-must-not-be").exists(), "what it wanted to do was done"


def test_the_failure_names_overlay_hook_and_what_to_do(install: Install) -> None:
    name = install(BROKEN["no description"][0])
    with pytest.raises(AssertionError) as caught:
        assert_conforms(name)
    assert str(caught.value) == (
        "overlay 't-broken', xk8s_overlay: the setting t-broken.size has no description\n"
        '  do: size: … = setting(default, "what it means")'
    )


def test_all_that_is_wrong_is_said_at_once(install: Install) -> None:
    both = textwrap.dedent(BROKEN["no description"][0]) + "\n" + BROKEN["no types"][0]
    assert len(violations(install(both))) == 2


def test_an_overlay_that_is_not_there_is_an_error_with_the_nearest_name() -> None:
    (finding,) = violations("t-nobody")
    assert "there is no overlay 't-nobody'" in finding.what


def test_two_overlays_that_write_one_path_are_both_named(install: Install) -> None:
    install(layers(FILE.format("b''")), name="t-other")
    (found,) = violations(install(layers(FILE.format("b''")).replace('"t"', '"u"')), "t-other")
    assert found.hook == "xk8s_layers"
    assert "'t-broken'" in found.what
    assert "'t-other'" in found.what


def test_reading_package_data_and_late_imports_are_allowed(install: Install) -> None:
    assert_conforms(
        install("""
            import importlib.resources
            import pathlib

            @hookimpl
            def xk8s_layers(ctx: Context) -> list[Layer]:
                import this
                data = pathlib.Path(__file__).read_bytes()
                return [Layer(name="t", entries=(File(path="/etc/t", data=data),))]
        """)
    )


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"a": [1, 2]}, {"a": [1, 2]}, ""),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1] is 2 and 3"),
        ({"a": 1}, {"b": 1}, "it is {'a': 1} and {'b': 1}"),
        ([1], [1, 2], "it is [1] and [1, 2]"),
        ([1], None, "it is [1] and None"),
    ],
)
def test_a_difference_is_said_by_its_place(one: object, other: object, said: str) -> None:
    assert difference(one, other, "") == said
