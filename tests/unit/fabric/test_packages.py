"""Chaincode packages: equal content gives equal bytes, and the bytes are what a peer reads."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest
from fedfabric.fabric.packages import PackageError, ccaas_package


def files(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def test_equal_content_gives_equal_bytes_and_the_id_is_their_hash():
    once, again = ccaas_package("kv_1.0"), ccaas_package("kv_1.0")
    assert once.data == again.data
    assert once.package_id == "kv_1.0:" + hashlib.sha256(once.data).hexdigest()
    assert ccaas_package("kv_1.1").data != once.data


def test_each_peer_fills_in_its_own_address_and_certificates():
    outer = files(ccaas_package("kv", indexes={"META-INF/statedb/couchdb/indexes/a.json": b"{}"}).data)
    assert json.loads(outer["metadata.json"]) == {"type": "ccaas", "label": "kv"}
    inner = files(outer["code.tar.gz"])
    connection = json.loads(inner["connection.json"])
    assert connection["address"] == "{{.address}}"
    assert connection["client_key"] == "{{.client_key}}"
    assert connection["tls_required"] is True
    assert inner["META-INF/statedb/couchdb/indexes/a.json"] == b"{}"


def test_without_tls_no_certificates_are_named():
    connection = json.loads(files(files(ccaas_package("kv", tls=False).data)["code.tar.gz"])["connection.json"])
    assert connection == {"address": "{{.address}}", "dial_timeout": "10s", "tls_required": False}


@pytest.mark.parametrize("label", ["", "-kv", "k v", "kv/1", "kv\n"])
def test_labels_that_a_peer_refuses_are_refused(label):
    with pytest.raises(PackageError):
        ccaas_package(label)
