"""``fedfabric network``: Hyperledger Fabric networks on this machine, up, observed, changed, down."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure, bad_input
from .output import Format, Output, chosen, note, plain, say, show, show_rows
from .running import run, to_its_end

if TYPE_CHECKING:
    from ..network import Network
    from .handover import Handover

app = typer.Typer(
    no_args_is_help=True,
    help="Hyperledger Fabric networks on this machine: bring one up, change it while it runs, down.",
)


class RuntimeName(StrEnum):
    """Where a network's processes run."""

    NATIVE = "native"
    DOCKER = "docker"


Name = Annotated[
    str,
    typer.Option(
        "--network",
        "-n",
        envvar="FEDFABRIC_NETWORK",
        metavar="NAME",
        help="The network's name in its network.yaml; not needed while there is only one.",
        show_default=False,
    ),
]


def data_folder() -> Path:
    """Where networks live: FEDFABRIC_HOME, else the user's data folder (XDG base directories)."""
    if named := os.environ.get("FEDFABRIC_HOME"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fedfabric"


def find(name: str) -> "Network":
    """The network of that name, or the only one.

    Raises:
        Failure: there is none, or several and no name.
    """
    from ..network import Network

    folder = data_folder()
    known = sorted(path.parent.name for path in folder.glob("*/state.json"))
    if not name and len(known) == 1:
        name = known[0]
    if not name or name not in known:
        what = f"there is no network {name}" if name else ("no network has been founded" if not known else "which one?")
        raise Failure(
            ExitCode.NOT_FOUND,
            "NO_SUCH_NETWORK",
            f"{what}; there are {', '.join(known)}" if known else what,
            where=str(folder),
            remedy="name one with --network" if known else "bring one up: fedfabric network up network.yaml",
        )
    return Network.open(folder / name)


@app.command()
def up(
    description: Annotated[
        Path, typer.Argument(metavar="NETWORK_YAML", help="Description of the network.", dir_okay=False)
    ] = Path("network.yaml"),
    runtime: Annotated[
        RuntimeName, typer.Option("--runtime", help="native: processes of this machine; docker: containers.")
    ] = RuntimeName.NATIVE,
    output: Output = Format.TEXT,
) -> None:
    """Bring a network up, or complete and adopt what runs of it; returns after a committed transaction.

    It outlives this command, under a supervisor that starts crashed processes again. Each organisation gets a
    gateway.toml and each of its users a profile.

    \b
    A whole network.yaml:
      name: heart
      organisations:
        - {name: cleveland, orderers: 1}
        - {name: hungary, orderers: 1}
        - {name: switzerland, orderers: 1}
        - {name: notary, peers: 0, orderers: 1}

    \b
    Examples:
      fedfabric network up
      fedfabric network up network.yaml --runtime docker
    """
    from ..network import Network, NetworkSpec
    from .genesis import genesis_hash
    from .handover import hand_over
    from .membership import found

    spec = NetworkSpec.load(description)

    async def brought_up() -> "tuple[Network, list[Handover]]":
        network = Network(spec, home=data_folder() / spec.name, runtime=runtime)
        await network.up(note, keep=False)
        try:
            note("founding the consortium")
            await found(network)
            members = [await hand_over(network, name) for name, one in network.organisations.items() if one.peers]
            await network.runtime.keep()
        except BaseException:
            await to_its_end(network.runtime.abandon)
            raise
        return network, members

    network, members = run(brought_up())
    genesis = genesis_hash(network.genesis_block_path)
    if chosen.format is Format.JSON:
        facts = {"network": spec.name, "folder": network.home, "channel": spec.channel, "genesis_hash": genesis}
        show({**facts, "organisations": members})
        return
    say(f"{spec.name} is up: channel {spec.channel}, in {network.home}")
    say(f"  genesis block {genesis}")
    for member in members:
        say(f"  {member.organisation} ({member.msp_id})")
        say(f"    gateway  {member.gateway}")
        say(f"    profiles {next(iter(member.profiles.values())).parent}: {', '.join(member.profiles)}")
    say("next: fedfabric gateway start --config GATEWAY_TOML for each organisation, then fedfabric data register ...")


@app.command()
def status(
    name: Name = "",
    output: Output = Format.TEXT,
) -> None:
    """Show a network's processes, ports, block heights and clocks, and warn of what is wrong.

    The exit status is 0 only if every process runs.

    \b
    Examples:
      fedfabric network status
      fedfabric network status --network heart --output json
    """
    found = run(find(name).status())
    if chosen.format is Format.JSON:
        show(found)
    else:
        state = f"up, {found.height} blocks" if found.up else "not wholly up"
        say(f"{found.name}: {state}; channel {found.channel}, runtime {found.runtime}, in {found.folder}")
        columns = ("name", "kind", "running", "pid", "port", "height", "skew_ms", "restarts")
        show_rows(
            found.processes,
            columns,
            empty="no processes",
            row=lambda one: {**plain(one), "port": one.ports.get("listen")},
        )
        for warning in found.warnings:
            say(f"warning: {warning}")
    if not found.up:
        raise typer.Exit(ExitCode.UNAVAILABLE)


@app.command()
def down(
    name: Name = "",
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its folder too: ledgers, keys, everything.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Stop what network up started, and nothing else. The next up goes on where it was, unless wiped.

    \b
    Examples:
      fedfabric network down
      fedfabric network down --network heart --wipe
    """
    network = find(name)
    run(network.down(wipe=wipe))
    show({"network": network.spec.name, "folder": network.home, "wiped": wipe}, title="down")


@app.command("add-org")
def add_org(
    organisation: Annotated[str, typer.Argument(help="Name: lower-case letters, digits, hyphens.")],
    msp_id: Annotated[str, typer.Option("--msp-id", help="MSP id [default: from the name].", show_default=False)] = "",
    peers: Annotated[int, typer.Option("--peers", help="Peers that it runs.", min=1)] = 1,
    name: Name = "",
    output: Output = Format.TEXT,
) -> None:
    """Add an organisation to a running network, without downtime; its peer endorses when this returns.

    The channel's configuration and the consortium's record are changed with signatures of a majority, whose
    administrators' keys lie on this machine.

    \b
    Example:
      fedfabric network add-org va-long-beach
    """
    from ..network import OrganisationSpec
    from .handover import hand_over
    from .membership import admit

    network = find(name)
    spec = OrganisationSpec.model_validate({"name": organisation, "msp_id": msp_id, "peers": peers})

    present = network.organisations.get(organisation)
    if present is not None and (msp_id not in ("", present.msp_id) or peers not in (1, len(present.peers))):
        raise bad_input(
            f"{organisation} is in the network already, as {present.msp_id} with {len(present.peers)} peers",
            field="ORGANISATION",
            remedy="name the newcomer otherwise, or leave --msp-id and --peers out",
        )

    async def added() -> object:
        if present is None:  # else an earlier call was interrupted: complete it
            await network.add_organisation(spec, note)
        note("admitting it to the consortium")
        await admit(network, organisation)
        return await hand_over(network, organisation)

    show(run(added()), title="added" if present is None else "a member already")


@app.command("add-user")
def add_user(
    organisation: Annotated[str, typer.Argument(help="The organisation's name.")],
    user: Annotated[str, typer.Argument(help="The user's name, which becomes their enrolment id.")],
    role: Annotated[str, typer.Option("--role", help="operator, steward, scientist or auditor.")],
    name: Name = "",
    output: Output = Format.TEXT,
) -> None:
    """Give a person a certificate of their organisation with a role, and write their profile.

    \b
    Example:
      fedfabric network add-user cleveland ada --role scientist
    """
    from .handover import PEOPLE, write_profile

    if role not in PEOPLE:
        raise bad_input(f"there is no role {role}", field="--role", remedy=f"one of {', '.join(PEOPLE)}")
    network = find(name)
    path = run(write_profile(network, organisation, user, role))
    show({"user": user, "organisation": organisation, "role": role, "profile": path}, title="added")
    say(f"next: export FEDFABRIC_PROFILE={path}")


@app.command()
def export(
    folder: Annotated[Path, typer.Option("--folder", help="Folder to write.", file_okay=False)] = Path("export"),
    name: Name = "",
    output: Output = Format.TEXT,
) -> None:
    """Write connection profiles and wallets, with which Fabric's official SDKs and hfc reach the network.

    For each organisation: connection.json and .yaml, a wallet of its users, and hfc.json. The wallets hold private
    keys, readable by you alone.

    \b
    Example:
      fedfabric network export --folder export && ls export/cleveland
    """
    from ..network.export import export as write

    written = write(find(name), folder)
    if chosen.format is Format.JSON:
        show({"folder": folder.absolute(), "organisations": written})
        return
    for one in written:
        say(f"{one.organisation}: {one.connection_json}, {one.wallet}, {one.hfc} ({', '.join(one.users)})")


@app.command()
def logs(
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="As network status names it.")] = "",
    lines: Annotated[int, typer.Option("--lines", help="How many of the last ones.", min=1)] = 50,
    name: Name = "",
    output: Output = Format.TEXT,
) -> None:
    """Print the last lines of a process's log, or name the processes.

    \b
    Example:
      fedfabric network logs peer0.cleveland --lines 200
    """
    network = find(name)
    if not process:
        states = run(network.runtime.states())
        show_rows([{"process": one} for one in sorted(states)], ["process"], empty="nothing runs")
        return
    text = run(_log(network, process, lines))
    show({"process": process, "lines": text.splitlines()}) if chosen.format is Format.JSON else say(text)


async def _log(network: "Network", process: str, lines: int) -> str:
    from ..network import ProcessError

    try:
        return await network.log(process, lines)
    except ProcessError as error:
        raise Failure(
            ExitCode.NOT_FOUND,
            "NO_SUCH_PROCESS",
            str(error),
            remedy="fedfabric network logs without a name lists those that run",
        ) from error
