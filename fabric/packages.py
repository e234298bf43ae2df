"""Chaincode packages: what a peer installs. Here the kind that only says where a running chaincode server is (ccaas).

A package is a gzipped tar of `metadata.json` and `code.tar.gz`; its id is its label and the SHA-256 of its bytes, so
equal content must give equal bytes: times, owners and order are fixed.
Source: Fabric's `core/chaincode/persistence/chaincode_package.go`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class PackageError(ValueError):
    """A package that a peer would refuse."""


@dataclass(frozen=True)
class ChaincodePackage:
    """The bytes that a peer installs, and the label that begins its id."""

    label: str
    data: bytes

    @property
    def package_id(self) -> str:
        """`LABEL:SHA-256`, the id that approvals and the chaincode server name."""
        return f"{self.label}:{hashlib.sha256(self.data).hexdigest()}"


def ccaas_package(
    label: str,
    *,
    tls: bool = True,
    indexes: Mapping[str, bytes] | None = None,
) -> ChaincodePackage:
    """Return a package for chaincode as a service whose `connection.json` each peer's builder fills in.

    The address, and with `tls` root certificate, client certificate and key, stay templates (`{{.address}}`), so that
    one package id serves every organisation. `indexes` are further files, such as `META-INF/statedb/couchdb/...`.

    Raises:
        PackageError: the label has characters that Fabric refuses.
    """
    if not _LABEL.fullmatch(label):
        raise PackageError(f"label {label!r}: letters, digits and . + - _ only, and a letter or digit first")
    connection: dict[str, object] = {
        "address": "{{.address}}",
        "dial_timeout": "10s",
        "tls_required": tls,
    }
    if tls:
        connection |= {
            "client_auth_required": True,
            "root_cert": "{{.root_cert}}",
            "client_cert": "{{.client_cert}}",
            "client_key": "{{.client_key}}",
        }
    code = _archive({"connection.json": json.dumps(connection).encode(), **(indexes or {})})
    metadata = json.dumps({"type": "ccaas", "label": label}).encode()
    return ChaincodePackage(label, _archive({"metadata.json": metadata, "code.tar.gz": code}))


def _archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
