"""How comparisons are run: in turn, without holes, in a place of their own; and the verb."""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xk8s.build.layers.erofs_write import make_image
from xk8s.cli.progress import Plain
from xk8s.errors import BuildError, MachineError, StateError, UsageError
from xk8s.names.request import Request
from xk8s.pki import Keys
from xk8s.planning.plan import Plan
from xk8s.progress import Silent
from xk8s.util.processes import CLUSTER_VARIABLE, Process
from xk8s_bench import answer, layers, start, tars
from xk8s_bench.catalog import COMPARISONS, chosen
from xk8s_bench.comparison import Comparison, Prepared, Quantity, Way
from xk8s_bench.lab import Lab, laboratory
from xk8s_bench.result import About, from_json, to_json
from xk8s_bench.run import measure
from xk8s_bench.vm import used

REQUEST = Request(overlays=("debian",), environment={})


@pytest.fixture
def places(own_places: Path) -> Path:
    """State, runtime and cache of a user."""
    (own_places / "runtime").mkdir(mode=0o700)
    return own_places


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.suffix != ".lock"}


def lab(tmp_path: Path) -> Lab:
    return Lab(request=REQUEST, progress=Silent(), counts=(1, 2), scratch=tmp_path,
               held=ExitStack())  # fmt: skip


# --- the runs -----------------------------------------------------------------------------


def comparison(plan: Plan, *runs: Callable[[], Mapping[str, float]]) -> Comparison:
    """Of series s0, s1 … that do not boot anything."""
    abouts = [About(name=f"s{n}", title=f"S {n}", how="It.") for n in range(len(runs))]
    quantity = Quantity(name="time", title="time", unit="s")
    ways = tuple(
        Way(about=about, run=run, goals={"time": 0.5} if about.name == "s1" else {})
        for about, run in zip(abouts, runs, strict=True)
    )
    prepared = Prepared(quantities=(quantity,), ways=ways, plans=(plan,))
    return Comparison(name="c", summary="C", series=tuple(abouts), quantities=(quantity,),
                      prepare=lambda _lab: prepared)  # fmt: skip


def test_series_are_run_in_turn(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    calls: list[str] = []

    def runs(name: str, values: Iterator[float]) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            calls.append(name)
            return {"time": next(values)}

        return run

    a, b = runs("a", iter((4.0, 2.0, 3.0))), runs("b", iter((1.0, 1.5, 9.0)))
    result = measure(comparison(plan_of(), a, b), lab(tmp_path), 3)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert [(run.series, run.number) for run in result.order] == [
        ("s0", 1), ("s1", 1), ("s0", 2), ("s1", 2), ("s0", 3), ("s1", 3),
    ]  # fmt: skip
    (times,) = result.measures
    assert [series.values for series in times.series] == [(4.0, 2.0, 3.0), (1.0, 1.5, 9.0)]
    assert times.ratio(times.series[1]) == 0.5
    assert [series.goal for series in times.series] == [None, 0.5]
    assert result.plans[0].digest == plan_of().digest
    assert {"cpu", "memory", "kernel", "qemu", "accel"} <= result.machine.keys()
    assert from_json(to_json(result), "x").measures == result.measures


def test_a_run_that_fails_is_named(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    values = iter((1.0,))

    def second() -> Mapping[str, float]:
        try:
            return {"time": next(values)}
        except StopIteration:
            raise MachineError("it broke", where="console") from None

    with pytest.raises(MachineError, match="it broke") as at:
        measure(comparison(plan_of(), lambda: {"time": 1.0}, second), lab(tmp_path), 5)
    assert at.value.where == "c, s1, run 2 of 5: console"


# --- the laboratory -----------------------------------------------------------------------


def test_a_laboratory_leaves_the_users_state_as_it_is(places: Path) -> None:
    mine = places / "state" / "clusters" / "bench" / "record.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    saved = places / "state" / "snapshots" / "bench" / "x" / "meta.json"
    saved.parent.mkdir(parents=True)
    saved.write_text("mine")
    before, environment = files(places), dict(os.environ)
    with laboratory(REQUEST, Silent(), counts=(1,)) as found:
        assert os.environ["XK8S_STATE"] == str(places / "state" / ".bench")
        assert os.environ["XK8S_CACHE"] == environment["XK8S_CACHE"]
        (found.scratch / "x").write_text("x")
        found.down()
        assert mine.read_text() == "mine"
    assert (mine.read_text(), saved.read_text()) == ("mine", "mine")
    assert dict(os.environ) == environment
    assert files(places) == before


def marked(runtime: str) -> Process:
    """A process that is the measured cluster's."""
    mark = {CLUSTER_VARIABLE: f"{runtime}/bench"}
    process = subprocess.Popen(["sleep", "600"], env=mark)
    # A moment after its exec the kernel shows no environment of it yet.
    while not Path(f"/proc/{process.pid}/environ").read_bytes():
        pass
    return Process.of(process.pid)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MachineError("x")])
