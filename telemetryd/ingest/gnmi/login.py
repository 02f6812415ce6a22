"""Who we are for a target: secrets in files or in systemd's credentials, read when they are needed, shown nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.transport import Credentials

LONGEST_SECRET: Final = 4096
DIRECTORY_VARIABLE: Final = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: a file, or a credential of systemd (``LoadCredential=``, systemd.exec(5))."""

    file: Path | None = None
    credential: str | None = None

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """Read it, without the end of its line; blocks for a small file.

        Raises
        ------
        InputError
            If it cannot be read, or is nothing that can be sent as metadata. The message does not hold it.
        """
        path = self._path(environment)
        try:
            with path.open("rb") as file:
                octets = file.read(LONGEST_SECRET + 1)
        except OSError as error:
            raise InputError(f"the login cannot be read: {path}: {error.strerror}") from None
        octets = octets.rstrip(b"\r\n")
        # Metadata in gRPC are of printable ASCII (PROTOCOL-HTTP2.md, ASCII-Value).
        if not octets or len(octets) > LONGEST_SECRET or not all(0x20 <= octet < 0x7F for octet in octets):
            raise InputError(f"{path} does not hold a secret: one line of at most {LONGEST_SECRET} ASCII characters")
        return octets.decode("ascii")

    def _path(self, environment: Mapping[str, str]) -> Path:
        if self.file is not None:
            return self.file
        directory = environment.get(DIRECTORY_VARIABLE)
        if not directory:
            raise InputError(
                f'the login is the credential "{self.credential}", and there is no ${DIRECTORY_VARIABLE}: '
                f"run by systemd with LoadCredential={self.credential}:PATH, or name a file"
            )
        return Path(directory, self.credential or "")


@dataclass(frozen=True, slots=True)
class Login:
    """Where the login for a target is: user and password, or a token, or neither.

    Attributes
    ----------
    username:
        The user; without one, the password's secret is ``user:password``.
    """

    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None

    def read(self, environment: Mapping[str, str] = os.environ) -> Credentials:
        """Read the secrets anew; blocks for small files.

        Raises
        ------
        InputError
            If one cannot be read.
        """
        if self.token is not None:
            return Credentials(token=self.token.read(environment))
        if self.password is None:
            return Credentials()
        username, secret = self.username, self.password.read(environment)
        if username is None:
            username, separator, secret = secret.partition(":")
            if not separator:
                raise InputError("the login has no username: give one, or write the secret as user:password")
        return Credentials(username=username, password=secret)
