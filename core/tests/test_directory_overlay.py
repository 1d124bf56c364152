"""A local directory on top of everything else: what gets into the guests, what it replaces, what
it may not do, and that a running cluster does not depend on it any more.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.build.layers.build import BuiltLayer, LayerStore, layers_dir
from xk8s.build.layers.erofs_read import open_image
from xk8s.build.layers.erofs_write import make_image
from xk8s.build.layers.node_layer import make_node_image
from xk8s.cli import app
from xk8s.cluster.change.image_overrides import over_images
from xk8s.cluster.inputs import ClusterInputs
from xk8s.cluster.state.booted import boot_of
from xk8s.cluster.state.node_paths import image_path
from xk8s.cluster.state.request_file import read_request, write_inputs
from xk8s.cluster.vms import launch
from xk8s.errors import PlanError, StateError, UsageError
from xk8s.machine.qemu.accelerator import decide
from xk8s.machine.qemu.command import Memory
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import BootImage, Directory, File, KernelFacts, Layer, Overlay, Symlink, Take
from xk8s.planning import local_directory
from xk8s.planning.local_directory import read_directories
from xk8s.planning.make_plan import make_plan
from xk8s.planning.overrides import Replaced
from xk8s.planning.plan import Plan
from xk8s.sources import Artifact, Release
from xk8s.testing import plugin
from xk8s.util.paths import cache_dir, state_dir

BASE = Artifact(
    name="t-base",
    version="1",
    members=("root.erofs", "vmlinuz", "initrd", "tools"),
    sources=(Release(url="https://example.invalid/base.tar.gz", sha256="0" * 64, members={}),),
)


def take(member: str, path: str = "/") -> Take:
    return Take(artifact=BASE, member=member, path=path)


def base() -> object:
    return plugin(
        overlay=lambda: Overlay(summary="a base", provides=("base",)),
        layers=lambda ctx: [Layer(name="t-base", image=take("root.erofs"))],
        kernel_facts=lambda ctx: KernelFacts(
            release="6.12-test", config={}, modules=frozenset(), builtin=frozenset()
        ),
        boot_image=lambda ctx: BootImage(kernel=take("vmlinuz"), initramfs=take("initrd")),
        node_files=lambda ctx, node: [File(path="/etc/hostname", data=node.name.encode())],
    )


def app_overlay() -> object:
    return plugin(
        overlay=lambda: Overlay(summary="an application", requires=("base",)),
        layers=lambda ctx: [
            Layer(
                name="t-app",
                entries=(
                    File(path="/etc/app/app.conf", data=b"theirs"),
                    File(path="/usr/lib/app/readme", data=b"x"),
                    Symlink(path="/etc/wants/app", target="/etc/app/app.service"),
                    Symlink(path="/etc/data", target="/usr/lib/app"),
                    Directory(path="/var/lib/app"),
                    take("tools", "/opt/tools"),
                ),
            )
        ],
        node_files=lambda ctx, node: (
            [File(path="/etc/app/node.conf", data=node.name.encode())]
            if node.role != "router"
            else []
        ),
    )


def planned(*names: str, **more: object) -> Plan:
    registry = Registry({"t-os": base(), "t-app": app_overlay()})
    request = Request(overlays=("t-app", "t-os", *names), environment={}, stored={}, **more)
    return make_plan(request, registry)


def put(root: Path, *files: str, data: str = "mine") -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)
    return root


@pytest.fixture(autouse=True)
def own_home(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own_places))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return put(tmp_path / "work", "etc/app/app.conf")


# --- how it is named --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./work", "work/", "~/work", "/ROOT/work", "./x/../work"])
def test_a_name_with_a_slash_is_a_directory(name: str, work: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    plan = planned(name.replace("/ROOT", str(tmp_path)))
    assert plan.ctx.overlays == ("t-os", "t-app", str(work))
    assert plan.layers[-1].overlay == str(work)
    assert plan.layers[-1].layer.entries == (File(path="/etc/app/app.conf", data=b"mine"),)


def test_so_is_a_dot(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    assert planned(".").ctx.overlays[-1] == str(work)
    monkeypatch.chdir(work / "etc")
    assert planned("..").ctx.overlays[-1] == str(work)


def test_a_directory_named_twice_is_one(work: Path) -> None:
    assert planned("./work", "~/work").digest == planned("./work").digest


def test_a_plain_name_is_told_how_to_be_a_directory(work: Path) -> None:
    with pytest.raises(UsageError, match="there is no overlay 'work'") as caught:
        planned("work")
    assert "./work" in caught.value.hint


# --- what is in it ----------------------------------------------------------------------


def test_default_is_the_root_where_it_is_there(tmp_path: Path) -> None:
    put(tmp_path / "work", "README", "default/etc/motd")
    (found,) = read_directories(["./work"], None)
    assert [entry.path for entry in found.entries] == ["/etc/motd"]
    assert found.root == tmp_path / "work" / "default"


def test_kinds_and_modes(work: Path) -> None:
    put(work, "usr/bin/tool", "etc/key", ".git/config", "etc/x~", "etc/.x.swp", "etc/.#x")
    (work / "usr/bin/tool").chmod(0o700)
    (work / "etc/key").chmod(0o600)
    (work / "etc/link").symlink_to("../no//such/./file")
    (work / "etc/dirlink").symlink_to(work)
    (work / "mnt/empty").mkdir(parents=True)
    (work / "mnt/empty").chmod(0o700)
    (found,) = read_directories(["./work"], None)
    assert set(found.entries) == {
        File(path="/etc/app/app.conf", data=b"mine"),
        File(path="/etc/key", data=b"mine", mode=0o644),
        File(path="/usr/bin/tool", data=b"mine", mode=0o755),
        Symlink(path="/etc/link", target="../no//such/./file"),
        Symlink(path="/etc/dirlink", target=str(work)),
        Directory(path="/mnt/empty"),
    }


SAFE = st.text("abcxyz-._ é", min_size=1, max_size=6).filter(
    lambda name: name.strip(".") and not name.startswith(".") and name == name.strip()
)


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(st.tuples(SAFE, SAFE), st.tuples(st.binary(max_size=5000), st.integers(0, 2))),
    st.integers(0, 0o77),
)
def test_a_tree_gets_into_the_image_and_into_its_copy(
    files: dict[tuple[str, str], tuple[bytes, int]], mask: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = put(Path(name, "work"), "etc/always")
        for (above, below), (data, kind) in files.items():
            path = root / f"d{above}" / below
            path.parent.mkdir(exist_ok=True)
            if kind == 0:
                path.symlink_to("target")
            else:
                path.write_bytes(data)
                path.chmod(0o644 if kind == 1 else 0o755)
        old = os.umask(mask)
        try:
            (found,) = read_directories([str(root)], None)
            built = LayerStore(Path(name, "cache")).build(found.layer(()), {})
            plan = planned(str(root))
            write_inputs(plan)
        finally:
            os.umask(old)
        with open_image(built.path) as image:
            for entry in found.entries:
                there = image.find(entry.path)
                assert there is not None
                if isinstance(entry, File):
                    assert image.read(entry.path) == entry.data
                    assert there.mode & 0o777 == entry.mode
                elif isinstance(entry, Symlink):
                    assert there.target == entry.target
            assert (
                len([entry for entry in image.walk() if entry.kind != "directory"])
                == len(files) + 1
            )
        (copy,) = read_directories([str(root)], read_request(plan.name).kept)
        assert copy.entries == found.entries
        assert copy.layer(()) == found.layer(())


# --- where it lies ----------------------------------------------------------------------


def test_it_is_the_last_layer_above_the_nodes_own_files(work: Path, tmp_path: Path) -> None:
    put(tmp_path / "again", "etc/app/app.conf")
    for names in (("./work", "./again"), ("./again", "./work")):
        plan = planned(*names)
        layers = [f"local-{name[2:]}" for name in names]
        for node in plan.nodes:
            assert plan.stack(node) == ("t-base", "t-app", "node", *layers)
        assert plan.stack(planned().nodes[0]) == ("t-base", "t-app", "node")
        # The later one wins, visibly.
        first, second = plan.directories
        (mine,) = first.replaced
        assert (mine.overlay, mine.layer) == ("t-app", "t-app")
        (over,) = second.replaced
        assert (over.overlay, over.layer) == (plan.ctx.overlays[2], layers[0])


def test_nothing_but_its_own_layer_is_another_one(work: Path) -> None:
    without, one = planned(), planned("./work")
    assert one.layers[:-1] == without.layers
    assert [node.files for node in one.nodes] == [node.files for node in without.nodes]
    assert one.artifacts == without.artifacts
    assert one.digest != without.digest
    put(work, "etc/app/app.conf", data="changed")
    two = planned("./work")
    assert two.layers[:-1] == one.layers[:-1]
    assert two.layers[-1].digest != one.layers[-1].digest
    assert two.digest != one.digest


def test_times_and_umask_do_not_matter(work: Path, tmp_path: Path) -> None:
    before = planned("./work")
    for path in (work, *work.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (5, 5))
    assert planned("./work").digest == before.digest
    assert planned("./work").to_json() == before.to_json()
    work.rename(tmp_path / "elsewhere")
    work.symlink_to("elsewhere")  # the overlay is where the link leads
    assert planned("./work").ctx.overlays[-1] == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("work", "local-work"),
        ("a b,c:d", "local-a-b-c-d"),
        ("é", "local-directory"),
        ("x" * 60, "local-" + "x" * 32),
        ("...", "local-directory"),
    ],
)
def test_the_layers_name_fits_a_kernel_argument(name: str, layer: str, tmp_path: Path) -> None:
    put(tmp_path / name, "etc/x")
    assert planned(f"./{name}").layers[-1].layer.name == layer


def test_two_directories_of_one_name(tmp_path: Path) -> None:
    put(tmp_path / "a" / "work", "etc/x")
    put(tmp_path / "b" / "work", "etc/y")
    plan = planned("a/work", "b/work")
    assert [planned_layer.layer.name for planned_layer in plan.layers[-2:]] == [
        "local-work",
        "local-work-2",
    ]


# --- what it replaces -------------------------------------------------------------------


def test_the_plan_says_what_is_replaced_and_whose_it_was(work: Path) -> None:
    put(work, "etc/app/node.conf", "etc/hostname", "etc/motd", "opt/tools/mine")
    (work / "etc/wants").mkdir()
    (work / "etc/wants/app").symlink_to("/dev/null")
    (work / "var/lib/app").mkdir(parents=True)
    (work / "var/lib/new").mkdir(parents=True)
    (found,) = planned("./work").directories
    every = ("vm-001", "vm-002", "vm-201")
    assert set(found.replaced) == {
        Replaced(path="/etc/app/app.conf", overlay="t-app", layer="t-app"),
        Replaced(path="/etc/wants/app", overlay="t-app", layer="t-app"),
        Replaced(path="/etc/app/node.conf", overlay="t-app", nodes=every[:2]),
        Replaced(path="/etc/hostname", overlay="t-os", nodes=every),
    }
    # /opt/tools is taken from an artifact: what is in it the plan does not know.
    assert found.added == ("/etc/motd", "/opt/tools/mine", "/var/lib/new/")
    assert "replaces /etc/app/app.conf of t-app (layer t-app)" in list(found.lines())
    assert "replaces /etc/hostname of t-os (own file of vm-001, vm-002, vm-201)" in [*found.lines()]
    data = json.loads(json.dumps(planned("./work").to_json()))
    (entry,) = data["directories"]
    assert entry["directory"] == str(work)
    assert entry["added"] == list(found.added)
    assert {replaced["path"] for replaced in entry["replaced"]} == {
        replaced.path for replaced in found.replaced
    }


def test_many_lines_are_cut(work: Path) -> None:
    put(work, *(f"etc/many/{number}" for number in range(50)))
    (found,) = planned("./work").directories
    lines = list(found.lines())
    assert len(lines) == 21
    assert "and 31 more" in lines[-1]


def made(plan: Plan, tmp_path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images of a plan's layers, with a base of our own, and of its nodes."""
    tree = put(tmp_path / "base", "etc/motd", "etc/ssl/cert", "opt/tools/theirs", data="base")
    (tree / "run").mkdir()
    (tree / "var").mkdir()
    (tree / "var/run").symlink_to("/run")
    make_image(tree, tmp_path / "base.erofs")
    layers = {"t-base": tmp_path / "base.erofs"}
    own = {}
    for planned_layer in plan.layers:
        if planned_layer.layer.image is None:
            entries = tuple(
                entry for entry in planned_layer.layer.entries if not isinstance(entry, Take)
            )
            layer = Layer(name=planned_layer.layer.name, entries=entries)
            layers[planned_layer.layer.name] = LayerStore(tmp_path / "cache").build(layer, {}).path
    for node in plan.nodes:
        own[node.node.name] = tmp_path / f"{node.node.name}.erofs"
        secret = File(path="/etc/app/secret/key", data=b"secret")
        make_node_image((*node.files, secret), own[node.node.name])
    return layers, own


