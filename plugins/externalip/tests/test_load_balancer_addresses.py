"""Which addresses Services get: the real program decides, for arbitrary Services."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.build.artifacts.store import Store
from xk8s.progress import Silent
from xk8s_externalip.loadbalancer import program

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None, reason="no go in PATH (the wheel is 70 MB: not for unit tests)"
)

POOL = ("--pool=10.0.0.0/29", "--pool=1000::/64")
RESERVED = ("--reserved=1000::1:c0a8:100/120", "--reserved=10.0.0.4/31")
USABLE = {f"10.0.0.{number}" for number in (1, 2, 3, 6)}

Services = list[dict[str, Any]]


class Decider:
    """The program as a process that answers for one list of Services after the other."""

    def __init__(self, path: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [path, "--dry-run", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, services: Services) -> dict[str, dict[str, Any]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"items": services}), file=self.process.stdin, flush=True)
        decided: dict[str, dict[str, Any]] = json.loads(self.process.stdout.readline())
        return {key.partition("/")[2]: value for key, value in decided.items()}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return Store(cache).get(program(), Silent()).path / "kube-loadbalancer"


@pytest.fixture(scope="module")
def decide(path: Path) -> Iterator[Decider]:
    decider = Decider(path, *POOL, *RESERVED, "--on-request=10.0.0.2")
    yield decider
    assert decider.process.stdin is not None
    decider.process.stdin.close()
    assert decider.process.wait(10) == 0


def service(name: str, **more: Any) -> dict[str, Any]:
    """A Service as the API server shows it."""
    spec = {
        "type": more.get("type", "LoadBalancer"),
        "ipFamilies": list(more.get("families", ["IPv4"])),
        "externalIPs": list(more.get("external", ())),
        "loadBalancerClass": more.get("of_class", ""),
    }
    return {
        "metadata": {
            "name": name,
            "namespace": "d",
            "uid": name,
            "creationTimestamp": more.get("created", "2026-01-01T00:00:00Z"),
            "annotations": {"xk8s.local/load-balancer-ips": more.get("asks", "")},
        },
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in more.get("has", ())]}},
    }


def with_status(services: Services, decided: dict[str, dict[str, Any]]) -> Services:
    """The Services after the decisions were carried out."""
    return [
        {
            **manifest,
            "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in found["addresses"]]}},
        }
        if (found := decided.get(manifest["metadata"]["name"])) is not None
        else manifest
        for manifest in services
    ]


ADDRESSES = st.sampled_from(
    [f"10.0.0.{number}" for number in range(9)] + ["1000::1", "1000::2", "1000::1:c0a8:101", "x"]
)
SERVICES = st.lists(
    st.builds(
        service,
        st.sampled_from([f"s{number}" for number in range(12)]),
        type=st.sampled_from(["LoadBalancer"] * 4 + ["ClusterIP"]),
        families=st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]),
        external=st.lists(ADDRESSES, max_size=1),
        of_class=st.sampled_from(["", "", "xk8s.local/externalip", "example.com/other"]),
        asks=st.one_of(st.just(""), st.lists(ADDRESSES, max_size=2).map(",".join)),
        has=st.lists(ADDRESSES.filter(lambda text: text != "x"), max_size=2),
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
    ),
    max_size=10,
    unique_by=lambda manifest: manifest["metadata"]["name"],
)


def others(services: Services, decided: dict[str, dict[str, Any]]) -> Services:
    return [manifest for manifest in services if manifest["metadata"]["name"] not in decided]


@settings(max_examples=400, deadline=None)
@given(SERVICES)
def test_no_address_is_given_twice_or_is_anyone_elses(decide: Decider, services: Services) -> None:
    decided = decide(services)
    given = [address for outcome in decided.values() for address in outcome["addresses"]]
    assert len(given) == len(set(given))
    for manifest in others(services, decided):
        assert not set(given) & {
            entry["ip"] for entry in manifest["status"]["loadBalancer"]["ingress"]
        }
    for manifest in services:
        mine = set(decided.get(manifest["metadata"]["name"], {"addresses": []})["addresses"])
        assert not (set(given) - mine) & set(manifest["spec"]["externalIPs"])


@settings(max_examples=400, deadline=None)
@given(SERVICES)
def test_only_what_the_pool_has_by_family_and_as_asked_for(
    decide: Decider, services: Services
) -> None:
    by_name = {manifest["metadata"]["name"]: manifest for manifest in services}
    for name, outcome in decide(services).items():
        manifest = by_name[name]
        families = [f"IPv{ipaddress.ip_address(text).version}" for text in outcome["addresses"]]
        assert families == [f for f in manifest["spec"]["ipFamilies"] if f in families]
        # Either all of them, or it is said why not.
        assert (families == manifest["spec"]["ipFamilies"]) == (not outcome["problem"])
        for text in outcome["addresses"]:
            assert text in USABLE or text.startswith("1000::")
            assert text not in ("1000::", "1000::1:c0a8:101")
        if not outcome["problem"]:
            asked = manifest["metadata"]["annotations"]["xk8s.local/load-balancer-ips"]
            assert set(filter(None, asked.split(","))) <= set(outcome["addresses"])


@settings(max_examples=400, deadline=None)
@given(SERVICES, st.data())
def test_what_was_decided_stays(decide: Decider, services: Services, data: st.DataObject) -> None:
    once = decide(services)
    settled = with_status(services, once)
    order = data.draw(st.permutations(settled))
    assert decide(order) == once
    if not settled:
        return
    # When a Service goes, no other one's address changes; what it had may go to who lacked one.
    gone = data.draw(st.sampled_from(settled))
    after = decide([manifest for manifest in settled if manifest is not gone])
    for name, outcome in after.items():
        assert set(once[name]["addresses"]) <= set(outcome["addresses"])


def test_an_address_comes_free_with_its_service(decide: Decider) -> None:
    full = [service(f"s{number}", has=[ip]) for number, ip in enumerate(sorted(USABLE))]
    late = service("late")
    assert decide([*full, late])["late"] == {
        "addresses": [],
        "problem": "no address is free in the pool 10.0.0.0/29",
    }
    assert decide([*full[1:], late])["late"] == {"addresses": ["10.0.0.1"], "problem": ""}


def test_own_external_ips_may_be_asked_for(decide: Decider) -> None:
    # The step from the one to the other, without a moment in which neither is there.
    one = service("one", external=["10.0.0.2"], asks="10.0.0.2")
    assert decide([one])["one"] == {"addresses": ["10.0.0.2"], "problem": ""}


def test_why_an_address_is_missing_stays_the_same_when_its_owner_gets_it(decide: Decider) -> None:
    services = [
        service("one", asks="10.0.0.2"),
        service("two", external=["10.0.0.2"], asks="10.0.0.2"),
    ]
    once = decide(services)
    assert once["one"]["problem"] == "10.0.0.2 is an address of d/two (externalIPs)"
    assert decide(with_status(services, once)) == once


def test_addresses_are_compared_not_texts(decide: Decider) -> None:
    one = service("one", external=["010.0.0.01", "1000:0:0::0001"], type="ClusterIP")
    two = service("two", families=["IPv4", "IPv6"])
    assert decide([one, two])["two"]["addresses"] == ["10.0.0.3", "1000::2"]


@pytest.mark.parametrize(
    ("words", "addresses"),
    [
        (("--pool=10.0.0.7/32",), ["10.0.0.7"]),
        (("--pool=1000::/127",), ["1000::"]),
        # A pool that is another one's from its beginning.
        (("--pool=1000::/64", "--reserved=1000::/65"), ["1000:0:0:0:8000::"]),
        (("--pool=10.0.0.0/29", "--reserved=10.0.0.0/8"), []),
        (("--pool=1000::/64", "--reserved=::/0"), []),
    ],
)
def test_unusual_pools(path: Path, words: tuple[str, ...], addresses: list[str]) -> None:
    family = "IPv6" if "::" in words[0] else "IPv4"
    text = json.dumps({"items": [service("one", families=[family])]})
    done = subprocess.run(
        [path, "--dry-run", *words], input=text, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)["d/one"]["addresses"]
    assert [ipaddress.ip_address(text) for text in found] == [
        ipaddress.ip_address(text) for text in addresses
    ]


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ((), "", "Usage of"),
        (("--pool=10.0.0.0/40",), "", "invalid value"),
        (("--pool=10.0.0.0/24", "--pool=10.1.0.0/24"), "", "second pool"),
        (("--pool=10.0.0.0/24", "--reserved=x"), "", "invalid value"),
        (("--pool=10.0.0.0/24", "--on-request=x"), "", "invalid value"),
        (("--pool=10.0.0.0/24", "--dry-run"), "{", "unexpected EOF"),
        (("--pool=10.0.0.0/24", "--ca=/nowhere"), "", "no such file"),
    ],
)
def test_wrong_words_are_said(path: Path, words: tuple[str, ...], text: str, said: str) -> None:
    done = subprocess.run([path, *words], input=text, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert "goroutine" not in done.stderr


@pytest.mark.parametrize("tool", [["gofmt", "-l", "."], ["go", "vet", "./..."]], ids=" ".join)
def test_the_source_is_formatted_and_vetted(tool: list[str]) -> None:
    source = files("xk8s_externalip").joinpath("program")
    done = subprocess.run(tool, cwd=str(source), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_file_of_the_source_is_built() -> None:
    source = files("xk8s_externalip").joinpath("program")
    (module,) = program().sources
    assert {path.name for path in source.iterdir()} == {*module.extra_files, "go.mod"}
