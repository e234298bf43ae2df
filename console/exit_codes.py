"""What the command's exit status means, in one table, from which docs/reference/exit-codes.md is made."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of ``fedfabric``; a number keeps its meaning for ever."""

    SUCCESS = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    REFUSED = 4
    NOT_FOUND = 5
    UNAVAILABLE = 6
    DENIED = 7
    UNKNOWN_OUTCOME = 8
    JOB_ENDED_OTHERWISE = 9
    AUDIT_FAILED = 10
    ENVIRONMENT = 11
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


MEANINGS: dict[ExitCode, tuple[str, str]] = {
    ExitCode.SUCCESS: ("The command did what it says.", "Nothing."),
    ExitCode.INTERNAL: (
        "A fault of fedfabric itself. Nothing is printed but where the report lies.",
        "Send the report file; it holds no keys.",
    ),
    ExitCode.USAGE: ("Unknown command or option, or an argument that can't be read.", "Add --help to the command."),
    ExitCode.BAD_INPUT: (
        "A file or value that was read and understood is wrong: network.yaml, a profile, a plan, a data set.",
        "The message names the file, the field and the remedy.",
    ),
    ExitCode.REFUSED: (
        "The ledger's rules refused the transaction. Nothing was changed.",
        "The refusal's code is in the message and listed in the reference of error codes.",
    ),
    ExitCode.NOT_FOUND: ("No such data set, grant, job, model, organisation or network.", "Use the matching list."),
    ExitCode.UNAVAILABLE: (
        "A gateway, peer or orderer does not answer, not in time, or its disk is full. Nothing was changed.",
        "See fedfabric network status; then run the same command again.",
    ),
    ExitCode.DENIED: (
        "The certificate has not the role, or its organisation may not do this. An unknown one gets no connection (6).",
        "Use a profile with the right role: --profile, or fedfabric network add-user.",
    ),
    ExitCode.UNKNOWN_OUTCOME: (
        "The transaction was sent and its fate is not known. It may still be committed.",
        "Look with the matching list or show; data register and job submit may be refused when repeated.",
    ),
    ExitCode.JOB_ENDED_OTHERWISE: ("The job that was watched was refused, cancelled or aborted.", "See job show."),
    ExitCode.AUDIT_FAILED: ("The audit found a link that does not hold.", "The report names the link."),
    ExitCode.ENVIRONMENT: (
        "Something this machine lacks: Go, Docker, an optional part of fedfabric, a port, disk, a writable folder.",
        "The message says what to install or change.",
    ),
    ExitCode.INTERRUPTED: ("Stopped by Ctrl-C or SIGTERM. What the command had started is stopped too.", "Nothing."),
    ExitCode.OUTPUT_CLOSED: (
        "Whoever read the output (head, less) closed it before its end: 128 + SIGPIPE, as of other tools.",
        "Nothing; a verdict is not said by this status.",
    ),
}

CODES: dict[str, tuple[ExitCode, str]] = {
    "USAGE": (ExitCode.USAGE, "The command line can't be read."),
    "BAD_INPUT": (ExitCode.BAD_INPUT, "A value that you gave is wrong; the field is named."),
    "NO_SUCH_FILE": (ExitCode.BAD_INPUT, "A file that you named is not there."),
    "NO_SUCH_NETWORK": (
        ExitCode.NOT_FOUND,
        "No network of that name has been brought up, or several and none was named.",
    ),
    "NO_SUCH_ORGANISATION": (ExitCode.NOT_FOUND, "The network has no organisation of that name."),
    "NO_SUCH_PROCESS": (ExitCode.NOT_FOUND, "The network runs no process of that name."),
    "ENVIRONMENT": (ExitCode.ENVIRONMENT, "This machine lacks something; the message says what."),
    "INTERNAL": (ExitCode.INTERNAL, "A fault of fedfabric; its report file is named."),
    "NETWORK_PROGRAMS": (ExitCode.ENVIRONMENT, "Fabric's programs can be neither found nor built."),
    "NETWORK_ENGINE": (ExitCode.ENVIRONMENT, "No Docker engine answers."),
    "NETWORK_SPECIFICATION": (
        ExitCode.BAD_INPUT,
        "network.yaml is malformed or contradicts itself; the line is named.",
    ),
    "NETWORK_STATE": (ExitCode.BAD_INPUT, "The network's folder is stale, another's, in use or can't be written."),
    "NETWORK_PORT": (ExitCode.ENVIRONMENT, "A port that the network needs is taken; its holder is named."),
    "NETWORK_PROCESS": (ExitCode.UNAVAILABLE, "A process of the network died or did not become ready."),
    "NETWORK_READINESS": (ExitCode.UNAVAILABLE, "Everything runs, yet no transaction gets through."),
    "NETWORK_ONBOARDING": (ExitCode.UNAVAILABLE, "An organisation could not be added; the channel is as before."),
    "GATEWAY_START": (ExitCode.ENVIRONMENT, "The gateway can't start or go on; the message says why."),
    "GATEWAY_ENDED": (ExitCode.UNAVAILABLE, "A gateway that the demo started has ended; its last lines are shown."),
    "PARENT_ENDED": (ExitCode.UNAVAILABLE, "The process named by --parent is not there any more."),
    "JOB_REFUSED": (ExitCode.JOB_ENDED_OTHERWISE, "An owner refused the job."),
    "JOB_CANCELLED": (ExitCode.JOB_ENDED_OTHERWISE, "Its submitter cancelled the job."),
    "JOB_ABORTED": (
        ExitCode.JOB_ENDED_OTHERWISE,
        "The job ended without a quorum or before its approvals; its reason is shown.",
    ),
    "AUDIT_FAILED": (ExitCode.AUDIT_FAILED, "The demo's own audit found a broken link."),
}
"""The command's own codes, in errors. All others come from a gateway or a contract and are explained in errors.md."""

WARNINGS: dict[str, str] = {
    "PEER_AWAY": "The gateway's peer does not answer: what is shown is the ledger as of the block that is named.",
    "CERTIFICATE_ENDS": "A certificate of yours or of the gateway runs out within 30 days, or has.",
    "ACCOUNT_UNKNOWN": "Nothing on the ledger speaks of the account: its member or job is unknown.",
}
"""Codes of warnings, which stand beside a result and change no exit status."""
