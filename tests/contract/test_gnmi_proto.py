"""Our gNMI messages are those that others send: held against the generated classes of a client that is not ours."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

#: Prints every field and enumeration value of a gNMI module. It runs alone: two modules that declare the same message
#: cannot live in one process.
DESCRIBE = """
import json, sys
def described(file):
    found = {}
    def message(of):
        for field in of.fields:
            kind = field.message_type or field.enum_type
            found[field.full_name] = [field.number, field.type, kind.full_name if kind else None]
        for inner in of.nested_types:
            message(inner)
        for inner in of.enum_types:
            enumeration(inner)
    def enumeration(of):
        for value in of.values:
            found[of.full_name + "." + value.name] = value.number
    for of in file.message_types_by_name.values():
        message(of)
    for of in file.enum_types_by_name.values():
        enumeration(of)
    for service in file.services_by_name.values():
        for method in service.methods:
            found[method.full_name] = [method.input_type.full_name, method.output_type.full_name]
    return found
"""


def theirs(module: str) -> dict[str, Any]:
    code = f"{DESCRIBE}\nfrom pygnmi.spec.v080 import {module}\njson.dump(described({module}.DESCRIPTOR), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ours(module: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(DESCRIBE, names)
    found: dict[str, Any] = json.loads(json.dumps(names["described"](module.DESCRIPTOR)))
    return found


@pytest.mark.parametrize("module", [gnmi_pb2, gnmi_ext_pb2], ids=["gnmi", "gnmi_ext"])
def test_fields_are_those_of_the_specification(module: Any) -> None:
    """Whatever another implementation knows, ours has by the same name, number and type; aliases are no more."""
    found = theirs(module.__name__.rsplit(".", 1)[-1])
    assert len(found) > 10
    own = ours(module)
    different = {
        name: (value, own.get(name))
        for name, value in found.items()
        if own.get(name) != value and "alias" not in name.lower()
    }
    assert not different
