"""Values that no cluster can have are the user's mistake, and are refused as such."""

from __future__ import annotations

import re

import pytest
from xk8s.errors import UsageError
from xk8s.testing import plan_of


@pytest.mark.parametrize(
    "given",
    [
        "kubernetes.service_cidr_ipv4=x",
        "kubernetes.pod_cidr_ipv4=foo",
        "kubernetes.pod_cidr_ipv4=11.0.0.5/16",
        "kubernetes.pod_cidr_ipv4=1100::/112",
        "kubernetes.service_cidr_ipv6=10.96.0.0/16",
        "mconnect.vip4=foo",
        "mconnect.vip4=1000::2",
        "mconnect.vip6=10.0.0.2",
        "coredns.version=",
    ],
)
def test_a_value_that_no_cluster_can_have_names_its_setting(given: str) -> None:
    key = given.partition("=")[0]
    with pytest.raises(UsageError, match=re.escape(f"{key}=")):
        plan_of(("kubernetes", "coredns", "mconnect"), given)
