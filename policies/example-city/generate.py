#!/usr/bin/env python3
"""Write the example city: its registry and its traffic, from the tables in data/.

The same tables give the same files, byte for byte. ``--scale N`` multiplies districts, servers and
applications for load tests; ``--check`` writes nothing and fails when the committed files are stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generator import flow_yaml, plan, services, topology, traffic

HERE = Path(__file__).resolve().parent
COMMENT = "Made by generate.py from data/: change those and run it again."


def files(scale: int) -> dict[str, str]:
    """Return relative path -> content of every file of the city."""
    city = plan.load(scale)
    hosting = services.host(city)
    network = topology.Topology(city)
    cameras = {a.owner.name for a in hosting.applications if a.zone == "dc-video"}
    parts: dict[str, dict[str, object]] = {
        "city": plan.structure(city),
        "networks": {
            "instances": plan.instances(city, network.bindings),
            "networks": plan.networks(city, hosting.segments, hosting.provincial, cameras),
            "nat_pools": network.nat_pools(),
            "public_addresses": hosting.published,
        },
        "servers": {"servers": hosting.servers},
        "applications": {
            "applications": services.application_entities(hosting),
            "shared_services": services.shared_services(hosting),
            "protected_classes": services.protected_classes(hosting),
        },
        "devices": network.sections(),
        "links": {
            "links": network.links,
            "link_groups": network.link_groups(),
            "metering_points": network.metering_points,
            "blind_ports": network.blind_ports,
            "paths": network.paths,
        },
    }
    long = {"devices": ("interfaces", "source_map")}
    found = {f"registry/{name}.yaml": flow_yaml.document(COMMENT, part, long) for name, part in parts.items()}
    found["traffic/traffic.yaml"] = flow_yaml.document(COMMENT, traffic.sections(city, hosting))
    return found


def stale(directory: Path, wanted: dict[str, str]) -> list[str]:
    """Return what differs from ``wanted``, is missing, or should not be there."""
    present = {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for part in ("registry", "traffic")
        for path in (directory / part).glob("*.yaml")
    }
    return sorted(name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name))


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="write DIR/registry and DIR/traffic")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help=f"1 to {plan.MAX_SCALE} (default 1)")
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 when they differ")
    options = parser.parse_args()
    if not 1 <= options.scale <= plan.MAX_SCALE:
        parser.error(f"--scale must be 1 to {plan.MAX_SCALE}: the address plan ends there")
    wanted = files(options.scale)
    if options.check:
        names = stale(options.out, wanted)
        for name in names:
            sys.stderr.write(f"{options.out / name}: differs from what generate.py writes - run generate.py\n")
        return 1 if names else 0
    for name, content in wanted.items():
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