def test_the_images_tell_it_exactly(work: Path, tmp_path: Path) -> None:
    put(
        work, "etc/motd", "etc/app/secret/key", "opt/tools/mine", "opt/tools/theirs", "etc/hostname"
    )
    put(tmp_path / "again", "etc/motd")
    plan = planned("./work", "./again")
    first, second = over_images(plan, *made(plan, tmp_path))
    every = ("vm-001", "vm-002", "vm-201")
    assert set(first.replaced) == {
        Replaced(path="/etc/app/app.conf", overlay="t-app", layer="t-app"),
        Replaced(path="/etc/motd", overlay="t-os", layer="t-base"),
        Replaced(path="/opt/tools/theirs", overlay="t-os", layer="t-base"),
        Replaced(path="/etc/hostname", overlay="t-os", nodes=every),
        # Keys are no part of the plan.
        Replaced(path="/etc/app/secret/key", overlay="xk8s", nodes=every),
    }
    assert first.added == ("/opt/tools/mine",)
    (motd,) = second.replaced
    assert (motd.overlay, motd.layer) == (str(work), "local-work")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("var/run/x", "needs a directory /var/run, which is a link to /run of t-os"),
        ("etc/ssl", "/etc/ssl in .* would hide a directory with files of t-os"),
        ("etc/motd/x", "needs a directory /etc/motd, which is a file of t-os"),
        ("etc/app/secret", "would hide a directory with files of vm-001 itself"),
    ],
)
def test_what_would_hide_too_much_of_the_images(
    path: str, message: str, work: Path, tmp_path: Path
) -> None:
    put(work, path)
    plan = planned("./work")
    with pytest.raises(PlanError, match=message) as caught:
        over_images(plan, *made(plan, tmp_path))
    assert caught.value.hint