def test_errors_and_ctrl_c_leave_nothing(places: Path, error: BaseException) -> None:
    before, running = files(places), []

    def fail() -> None:
        with laboratory(REQUEST, Silent(), counts=(1,)):
            running.append(marked(os.environ["XK8S_RUNTIME"]))
            raise error

    with pytest.raises(type(error)):
        fail()
    assert not running[0].alive
    assert files(places) - before <= {"state"}


def test_what_a_killed_bench_left_is_swept(places: Path) -> None:
    left = places / "state" / ".bench" / "snapshots" / "bench" / "x"
    left.mkdir(parents=True)
    runtime = places / "runtime" / ".bench"
    runtime.mkdir(mode=0o700)
    running = marked(str(runtime))
    with laboratory(REQUEST, Silent(), counts=(1,)) as found:
        assert not left.exists()
        assert not running.alive
        assert list(found.scratch.iterdir()) == []
    assert not left.parent.exists()


def test_two_at_once_would_measure_each_other(places: Path) -> None:
    with laboratory(REQUEST, Silent(), counts=(1,)) as found:
        kept = found.scratch / "kept"
        kept.write_text("x")
        environment = {
            **os.environ,
            "XK8S_STATE": str(places / "state"),
            "XK8S_RUNTIME": str(places / "runtime"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "xk8s.cli", "bench", "commands", "--overlay", "debian",
             "-o", str(places / "out")],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, kept.read_text()) == (StateError.exit_code, "x"), done.stderr
        assert "another `xk8s bench` is at work" in done.stderr


def test_plans_of_so_many_nodes(tmp_path: Path) -> None:
    def nodes(*sets: str, overlays: tuple[str, ...] | None = None) -> list[str]:
        mine = lab(tmp_path)
        request = Request(overlays=("debian",), sets=sets, environment={})
        object.__setattr__(mine, "request", request)
        return [planned.node.name for planned in mine.plan_of_nodes(2, overlays=overlays).nodes]

    assert nodes() == ["vm-001", "vm-002"]
    assert nodes("cluster.nodes=5", "cluster.testers=1") == ["vm-001", "vm-002"]
    # Overlays may need one.
    assert nodes("cluster.routers=1") == ["vm-001", "vm-002", "vm-201"]
    # Settings of overlays that are left out are no error.
    assert nodes("kubernetes.proxy_mode=ipvs", overlays=("debian",)) == ["vm-001", "vm-002"]


def test_the_request_as_words(tmp_path: Path) -> None:
    mine = lab(tmp_path)
    request = Request(overlays=("debian",), sets=("cluster.nodes=3",), config_file=Path("x.toml"))
    object.__setattr__(mine, "request", request)
    assert mine.words() == ("debian", "-s", "cluster.nodes=3", "--config", "x.toml")


# --- the seed's way -----------------------------------------------------------------------


def image(tmp_path: Path, name: str, **contents: bytes) -> Path:
    tree = tmp_path / f"{name}-tree"
    (tree / "usr" / "bin").mkdir(parents=True)
    for file, content in contents.items():
        (tree / "usr" / "bin" / file).write_bytes(content)
        (tree / "usr" / "bin" / file).chmod(0o755)
    (tree / "usr" / "link").symlink_to("bin/a")
    made = tmp_path / f"{name}.erofs"
    make_image(tree, made)
    return made


def test_a_tar_has_the_images_files(tmp_path: Path) -> None:
    big = bytes(range(256)) * 100
    out = tmp_path / "x.tar"
    assert tars.write_tar(image(tmp_path, "x", a=b"small", b=big), out) == [
        "/usr/bin/a",
        "/usr/bin/b",
    ]
    with tarfile.open(out) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert sorted(members) == ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/link"]
        assert members["usr/bin"].isdir()
        assert members["usr/link"].linkname == "bin/a"
        assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {
            (0, 0, 0)
        }
        assert members["usr/bin/b"].mode == 0o755
        file = tar.extractfile("usr/bin/b")
        assert file is not None
        assert file.read() == big


