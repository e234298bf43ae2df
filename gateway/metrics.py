"""Figures for Prometheus: calls, deeds, blocks; served over HTTP on a loopback address, when asked for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from .configuration import split_address

__all__ = ["Metrics"]


class Metrics:
    """One gateway's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "fedfabric_gateway_calls",
            "Calls served, by method and result.",
            ("method", "result"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "fedfabric_gateway_call_seconds", "Seconds of a call.", ("method",), registry=self.registry
        )
        self.block = Gauge(
            "fedfabric_gateway_block", "Number of the last block in the read model.", registry=self.registry
        )
        self._server: Any = None

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Count and time a call."""
        began = time.monotonic()
        result = "error"
        try:
            yield
            result = "ok"
        finally:
            self._calls.labels(method, result).inc()
            self._seconds.labels(method).observe(time.monotonic() - began)

    def serve(self, address: str) -> int:
        """Serve /metrics at host:port on a loopback address; the port.

        Raises:
            OSError: the port is in use.
        """
        host, port = split_address(address)
        server, thread = start_http_server(port, host.strip("[]"), self.registry)
        self._server = (server, thread)
        return int(server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None