def test_what_a_file_between_two_layers_hides_is_not_replaced(work: Path, tmp_path: Path) -> None:
    """As overlayfs: directories are merged down to the first layer that has something else."""
    put(work, "srv/old")
    plan = planned("./work")
    layers, own = made(plan, tmp_path)
    images = {}
    for name, path in (("base", "srv/old"), ("app", "srv"), ("own", "srv/new")):
        images[name] = tmp_path / f"{name}.srv.erofs"
        make_image(put(tmp_path / f"{name}-srv", path), images[name])
    layers = {**layers, "t-base": images["base"], "t-app": images["app"]}
    own = dict.fromkeys(own, images["own"])
    (found,) = over_images(plan, layers, own)
    assert found.replaced == ()
    assert "/srv/old" in found.added


def test_without_directories_no_image_is_opened() -> None:
    assert over_images(planned(), {}, {}) == ()


# --- what cannot be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("lib/systemd/system/x.service", "usr/lib/systemd/system/x.service"),
        ("bin/tool", "usr/bin/tool"),
        ("sbin", "usr/sbin"),
        ("run/x", "tmpfiles.d"),
        ("proc/x", "leave it out"),
        ("etc", "make it a directory"),
        ("usr", "make it a directory"),
    ],
)
def test_places_where_nothing_can_be(path: str, hint: str, tmp_path: Path) -> None:
    put(tmp_path / "other", path)
    with pytest.raises(UsageError) as caught:
        planned("./other")
    assert str(tmp_path / "other" / path) in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("target", ["/etc", "usr/lib64", "."])
