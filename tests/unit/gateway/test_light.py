"""What the gateway loads: no torch, ever; and its client none of the server."""

import subprocess
import sys

ALL = "import fedfabric.gateway as room; [getattr(room, name) for name in room.__all__]"


def loaded(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sorted(sys.modules), sep='\\n')"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    return set(run.stdout.split())


def test_the_gateway_never_imports_torch() -> None:
    found = loaded(ALL + "\nimport fedfabric.gateway.driver, fedfabric.gateway.services")
    assert "fedfabric.gateway.server" in found
    assert not [name for name in found if name.split(".")[0] == "torch" or name.startswith("fedfabric.trainers")]


def test_the_client_does_not_load_the_server() -> None:
    found = loaded("import fedfabric; fedfabric.connect")
    assert "fedfabric.gateway.client" in found
    assert not {"fedfabric.gateway.server", "fedfabric.gateway.driver", "fsspec", "prometheus_client"} & found


def test_every_exported_name_can_be_had() -> None:
    assert "fedfabric.gateway.server" in loaded(ALL)
