"""Why a request is not carried out."""

from __future__ import annotations

import grpc

from telemetryd.errors import TelemetrydError


class RefusedError(TelemetrydError):
    """A request that is answered with a status other than OK.

    Attributes
    ----------
    status:
        The gRPC status; the message goes with it.
    """

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        self.status = status
        super().__init__(message)
