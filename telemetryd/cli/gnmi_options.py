"""The options that all of `telemetryd gnmi` have in common, and the target that they describe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.ingest.gnmi.transport import Endpoint
    from telemetryd.ingest.gnmi.vendors import Profile

USERNAME, PASSWORD, TOKEN = "TELEMETRYD_GNMI_USERNAME", "TELEMETRYD_GNMI_PASSWORD", "TELEMETRYD_GNMI_TOKEN"
ENCODINGS: Final = ("auto", "proto", "json_ietf", "json", "bytes", "ascii")
_DEFAULT_PORT: Final = 9339

Address = Annotated[str, typer.Argument(metavar="TARGET", help="HOST, HOST:PORT or [ADDRESS]:PORT; the port is 9339.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Without TLS: passwords can be read on the way.")]
SkipVerify = Annotated[bool, typer.Option("--skip-verify", help="With TLS, and any certificate is believed.")]
Ca = Annotated[Path | None, typer.Option("--tls-ca", help="Certificates to trust (PEM); else those of the host.")]
Certificate = Annotated[Path | None, typer.Option("--tls-cert", help="Our own certificate (PEM).")]
Key = Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")]
ServerName = Annotated[str | None, typer.Option("--tls-server-name", help="Name in the target's certificate.")]
Username = Annotated[str | None, typer.Option("--username", "-u", help=f"User; else ${USERNAME}.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help=f"File with the password; else ${PASSWORD}.")
]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help=f"File with a token; else ${TOKEN}.")]
Vendor = Annotated[str, typer.Option("--vendor", help="Profile of the target's make (docs/gnmi.md).")]
Encoding = Annotated[str, typer.Option("--encoding", "-e", help=f"One of {', '.join(ENCODINGS)}.")]
PrefixTarget = Annotated[
    str, typer.Option("--target", help="Name for the prefix, where several are behind an address.")
]
Depth = Annotated[int, typer.Option("--depth", min=0, help="Levels below each path (an extension); 0: all.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for the connection, and for an answer.")]
Transport = Annotated[str, typer.Option("--transport", help="fast, or grpc: the reference, for comparison.")]
Paths = Annotated[list[str], typer.Option("--path", "-p", help="Path such as /interfaces/interface[name=*]/state.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Reached:
    """A target that was described by options."""

    name: str
    endpoint: Endpoint
    profile: Profile
    encoding: int | None


def reach(address: str, **options: Any) -> Reached:
    """Return the target that options describe.

    Raises
    ------
    InputError
        If they describe none.
    """
    from telemetryd.ingest.gnmi.transport import Credentials, Endpoint, Tls
    from telemetryd.ingest.gnmi.vendors import PROFILES
    from telemetryd.proto import gnmi_pb2

    host, port = parse_address(address)
    secured = [name for name in ("skip_verify", "ca", "certificate", "key", "server_name") if options[name]]
    if options["insecure"] and secured:
        raise InputError("--insecure means no TLS: leave out the options of TLS, or --insecure")
    if options["vendor"] not in PROFILES:
        raise InputError(f'no vendor "{options["vendor"]}": use one of {", ".join(PROFILES)}')
    if options["encoding"] not in ENCODINGS:
        raise InputError(f'no encoding "{options["encoding"]}": use one of {", ".join(ENCODINGS)}')
    if options["transport"] not in ("fast", "grpc"):
        raise InputError(f'no transport "{options["transport"]}": use fast or grpc')
    tls = Tls(**{name: options[name] for name in ("ca", "certificate", "key", "server_name", "skip_verify")})
    endpoint = Endpoint(
        host,
        port,
        tls=None if options["insecure"] else tls,
        credentials=Credentials(
            options["username"] or os.environ.get(USERNAME),
            secret(options["password_file"], PASSWORD),
            secret(options["token_file"], TOKEN),
        ),
        transport=options["transport"],
        max_message_octets=256 << 20,
        connect_timeout_s=options["timeout"],
    )
    encoding = None if options["encoding"] == "auto" else gnmi_pb2.Encoding.Value(options["encoding"].upper())
    return Reached(address, endpoint, PROFILES[options["vendor"]], encoding)


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port.

    Raises
    ------
    InputError
        If it is no address.
    """
    host, separator, port = address.rpartition(":")
    if not separator or address.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = address, str(_DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f'"{address}" is no address of a target: write HOST, HOST:PORT or [ADDRESS]:PORT')
    return host, int(port)


def secret(file: Path | None, variable: str) -> str | None:
    """Return what a file holds, without the end of its line, or else a variable of the environment.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if file is None:
        return os.environ.get(variable)
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
