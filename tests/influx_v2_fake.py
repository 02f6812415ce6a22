"""A FAKE of the part of InfluxDB 2's API that sets things up, for want of the real one in CI: it is no database.

It keeps organisations, buckets and tasks as the API's documentation says; it has not been held against a real server.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class FakeInflux2:
    """A running fake; `with FakeInflux2("token") as server`."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.is_set_up = True
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"orgs": {}, "buckets": {}, "tasks": {}}
        #: Every request that changes something: its method and its path.
        self.changes: list[tuple[str, str]] = []
        self._ids = count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, url: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and document of a request."""
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/health":
            return 200, {"name": "influxdb", "status": "pass", "version": "v2.7.12"}
        if parts.path == "/api/v2/setup":
            return 200, {"allowed": not self.is_set_up}
        if token != f"Token {self.token}":
            return 401, {"code": "unauthorized", "message": "unauthorized access"}
        found = re.fullmatch(r"/api/v2/(orgs|buckets|tasks)(?:/(\w+))?", parts.path)
        if found is None:
            return 404, {"code": "not found", "message": "path not found"}
        kind, key = found[1], found[2]
        kept = self.kept[kind]
        if method == "GET":
            return self._list(kind, query)
        self.changes.append((method, parts.path))
        if method == "POST":
            key = f"{next(self._ids):016x}"
            if kind == "tasks":
                body |= {"name": _task_name(body["flux"])}
            kept[key] = {**body, "id": key}
            return 201, kept[key]
        if key not in kept:
            return 404, {"code": "not found", "message": f"{kind} not found"}
        if method == "DELETE":
            del kept[key]
            return 204, None
        kept[key] |= body
        return 200, kept[key]

    def _list(self, kind: str, query: dict[str, str]) -> tuple[int, Any]:
        found = [
            one
            for one in self.kept[kind].values()
            if query.get("orgID") in (None, one.get("orgID"))
            and query.get("name") in (None, one["name"])
            and one["id"] > query.get("after", "")
        ]
        return 200, {kind: found[: int(query.get("limit", "20"))], "links": {"self": f"/api/v2/{kind}"}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                status, document = fake.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                text = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(text)
                self.close_connection = True

            do_GET = do_POST = do_PATCH = do_DELETE = _do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def _task_name(flux: str) -> str:
    (name,) = re.findall(r'option task = \{name: "((?:[^"\\]|\\.)*)"', flux)
    return str(name.replace('\\"', '"').replace("\\\\", "\\"))