def test_the_disk_of_tars(tmp_path: Path) -> None:
    from xk8s.build.layers.erofs_read import open_image

    stack = [(f"l/{n}", image(tmp_path, f"l{n}", **{f"f{n}": b"x"})) for n in range(11)]
    out = tmp_path / "disk"
    size, some = tars.tar_disk(stack, "/usr/lib/systemd/systemd", out)
    assert some == [f"/usr/bin/f{n}" for n in range(11)]
    assert out.stat().st_mode & 0o777 == 0o600  # it may hold what a node's own layer holds
    with open_image(out) as disk:
        names = [entry.path for entry in disk.walk() if entry.path.endswith(".tar")]
        # As the guest's shell sorts them: in the order of the layers.
        assert names == [f"/xk8s-bench/{n:02}-l-{n}.tar" for n in range(11)]
        assert sum(len(disk.read(name)) for name in names) == size
        with tarfile.open(fileobj=io.BytesIO(disk.read(names[10]))) as tar:
            assert "usr/bin/f10" in tar.getnames()
        script = disk.read("/usr/sbin/init").decode()
        found = disk.find("/usr/sbin/init")
        assert found is not None
        assert found.mode & 0o777 == 0o755
    assert 'exec /usr/lib/systemd/systemd "$@"' in script
    done = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
    assert done.returncode == 0