def test_a_link_in_place_of_lib(target: str, work: Path) -> None:
    (work / "lib").symlink_to(target)
    with pytest.raises(UsageError, match="/lib is a link to /usr/lib") as caught:
        planned("./work")
    assert "usr/lib" in caught.value.hint


def test_the_links_of_a_merged_usr_may_stay(work: Path) -> None:
    (work / "lib").symlink_to("usr/lib")
    (work / "bin").symlink_to("/usr/bin")
    assert len(planned("./work").layers[-1].layer.entries) == 3


def test_an_empty_lib_would_hide_it_too(work: Path) -> None:
    (work / "lib").mkdir()
    with pytest.raises(UsageError, match="/lib is a link"):
        planned("./work")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("usr/lib/app", "/usr/lib/app in .* would hide a directory with files of t-app"),
        ("var/lib/app", "would hide a directory with files of t-app"),
        ("etc/app/app.conf/x", r"needs a directory /etc/app/app.conf, which is a file of t-app"),
        ("etc/data/readme", r"/etc/data, which is a link to /usr/lib/app of t-app"),
        ("etc/hostname/x", r"/etc/hostname, which is a file of t-os"),
    ],
)
def test_what_would_hide_too_much_of_the_layers(path: str, message: str, tmp_path: Path) -> None:
    put(tmp_path / "other", path)
    with pytest.raises(PlanError, match=message) as caught:
        planned("./other")
    assert caught.value.hint


