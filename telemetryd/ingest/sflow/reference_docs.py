"""Write docs/sflow-structures.md from the table: ``python -m telemetryd.ingest.sflow.reference_docs FILE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from telemetryd.ingest.sflow.enumerations import ENUMERATIONS
from telemetryd.ingest.sflow.layout import Field, Structure
from telemetryd.ingest.sflow.structures import TABLE

_KINDS: Final = {
    "": "unsigned int",
    "int": "int",
    "hyper": "unsigned hyper",
    "float": "float, null where it is no number",
    "ipv4": "IPv4 address",
    "ipv6": "IPv6 address",
    "address": "address, null where it is unknown",
    "address_of_four": "address, null where it is unknown (with four octets, as host-sflow writes it)",
    "mac": "MAC address",
    "octets4": "4 octets in hexadecimal",
    "octets16": "16 octets in hexadecimal",
    "uuid": "UUID",
    "text16": "text of 16 octets at most",
    "string": "text",
    "opaque": "octets in hexadecimal",
    "list": "array of unsigned int",
    "eight": "array of eight unsigned int",
    "labels": "array of {label, exp, bottom, ttl}",
    "tags": "array of {tpid, vid, pcp, dei}",
    "as_path": "array of {type, type_name, as: array of unsigned int}",
    "lanes": "array of {index, tx_bias_current, tx_power, tx_power_min, tx_power_max, tx_wavelength, rx_power, "
    "rx_power_min, rx_power_max, rx_wavelength}",
    "adapters": "array of {if_index, mac_addresses: array of MAC address}",
    "pdus": "array of arrays of flow records",
    "source": "{type, index}",
    "source_expanded": "{type, index}",
    "interface": "{format, value}",
    "interface_expanded": "{format, value}",
    "port": "{format, value}",
    "flow_records": "array of flow records",
    "counter_records": "array of counter records",
    "rtmetrics": "array of {name, type, type_name, value}",
    "rtfields": "array of {name, type, type_name, value}",
}
_TITLES: Final = {"sample": "Samples", "flow": "Flow records", "counter": "Counter records"}


def structures_markdown() -> str:
    """Describe every structure of the table, and the enumerations, in Markdown."""
    lines = [
        "# sFlow structures that `telemetryd decode` knows",
        "",
        "Generated from the table in `telemetryd/ingest/sflow/structures.py` by",
        "`python -m telemetryd.ingest.sflow.reference_docs docs/sflow-structures.md`; do not edit.",
        "",
        "A field is an unsigned int unless another type stands behind it. A field marked `?` is absent from records",
        "of agents that do not know it yet. A field with a list of names comes with a second one, `..._name`, that",
        "holds the name, or null where the number is not in the list. A structure that stands twice has several",
        "layouts in circulation: the one that fits the record's length exactly is taken.",
    ]
    space = ""
    for (name_space, _, _), layouts in TABLE.items():
        if name_space != space:
            space = name_space
            lines += ["", f"## {_TITLES[space]}", "", "| tag | name | fields |", "| --- | --- | --- |"]
        lines += [_row(layout) for layout in layouts if not _is_variant_of_address(layout)]
    lines += ["", "## Names of numbers", ""]
    for kind in sorted(ENUMERATIONS):
        names = ", ".join(f"{number} {name}" for number, name in sorted(ENUMERATIONS[kind].items()))
        lines.append(f"- `{kind}`: {names}")
    return "\n".join(lines) + "\n"


def _is_variant_of_address(layout: Structure) -> bool:
    return any(field.kind == "address_of_four" for field in layout.fields)


def _row(layout: Structure) -> str:
    fields = ", ".join(_describe(field) for field in layout.fields)
    return f"| {layout.enterprise}:{layout.format} | {layout.name} | {fields} |"


def _describe(field: Field) -> str:
    mark = "?" if field.is_optional else ""
    if field.kind in ENUMERATIONS:
        return f"`{field.name}`{mark} (see `{field.kind}`)"
    return f"`{field.name}`{mark} ({_KINDS[field.kind]})" if field.kind else f"`{field.name}`{mark}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(structures_markdown())