def test_where_init_leads_to(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr" / "sbin").mkdir(parents=True)
    (tree / "usr" / "sbin" / "init").symlink_to("../lib/systemd/systemd")
    make_image(tree, tmp_path / "base")
    assert tars.real_init(tmp_path / "base") == "/usr/lib/systemd/systemd"
    with pytest.raises(BuildError, match="is not a link"):
        tars.real_init(image(tmp_path, "other", a=b"x"))


def test_units_that_overlays_want_are_masked(tmp_path: Path) -> None:
    from xk8s.build.layers.erofs_read import open_image

    tree = tmp_path / "tree"
    units = tree / "etc" / "systemd" / "system"
    for name in ("multi-user.target.wants/a.service", "local-fs.target.requires/b.mount"):
        (units / name).parent.mkdir(parents=True)
        (units / name).symlink_to(f"../{name.partition('/')[2]}")
    (units / "c.service").write_text("[Service]\n")
    make_image(tree, tmp_path / "layer")
    out = tmp_path / "out"
    assert layers.make_masks([tmp_path / "layer"], out) == ["a.service", "b.mount"]
    with open_image(out) as masks:
        links = {entry.path: entry.target for entry in masks.walk() if entry.kind == "link"}
    assert links == {
        "/etc/systemd/system/a.service": "/dev/null",
        "/etc/systemd/system/b.mount": "/dev/null",
    }


# --- what is seen of a command --------------------------------------------------------------


def test_a_stage_of_up_is_recognised_in_what_it_prints() -> None:
    stream = io.StringIO()
    plain = Plain(stream)
    with plain.stage("checks"):
        assert f"checks{start._DONE}" not in stream.getvalue()
    assert f"checks{start._DONE}" in stream.getvalue()
    with pytest.raises(ValueError), plain.stage("restore"):
        raise ValueError
    assert f"restore{start._DONE}" not in stream.getvalue()


def test_a_command_that_fails(places: Path) -> None:
    command = start.Command.start(["up", "no-such-overlay"], places / "log")
    with pytest.raises(MachineError, match="failed with exit code 2") as at:
        command.watch(lambda line: None)
    assert "no-such-overlay" in at.value.log


def test_a_command_is_ended_and_cleans_up(places: Path) -> None:
    fifo = places / "fifo.toml"
    os.mkfifo(fifo)  # it reads its settings from here, and waits
    command = start.Command.start(["plan", "debian", "--config", str(fifo)], places / "log")
    with fifo.open("wb"):  # when it has opened the other end
        command.end()
    with pytest.raises(MachineError, match="exit code 130"):
        command.watch(lambda line: None)


def test_cpu_time_of_a_qemu_is_that_of_its_virtual_cpus() -> None:
    assert start.cpu_seconds(os.getpid()) == 0  # no thread of ours is called so
    assert start.cpu_seconds(2**22 + 1) == 0


def test_memory_in_use() -> None:
    text = "MemTotal:        2048000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB\n\n"
    assert used(text) == 1000


@pytest.mark.parametrize("text", ["", "server: https://127.0.0.1:1\n", "x"])
def test_no_kubeconfig(text: str) -> None:
    with pytest.raises(ValueError, match="in it"):
        answer.ask(text)


def test_an_asker_waits_for_the_file_and_stops(tmp_path: Path) -> None:
    asker = answer.Asker(tmp_path / "kubeconfig", frozenset({"vm-001"}))
    asker.start()
    asker.stop()
    assert not asker.is_alive()
    assert asker.at is None
    assert "FileNotFoundError" in asker.last
    with pytest.raises(MachineError, match="did not answer") as at:
        asker.wait(0)
    assert "FileNotFoundError" in at.value.log


@pytest.fixture
def nodes_server(tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A server that knows its clients by certificate, as an API server does: the text of its
    kubeconfig, and what it answers (changed in place).
    """
    said: dict[str, Any] = {"status": 200, "names": ["vm-001"]}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = said["status"] if self.path == "/api/v1/nodes" else 404
            self.send_response(known)
            self.end_headers()
            items = [{"metadata": {"name": name}} for name in said["names"]]
            self.wfile.write(json.dumps({"items": items}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    keys = Keys(tmp_path / "pki")
    pair = keys.cert("ca", "server", common_name="server", sans=["127.0.0.1"], server=True)
    client = keys.cert("ca", "admin", common_name="admin")
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cadata=keys.ca("ca").cert.decode()
    )
    context.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "both").write_bytes(pair.cert + pair.key)
    context.load_cert_chain(tmp_path / "both")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        yield (
            f"""\
clusters:
- cluster:
    certificate-authority-data: {encoded(keys.ca("ca").cert)}
    server: https://127.0.0.1:{port}
  name: c
users:
- name: u
  user:
    client-certificate-data: {encoded(client.cert)}
    client-key-data: {encoded(client.key)}
""",
            said,
        )
        server.shutdown()
        thread.join()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_an_answer_of_a_server(nodes_server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    text, said = nodes_server
    assert answer.ask(text) == {"vm-001"}
    said["status"] = 503
    with pytest.raises(ValueError, match="503"):
        answer.ask(text)
    file = tmp_path / "kubeconfig"
    asker = answer.Asker(file, frozenset({"vm-001", "vm-002"}))
    asker.start()
    file.write_text(text)
    said["status"] = 200
    while "vm-001" not in asker.last:
        asker.join(0.01)
    assert asker.at is None  # a node is missing
    said["names"].append("vm-002")
    asker.join()
    assert asker.at is not None


# --- the verb -----------------------------------------------------------------------------


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "xk8s.cli", "bench", *words],
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_listing() -> None:
    text = cli("--list").stdout
    data = json.loads(cli("--list", "--json").stdout)
    assert [comparison["name"] for comparison in data] == [
        comparison.name for comparison in COMPARISONS
    ]
    for comparison in data:
        assert f"{comparison['name']}: {comparison['summary']}" in text
        assert comparison["quantities"]
        for about in comparison["series"]:
            assert about["how"].endswith("."), about
    assert [
        comparison["name"] for comparison in json.loads(cli("--list", "--json", "floor").stdout)
    ] == ["floor"]


def test_an_unknown_comparison() -> None:
    done = cli("flor")
    assert done.returncode == 2
    assert "did you mean" in done.stderr
    with pytest.raises(UsageError, match="'debian'") as at:
        chosen(("debian",))
    assert "--overlay" in at.value.hint
    assert [comparison.name for comparison in chosen(("floor", "start", "floor"))] == [
        "floor",
        "start",
    ]


@pytest.mark.parametrize("counts", ["", "0", "1,1", "x", "1,,2"])
def test_wrong_numbers_of_nodes(counts: str) -> None:
    done = cli("memory", "--counts", counts)
    assert done.returncode == 2, done.stderr


def test_commands_are_measured_and_drawn_again(places: Path) -> None:
    out = places / "out"
    done = cli("commands", "--overlay", "debian", "--runs", "2", "-o", str(out), "--json")
    assert done.returncode == 0, done.stderr
    (data,) = json.loads(done.stdout)
    assert data == json.loads((out / "commands.json").read_text())
    (times,) = data["measures"]
    assert [series["name"] for series in times["series"]] == ["python", "help", "plan"]
    assert all(len(series["values"]) == 2 for series in times["series"])
    assert times["series"][0]["ratio"] == 1
    picture = (out / "commands.svg").read_text()
    (out / "commands.svg").unlink()
    again = cli("--draw", str(out / "commands.json"))
    assert again.returncode == 0, again.stderr
    assert (out / "commands.svg").read_text() == picture
    assert sorted(path.name for path in out.iterdir()) == ["commands.json", "commands.svg"]
    assert not (places / "state" / ".bench").exists()


def test_drawing_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert "no result" in cli("--draw", str(path)).stderr
    assert cli("--draw", str(path), "floor").returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