def test_one_that_is_not_there_names_the_nearest(work: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no directory .*/wrok") as caught:
        planned("./wrok")
    assert "did you mean 'work'" in caught.value.hint
    with pytest.raises(UsageError, match="is not a directory"):
        planned("./work/etc/app/app.conf")
    with pytest.raises(UsageError):
        planned("~nobody-of-that-name/work")
    with pytest.raises(UsageError):
        planned("a\0/b")


@pytest.mark.parametrize("inner", [".", "default"])
def test_an_empty_one_is_an_error(inner: str, tmp_path: Path) -> None:
    (tmp_path / "empty" / inner).mkdir(parents=True)
    with pytest.raises(UsageError, match="is empty") as caught:
        planned("./empty")
    assert "etc/motd" in caught.value.hint


def test_sockets_and_pipes(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(UsageError, match="/work/socket is a socket"):
            planned(".")
    Path("socket").unlink()
    os.mkfifo("pipe")
    with pytest.raises(UsageError, match="/work/pipe is a named pipe"):
        planned(".")


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_devices(work: Path) -> None:
    try:
        os.mknod(work / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    with pytest.raises(UsageError, match="/work/null is a device"):
        planned("./work")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_unreadable_files_and_directories(work: Path) -> None:
    for path in (work / "etc/app/app.conf", work / "etc/app"):
        path.chmod(0)
        with pytest.raises(UsageError, match=f"cannot read {path}"):
            planned("./work")


def test_unreadable_file_injected_at_os_level(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"cannot read .*app.conf: Permission denied") as caught:
        planned("./work")
    assert "leave it out" in caught.value.hint


def test_a_name_that_is_not_utf8(work: Path) -> None:
    Path(os.fsdecode(os.fsencode(work) + b"/\xff")).write_text("")
    with pytest.raises(UsageError, match="not UTF-8"):
        planned("./work")


def test_the_wrong_directory_is_noticed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_directory, "MOST_ENTRIES", 2)
    with pytest.raises(UsageError, match="more than 2 files"):
        planned("./work")
    monkeypatch.setattr(local_directory, "MOST_ENTRIES", 100)
    monkeypatch.setattr(local_directory, "MOST_BYTES", 3)
    with pytest.raises(UsageError, match="more than"):
        planned("./work")


# --- a cluster that was started with one ------------------------------------------------


def installed(*names: str) -> Plan:
    return make_plan(Request(overlays=("debian", *names), environment={}, stored={}))


def test_a_cluster_keeps_what_it_was_started_with(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "etc/link").symlink_to("/nowhere")
    put(tmp_path / "two", "default/default/x")
    plan = installed("./work", "./two")
    write_inputs(plan)
    monkeypatch.chdir("/")
    put(work, "etc/app/app.conf", data="edited")
    for gone in (None, work, tmp_path / "two"):
        if gone is not None:
            shutil.rmtree(gone)
        again = make_plan(read_request(plan.name))
        assert again.digest == plan.digest
        assert again.layers == plan.layers
        assert again.ctx.overlays == plan.ctx.overlays
        assert again.directories == plan.directories
    # Written again without one: nothing of it is left.
    write_inputs(installed())
    assert not (state_dir(plan.name) / "local").exists()
    with pytest.raises(UsageError):
        installed(str(work))


def test_a_lost_copy_is_an_error(work: Path) -> None:
    plan = installed("./work")
    write_inputs(plan)
    shutil.rmtree(state_dir(plan.name) / "local")
    with pytest.raises(StateError, match=r"the kept copy of .*/work is gone"):
        make_plan(read_request(plan.name))


@pytest.mark.parametrize("name", ["kubernetes", "debian"])
def test_the_kept_request_gives_the_plan_again(name: str) -> None:
    sets = ("cluster.nodes=3", "cluster.memory=vm-002=2000", "cluster.ip_family=dual")
    plan = make_plan(Request(overlays=(name, "containerd"), sets=sets, environment={}))
    write_inputs(plan)
    assert make_plan(read_request(plan.name)).digest == plan.digest


def test_machines_have_the_disks_in_that_order(work: Path, tmp_path: Path) -> None:
    plan = planned("./work")

    def image(name: str) -> Path:
        return layers_dir(cache_dir()) / f"k-{name}.erofs"

    resolved = Resolved(
        name="t-base", version="1", key=artifact_key(BASE), path=tmp_path, digest="d",
        provenance=(),
    )  # fmt: skip
    layers = {
        planned_layer.layer.name: BuiltLayer(
            name=planned_layer.layer.name,
            key=f"k-{planned_layer.layer.name}",
            path=image(planned_layer.layer.name),
            size=1,
        )
        for planned_layer in plan.layers
    }
    own = image_path(plan.name, "vm-001")
    for path in (own, *(layer.path for layer in layers.values())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"erofs")
    inputs = ClusterInputs(
        plan=plan, accel=decide("tcg"), resolved={resolved.key: resolved}, layers=layers
    )
    boot = boot_of(inputs)
    spec = launch.spec(boot, boot.nodes[0], memory=Memory(size=256))
    assert [disk.path for disk in spec.images] == [
        image("t-base"),
        image("t-app"),
        own,
        image("local-work"),
    ]
    assert "xk8s.layers=t-base,t-app,node,local-work" in spec.cmdline.split()


# --- on the command line ----------------------------------------------------------------


def test_plan_shows_it(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(work, "etc/hostname")
    assert app.run(["plan", "debian", "./work"]) == 0
    out = capfd.readouterr().out
    assert f"{work}, on top of everything else:" in out
    assert "  replaces /etc/hostname of debian (own file of vm-001, vm-002, vm-201)" in out
    assert "  adds /etc/app/app.conf" in out
    assert "base's image" in out
    assert "local-work" in out


def test_a_directory_alone_needs_a_base(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["plan", "./work"]) == PlanError.exit_code
    assert "debian" in capfd.readouterr().err


def test_directories_are_completed_by_the_shell() -> None:
    from xk8s.cli.session import complete_overlays

    for text in ("./wo", "/tmp/", "~"):
        (item,) = complete_overlays(None, None, text)  # type: ignore[arg-type]
        assert (item.value, item.type) == (text, "dir")
    assert "debian" in [item.value for item in complete_overlays(None, None, "deb")]  # type: ignore[arg-type]
