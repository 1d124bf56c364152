"""Which versions work together, and what `kubernetes.version` may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xk8s.errors import UsageError
from xk8s_kubernetes.artifacts import MEMBERS
from xk8s_kubernetes.settings import DEFAULT_VERSION
from xk8s_kubernetes.versions import MAY_BE_OLDER, OLDEST, Version, parse, release, skew


def found(**minors: int) -> dict[str, Version]:
    return {
        name.replace("_", "-"): Version(text=f"v1.{minor}.0", major=1, minor=minor)
        for name, minor in minors.items()
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("v1.36.3", (1, 36)),
        ("v1.36.3-mine", (1, 36)),
        ("v1.37.0-alpha.0.123+abcdef0123456", (1, 37)),
        ("v1.37.0-alpha.1.45+abcdef-dirty", (1, 37)),
        ("v1.37.0-alpha.0.0.20261101120000-0123456789ab+dirty", (1, 37)),
        ("v1.35.2+k3s1", (1, 35)),
        ("v1.36.3-eks-0123abc", (1, 36)),
    ],
)
def test_versions_as_programs_carry_them(text: str, line: tuple[int, int]) -> None:
    version = parse(text)
    assert version is not None
    assert version.line == line
    assert version.text == text


@pytest.mark.parametrize(
    "text", ["v0.0.0-master+$Format:%H$", "(devel)", "", "1.36", "v1.36", "v0.0.0", "version 1.2.3"]
)
def test_no_version_is_not_guessed(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("v1.36.3", "v1.36.3"),
        ("1.35.4", "v1.35.4"),
        (" v1.37.0-rc.1 ", "v1.37.0-rc.1"),
        ("v1.40.0", "v1.40.0"),
    ],
)
def test_releases_are_called_by_their_tag(text: str, name: str) -> None:
    assert release(text) == name


@pytest.mark.parametrize(
    "text", ["1.36", "latest", "", "v1.36.3-mine", "v1.36.3 -X main.evil=1", "v1.x.3", "../v1.36.3"]
)
def test_what_is_no_release_says_how_one_is_written(text: str) -> None:
    with pytest.raises(UsageError, match="is not a release") as caught:
        release(text)
    assert "v1.36.3" in caught.value.hint


@pytest.mark.parametrize("text", ["v1.32.13", "1.20.0", "v0.99.1"])
def test_what_is_too_old_to_be_configured_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"too old: xk8s can configure 1\.33"):
        release(text)


def test_the_default_can_be_had() -> None:
    assert release(DEFAULT_VERSION) == DEFAULT_VERSION


@pytest.mark.parametrize(
    ("minors", "problem"),
    [
        ({"kube_apiserver": 36, "kubelet": 33, "kube_proxy": 33}, None),
        ({"kube_apiserver": 36, "kube_controller_manager": 35, "kube_scheduler": 35}, None),
        ({"kube_apiserver": 36, "kubelet": 37}, "kubelet v1.37.0 is newer than kube-apiserver"),
        ({"kube_apiserver": 37, "kubelet": 33}, "kubelet v1.33.0 is more than 3 minor versions"),
        ({"kube_apiserver": 36, "kube_proxy": 37}, "kube-proxy v1.37.0 is newer"),
        (
            {"kube_apiserver": 36, "kube_scheduler": 34},
            "kube-scheduler v1.34.0 is more than one minor version older",
        ),
        ({"kube_apiserver": 36, "kube_controller_manager": 37}, "kube-controller-manager v1.37.0"),
        ({"kube_apiserver": 34, "kubelet": 32}, "kubelet v1.32.0 is older than 1.33"),
        ({"kubelet": 40}, None),
    ],
)
def test_the_policy(minors: dict[str, int], problem: str | None) -> None:
    problems, advice = skew(found(**minors))
    assert advice == []
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problem in problems[0]


def test_kubectl_is_only_advised_against() -> None:
    for minor in (35, 36, 37):
        assert skew(found(kube_apiserver=36, kubectl=minor)) == ([], [])
    problems, advice = skew(found(kube_apiserver=36, kubectl=38))
    assert problems == []
    assert "kubectl v1.38.0" in advice[0]


def test_another_major_version_is_older_or_newer() -> None:
    versions = found(kube_apiserver=36)
    versions["kubelet"] = Version(text="v2.0.0", major=2, minor=0)
    assert "newer" in skew(versions)[0][0]


minors = st.integers(OLDEST[1], OLDEST[1] + 8)


@given(st.dictionaries(st.sampled_from(MEMBERS), minors))
def test_supported_is_what_the_rules_say_and_no_order_of_programs_counts(
    chosen: dict[str, int],
) -> None:
    versions = {name: Version(text=f"v1.{m}.0", major=1, minor=m) for name, m in chosen.items()}
    problems, _ = skew(versions)
    server = chosen.get("kube-apiserver")
    fits = server is None or all(
        name not in chosen or 0 <= server - chosen[name] <= older
        for name, older in MAY_BE_OLDER.items()
    )
    assert fits is (problems == [])
    again, _ = skew(dict(reversed(versions.items())))
    assert sorted(again) == sorted(problems)
