"""nftables in this process by libnftables (libnftables(3)), else by the command nft."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from threading import Lock
from typing import Final

from telemetryd.agent.qos.rules import TABLE, Listed, parse
from telemetryd.errors import TelemetrydError

_NUMERIC: Final = (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10)  # NFT_CTX_OUTPUT_NUMERIC_ALL
_NO_ENTRY: Final = "No such file or directory"
_TIMEOUT_S: Final = 120.0


class NftRefusedError(TelemetrydError):
    """nftables did not take the commands; none of them has an effect."""


class Nft:
    """nftables of the namespace that it is made in.

    Attributes
    ----------
    how:
        "libnftables" or "nft"; "" where there is neither.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._library = _library()
        self.how = "libnftables" if self._library is not None else "nft" if _command() else ""

    def run(self, commands: str) -> str:
        """Carry out commands, all or none; return what they print.

        Raises
        ------
        NftRefusedError
            If they are not taken.
        """
        if self._library is None:
            return self._run_command(commands)
        with self._lock:
            # A context of its own each time: it holds a socket and a cache, which would age and grow.
            context = self._library.nft_ctx_new(0)
            try:
                self._library.nft_ctx_output_set_flags(context, _NUMERIC)
                self._library.nft_ctx_buffer_output(context)
                self._library.nft_ctx_buffer_error(context)
                code = self._library.nft_run_cmd_from_buffer(context, commands.encode())
                if code != 0:
                    raise NftRefusedError(_first(self._library.nft_ctx_get_error_buffer(context).decode()))
                return str(self._library.nft_ctx_get_output_buffer(context).decode())
            finally:
                self._library.nft_ctx_free(context)

    def read(self, family: str) -> Listed | None:
        """Return our table of a family; None where there is none.

        Raises
        ------
        NftRefusedError
            If it cannot be read.
        """
        if not self.how:
            return None
        try:
            return parse(family, self.run(f"list table {family} {TABLE}\n"))
        except NftRefusedError as error:
            if _NO_ENTRY in str(error):
                return None
            raise

    def _run_command(self, commands: str) -> str:
        command = _command()
        if command is None:
            raise NftRefusedError("there is neither libnftables nor nft here: install nftables")
        done = subprocess.run(
            [command, "--numeric", "-f", "-"],
            input=commands,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise NftRefusedError(_first(done.stderr))
        return done.stdout


def _command() -> str | None:
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for own in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, own).argtypes = [ctypes.c_void_p]
    for own in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, own).argtypes = [ctypes.c_void_p]
        getattr(library, own).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int
    return library


def _first(text: str) -> str:
    """Return the line that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return lines[0] if lines else text.strip()[:500]
