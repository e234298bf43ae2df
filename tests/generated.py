"""Compare generated files with what they are made from; with --write, make them anew.

Each entry of GENERATORS gives the whole content that a committed file should have. `make check` compares, `make proto`
writes.
"""

import argparse
import difflib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def grpc_stubs() -> Mapping[Path, bytes]:
    """gateway/v1 from proto/."""
    from grpc_tools import protoc  # noqa: PLC0415 - only where stubs are made

    sources = sorted((ROOT / "proto").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'proto'}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                f"--grpc_python_out={folder}",
                *map(str, sources),
            ]
        )
        if status:
            raise SystemExit(f"protoc ended with status {status}")
        made = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {
            ROOT / path.relative_to(Path(folder) / "fedfabric"): path.read_bytes()
            for path in made
            # A file without services gets an empty module of stubs.
            if not (path.name.endswith("_pb2_grpc.py") and b"class " not in path.read_bytes())
        }


def ledger_reference() -> Mapping[Path, bytes]:
    """The pages about the ledger, from the contracts' tables and declarations."""
    from fedfabric.chaincode import reference  # noqa: PLC0415

    folder = ROOT / "docs" / "reference"
    return {
        folder / "state-machines.md": reference.state_machines().encode(),
        folder / "transactions.md": reference.transactions().encode(),
    }


def command_reference() -> Mapping[Path, bytes]:
    """The pages about the command, from its own help and its table of exit statuses."""
    from fedfabric.console import reference  # noqa: PLC0415

    return {ROOT / "docs" / name: page.encode() for name, page in reference.pages().items()}


def api_reference() -> Mapping[Path, bytes]:
    """The page about the gateway's API, from the comments in proto/."""
    lines = [
        "# The gateway's API",
        "",
        "Made from `proto/fedfabric/gateway/v1` (`make proto`). Every connection is mutual TLS. Who may call a method",
        "stands beside it, error codes in [errors.md](errors.md). `fedfabric.connect(profile)` is the typed client.",
    ]
    for source in sorted((ROOT / "proto").rglob("*.proto")):
        lines += _described(source)
    return {ROOT / "docs" / "reference" / "api.md": ("\n".join(lines) + "\n").encode()}


def _described(source: Path) -> list[str]:
    """A .proto file's services and messages as Markdown; comments stand above what they speak of."""
    from fedfabric.gateway.authorisation import RULES, Whose  # noqa: PLC0415

    callers = {Whose.OWN: "own organisation", Whose.OWN_OR_GATEWAYS: "own organisation, others' gateways"}
    lines: list[str] = []
    comment: list[str] = []
    service = ""
    for raw in source.read_text().splitlines():
        line = raw.strip()
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        said, comment = " ".join(comment), []
        words = line.replace("(", " ( ").replace(")", " ) ").split()
        if line.startswith("service "):
            service = words[1]
            lines += ["", f"## {service}", "", *([said] if said else []), "", "| method | request | answer | by | |"]
            lines.append("|---|---|---|---|---|")
        elif line.startswith("rpc "):
            inner = [part.strip() for part in line.split("(")]
            request, answer = inner[1].split(")")[0], inner[2].split(")")[0]
            rule = RULES[f"/fedfabric.gateway.v1.{service}/{words[1]}"]
            roles = ", ".join(sorted(role.value for role in rule.roles)) if len(rule.roles) < 5 else "any role"
            lines.append(f"| {words[1]} | {request} | {answer} | {callers[rule.whose]}: {roles} | {said} |")
        elif line.startswith("message "):
            lines += ["", f"### {words[1]}", "", *([said, ""] if said else [])]
            if line.endswith("{}"):
                lines.append("No fields.")
            else:
                lines += ["| field | type | |", "|---|---|---|"]
        elif line.endswith(";") and " = " in line and not line.startswith(("syntax", "import", "option")):
            kind, name = line.split(" = ")[0].rsplit(" ", 1)
            lines.append(f"| {name} | {kind} | {said} |")
    return lines


def configuration_reference() -> Mapping[Path, bytes]:
    """The page about gateway.toml and profiles, from the models that read them."""
    from fedfabric.gateway.configuration import (  # noqa: PLC0415
        GatewayConfiguration,
        PeerSettings,
        Profile,
        TrainerSettings,
    )

    lines = [
        "# gateway.toml and profiles",
        "",
        "Both are TOML; `fedfabric network up` writes them. Paths are relative to the file's own folder. An unknown",
        "key is an error that names it.",
    ]
    for title, model in (
        ("gateway.toml", GatewayConfiguration),
        ("gateway.toml, [peer]", PeerSettings),
        ("gateway.toml, [trainer]", TrainerSettings),
        ("A profile", Profile),
    ):
        lines += ["", f"## {title}", "", "| key | default | |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            if isinstance(field.default, TrainerSettings) or field.annotation is PeerSettings:
                continue
            default = "required" if field.is_required() else f"`{_as_toml(field.default)}`"
            lines.append(f"| {name} | {default} | {' '.join((field.description or '').split())} |")
    return {ROOT / "docs" / "reference" / "configuration.md": ("\n".join(lines) + "\n").encode()}


def _as_toml(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)


GENERATORS: list[Callable[[], Mapping[Path, bytes]]] = [
    grpc_stubs,
    api_reference,
    configuration_reference,
    ledger_reference,
    command_reference,
]
"""Other rooms add theirs: a function that returns the content of each file it makes."""

# What a generator owns completely: a file here that no generator makes is a left-over.
OWNED = [(ROOT / "gateway" / "v1", "*_pb2*")]


def main() -> int:
    """Return 0 when every generated file is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args().write
    stale = []
    made: dict[Path, bytes] = {}
    for generator in GENERATORS:
        made.update(generator())
    for path, content in made.items():
        found = path.read_bytes() if path.exists() else b""
        if found == content:
            continue
        stale.append(path)
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            sys.stdout.writelines(
                list(
                    difflib.unified_diff(
                        found.decode().splitlines(keepends=True),
                        content.decode().splitlines(keepends=True),
                        str(path.relative_to(ROOT)),
                        "generated",
                    )
                )[:20]
            )
    for folder, pattern in OWNED:
        for path in sorted(folder.glob(pattern)):
            if path not in made:
                stale.append(path)
                if write:
                    path.unlink()
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'written' if write else 'not up to date: run `make proto`'}")
    return 0 if write or not stale else 1


if __name__ == "__main__":
    sys.exit(main())
