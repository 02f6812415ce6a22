"""Ambiguous applications: the check by sorting finds what a comparison of all with all finds."""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.errors import ProblemsError
from telemetryd.registry.append import write_flow
from telemetryd.registry.load import load_registry

SERVERS = {"S1": ["10.0.0.1"], "S2": ["10.0.0.2", "2001:db8::2"]}
PREFIXES = ["10.0.0.0/24", "10.0.0.1/32"]


@st.composite
def serves(draw: st.DrawFn) -> dict[str, Any]:
    serve: dict[str, Any] = {"protocol": draw(st.sampled_from(["tcp", "udp", "any"]))}
    places = draw(st.sets(st.sampled_from([*SERVERS, *PREFIXES]), min_size=1, max_size=2))
    serve["servers"] = sorted(places & set(SERVERS))
    serve["prefixes"] = sorted(places & set(PREFIXES))
    ports = draw(st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 2, 4])), max_size=2))
    serve["ports"] = [f"{first}-{first + more}" for first, more in ports]
    return serve


APPLICATIONS = st.lists(st.lists(serves(), min_size=1, max_size=2), min_size=1, max_size=5)
SHARED = st.lists(st.tuples(serves(), st.sets(st.integers(0, 4), min_size=2)), max_size=2)


def claims(serve: dict[str, Any]) -> set[tuple[str, str, int, int]]:
    """Return (prefix, protocol, first port, number of ports) of each claim."""
    targets = {f"{address}/{128 if ':' in address else 32}" for s in serve["servers"] for address in SERVERS[s]}
    targets |= set(serve["prefixes"])
    spans = [tuple(map(int, span.split("-"))) for span in serve["ports"]] or [(0, 65535)]
    return {(t, serve["protocol"], first, last - first + 1) for t in targets for first, last in spans}


def is_ambiguous(applications: list[list[dict[str, Any]]], shared: list[tuple[dict[str, Any], set[int]]]) -> bool:
    """Compare all claims with all."""
    held = []
    for number, entries in enumerate(applications):
        for claim in {claim for serve in entries for claim in claims(serve)}:
            services = {
                row for row, (serve, members) in enumerate(shared) if number in members and claim in claims(serve)
            }
            held.append((claim, {f"application {number}"} | {f"shared {row}" for row in services}))
    for row, (serve, _) in enumerate(shared):
        held += [(claim, {f"shared {row}"}) for claim in claims(serve)]
    for (claim, holders), (other, other_holders) in combinations(held, 2):
        is_equal = claim[:2] == other[:2] and claim[3] == other[3]
        if is_equal and abs(claim[2] - other[2]) < claim[3] and not holders & other_holders:
            return True
    return False


@given(APPLICATIONS, SHARED)
def test_ambiguity_by_sorting_is_ambiguity(
    applications: list[list[dict[str, Any]]], shared: list[tuple[dict[str, Any], set[int]]]
) -> None:
    """A registry is refused exactly when two claims of different holders overlap at equal specificity."""
    shared = [(serve, {member % len(applications) for member in members}) for serve, members in shared]
    shared = [(serve, members) for serve, members in shared if len(members) > 1]
    text = write_flow(
        {
            "version": 1,
            "departments": [{"name": "d"}],
            "networks": [{"prefix": "10.0.0.0/8"}, {"prefix": "2001:db8::/32"}],
            "servers": [{"name": name, "addresses": addresses} for name, addresses in SERVERS.items()],
            "applications": [
                {"name": f"app-{number}", "owner": "d", "serves": entries}
                for number, entries in enumerate(applications)
            ],
            "shared_services": [
                {"name": f"shared-{row}", "applications": [f"app-{n}" for n in sorted(members)], **serve}
                for row, (serve, members) in enumerate(shared)
            ],
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "city.yaml").write_text(text)
        try:
            load_registry(Path(directory))
            refused = False
        except ProblemsError as error:
            assert all(" claims " in problem.message for problem in error.problems)
            refused = True
    assert refused == is_ambiguous(applications, shared)
