"""Who may read and who may set, by the client's certificate."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import yaml

from telemetryd.agent.audit import Caller
from telemetryd.agent.refusal import RefusedError
from telemetryd.errors import InputError

#: What a rule may look at: common name, subject alternative names, organizational units.
KINDS: Final = ("cn", "san", "ou")
READ, WRITE = "read", "write"
DENIED: Final = grpc.StatusCode.PERMISSION_DENIED
_PART: Final = re.compile(r"(?:^|[,+])\s*([A-Za-z0-9.]+)=((?:[^\\,+]|\\.)*)")


class Rule(NamedTuple):
    """A certificate has the role if one of its names of a kind matches; ``*`` and ``?`` stand for any."""

    kind: str
    pattern: str

    def matches(self, names: Mapping[str, Sequence[str]]) -> bool:
        """Tell whether any name of its kind does."""
        return any(fnmatch.fnmatchcase(name, self.pattern) for name in names[self.kind])


@dataclass(frozen=True, slots=True)
class Roles:
    """Rules, and what holds where there are none.

    Attributes
    ----------
    write, read:
        Who has a role by them; who may write may read. Without a rule for reading everybody may who is let in.
    asks_clients:
        Clients need certificates; else there are no names, and no rules can hold.
    allows_all:
        Everybody who is let in may write: somebody said so explicitly.
    """

    write: tuple[Rule, ...] = ()
    read: tuple[Rule, ...] = ()
    asks_clients: bool = False
    allows_all: bool = False

    def caller(self, context: Any) -> Caller:
        """Return who calls, with its role: write, read, or none."""
        names = _names(context.auth_context())
        name = next((f"cn={one}" for one in names["cn"]), next((f"san={one}" for one in names["san"]), ""))
        return Caller(name or context.peer(), context.peer(), self.role(names))

    def role(self, names: Mapping[str, Sequence[str]]) -> str:
        """Return the role of the names of a certificate."""
        if self.allows_all or any(rule.matches(names) for rule in self.write):
            return WRITE
        if not self.read or any(rule.matches(names) for rule in self.read):
            return READ
        return ""

    def require(self, caller: Caller, role: str) -> None:
        """Refuse who has not a role.

        Raises
        ------
        RefusedError
            With what would have to be done.
        """
        if caller.role == WRITE or caller.role == role:
            return
        if role == READ:
            raise RefusedError(DENIED, f"{caller.name} may not read here: see --may-read of the agent")
        if not self.asks_clients:
            raise RefusedError(
                DENIED, "nobody may set anything here: the agent asks no certificates of clients (--client-ca)"
            )
        raise RefusedError(DENIED, f"{caller.name} may not set anything here: see --may-set of the agent")


def rule_of(text: str, where: str) -> Rule:
    """Read a rule such as ``cn=controller-*``.

    Raises
    ------
    InputError
        If it is none.
    """
    kind, equals, pattern = text.partition("=")
    if not equals or kind not in KINDS or not pattern:
        raise InputError(f'{where}: "{text}" is no rule such as cn=controller-1, san=*.example or ou=network')
    return Rule(kind, pattern)


def read_roles(file: Path) -> tuple[list[Rule], list[Rule]]:
    """Read rules for writing and for reading from a file.

    Raises
    ------
    InputError
        If it cannot be read, or has something else in it.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is no YAML: {error}") from error
    if not isinstance(document, dict) or document.get("version") != 1 or set(document) - {"version", WRITE, READ}:
        raise InputError(f"{file}: has to hold version: 1, and lists of rules under write and read")
    return tuple(_rules(document.get(role), f"{file}: {role}") for role in (WRITE, READ))  # type: ignore[return-value]


def _rules(given: Any, where: str) -> list[Rule]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InputError(f"{where}: has to be a list of rules such as cn=controller-1")
    return [rule_of(one, where) for one in given]


def _names(context: Mapping[str, Iterable[bytes]]) -> dict[str, list[str]]:
    """Return the names of a client's certificate by their kind; nothing without one."""

    def texts(key: str) -> list[str]:
        return [one.decode(errors="replace") for one in context.get(key, ())]

    subject = next(iter(texts("x509_subject")), "")
    units = [re.sub(r"\\(.)", r"\1", value) for kind, value in _PART.findall(subject) if kind.upper() == "OU"]
    return {"cn": texts("x509_common_name"), "san": texts("x509_subject_alternative_name"), "ou": units}
