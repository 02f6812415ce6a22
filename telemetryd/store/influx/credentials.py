"""The token of an output: read from a file, and shown nowhere.

A token is a file's content: one that the settings name, or a credential of the service manager
(``LoadCredential=``, systemd.exec(5)), which is a file in ``$CREDENTIALS_DIRECTORY``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryd.errors import InputError

LONGEST_TOKEN: Final = 4096
DIRECTORY_VARIABLE: Final = "CREDENTIALS_DIRECTORY"


class Token:
    """A secret text that no log, message or representation shows; :meth:`reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Token(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the text, for the request's header."""
        return self._text

    def hide(self, text: str) -> str:
        """Return a text in which neither the token nor the password of ``user:password`` can be read."""
        for secret in (self._text, self._text.partition(":")[2]):
            text = text.replace(secret, "...") if secret else text
        return text


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the token of an output is: at most one of both; None twice for a server that asks for none.

    Attributes
    ----------
    file:
        Path of a file.
    credential:
        Name of a credential of the service manager.
    """

    file: Path | None = None
    credential: str | None = None

    def read(self, environment: Mapping[str, str] = os.environ) -> Token | None:
        """Read the token anew, without the white space around it; blocks for a small file.

        Raises
        ------
        InputError
            If the file cannot be read, or does not hold one line of printable ASCII.
        """
        path = self._path(environment)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                octets = file.read(LONGEST_TOKEN + 1)
        except OSError as error:
            raise InputError(f"the token cannot be read: {path}: {error.strerror}") from None
        octets = octets.strip()
        if not octets or len(octets) > LONGEST_TOKEN or not all(0x21 <= octet < 0x7F for octet in octets):
            raise InputError(f"{path} does not hold a token: one line of at most {LONGEST_TOKEN} ASCII characters")
        return Token(octets.decode("ascii"))

    def _path(self, environment: Mapping[str, str]) -> Path | None:
        if self.credential is None:
            return self.file
        directory = environment.get(DIRECTORY_VARIABLE)
        if not directory:
            raise InputError(
                f'the token is the credential "{self.credential}", and there is no ${DIRECTORY_VARIABLE}: '
                f"run by systemd with LoadCredential={self.credential}:PATH, or name a token_file"
            )
        return Path(directory, self.credential)
