"""The images that the runtime `docker` starts: the official ones, or ours of the same layout.

An engine that already has an image uses it. Otherwise the official `hyperledger/fabric-*` images are pulled where a
registry answers; where none does, images under our own name are built from the programs in the cache, with nothing
else in them. The image of the chaincode servers is always built here: it holds the interpreter that runs this program
and the packages that a contract needs, so that contracts run on the same versions in both runtimes.
"""

import hashlib
import importlib.metadata
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound

from .errors import ProgramsError
from .programs import FABRIC_VERSION, Programs
from .runtime import Progress

OWN = "fedfabric"
CONFIGURATION_FOLDER = "/etc/hyperledger/fabric"
SITE_FOLDER = "/opt/fedfabric/site"
"""Where a chaincode server finds the packages that it imports, this one among them."""
CONTRACT_PACKAGES = ("grpcio", "hpack", "hyperledger-fabric-protos", "pydantic", "rfc8785", "cryptography", "structlog")
_LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "__pycache__"}
_EPOCH = 0


@dataclass(frozen=True)
class Images:
    """A tag for each kind of process."""

    peer: str
    orderer: str
    python: str


def ensure_images(engine: docker.DockerClient, programs: Programs, progress: Progress) -> Images:
    """Find, pull or build the images; the second time there is nothing to do.

    Raises:
        ProgramsError: the engine could not build an image.
    """
    try:
        return Images(
            peer=_fabric(engine, programs, "peer", progress),
            orderer=_fabric(engine, programs, "orderer", progress),
            python=_python(engine, progress),
        )
    except (APIError, BuildError, DockerException) as error:
        raise ProgramsError(f"the Docker engine could not prepare an image: {error}") from error


def _fabric(engine: docker.DockerClient, programs: Programs, name: str, progress: Progress) -> str:
    official = f"hyperledger/fabric-{name}:{FABRIC_VERSION.removeprefix('v')}"
    program = programs.program(name)
    recipe = f"FROM scratch\nCOPY . /\nENV FABRIC_CFG_PATH={CONFIGURATION_FOLDER} PATH=/usr/local/bin\n"
    own = f"{OWN}/fabric-{name}:{FABRIC_VERSION.removeprefix('v')}-{_digest(recipe, program.read_bytes())}"
    for tag in (official, own):
        if _has(engine, tag):
            return tag
    try:
        progress(f"pulling {official}")
        engine.images.pull(official)
    except (APIError, NotFound):
        progress(f"no registry answers with {official}; building {own}")
    else:
        return official
    files = {
        f"usr/local/bin/{name}": program,
        **{f"{CONFIGURATION_FOLDER[1:]}/{path.name}": path for path in programs.config.iterdir()},
    }
    _build(engine, own, recipe, files.items(), folders=("tmp", "var/hyperledger/production"))
    return own


def _python(engine: docker.DockerClient, progress: Progress) -> str:
    distributions = sorted(_closure(CONTRACT_PACKAGES).values(), key=lambda found: found.name)
    executable = Path(sys.executable).resolve()
    recipe = (
        f"FROM scratch\nCOPY . /\nENV PYTHONHOME={sys.base_prefix} PYTHONPATH={SITE_FOLDER} PYTHONDONTWRITEBYTECODE=1 "
        f'LD_LIBRARY_PATH={sysconfig.get_config_var("LIBDIR") or "/usr/lib"}\nENTRYPOINT ["{executable}"]\n'
    )
    versions = " ".join(f"{found.name}={found.version}" for found in distributions)
    tag = f"{OWN}/chaincode-python:{_digest(recipe, sys.version.encode(), versions.encode())}"
    if not _has(engine, tag):
        progress(f"building {tag} from this interpreter")
        _build(engine, tag, recipe, _python_files(executable, distributions), folders=("tmp",))
    return tag


def _closure(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The distributions of these names and all that they need here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on another system or by an extra only
        needed = [requirement for requirement in found[name].requires or () if "extra ==" not in requirement]
        waiting.extend(re.split(r"[\s\[;<>=!~(]", requirement, maxsplit=1)[0] for requirement in needed)
    return found


def _python_files(
    executable: Path, distributions: Iterable[importlib.metadata.Distribution]
) -> Iterator[tuple[str, Path]]:
    files = {str(executable): executable}
    standard = Path(sysconfig.get_paths()["stdlib"])
    for folder, names, leaves in os.walk(standard):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        files.update((str(path), path) for path in map(Path(folder).joinpath, leaves))
    for distribution in distributions:
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                files[f"{SITE_FOLDER}/{file}"] = path
    compiled = [path for name, path in files.items() if re.search(r"\.so(\.|$)", name)]
    for library in _libraries([executable, *compiled]):
        files[str(library)] = library
    for name, path in files.items():
        yield name.lstrip("/"), path


def _libraries(objects: Iterable[Path]) -> set[Path]:
    """The shared libraries that these objects need, as the loader of this machine resolves them."""
    listing = subprocess.run(
        ["ldd", *map(str, objects)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return {Path(name) for name in re.findall(r"(?:=>\s+|^\s+)(/\S+)\s+\(0x", listing.stdout, re.MULTILINE)}


def _digest(recipe: str, *parts: bytes) -> str:
    digest = hashlib.sha256(recipe.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def _has(engine: docker.DockerClient, tag: str) -> bool:
    try:
        engine.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _build(
    engine: docker.DockerClient, tag: str, recipe: str, files: Iterable[tuple[str, Path]], folders: Iterable[str]
) -> None:
    with io.BytesIO() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            _add(archive, "Dockerfile", recipe.encode(), 0o644)
            _add(archive, ".dockerignore", b"Dockerfile\n.dockerignore\n", 0o644)
            for folder in folders:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o1777, _EPOCH
                archive.addfile(entry)
            for name, path in files:
                _add(archive, name, path.read_bytes(), path.stat().st_mode & 0o755)
        context.seek(0)
        engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, _EPOCH
    archive.addfile(entry, io.BytesIO(data))
