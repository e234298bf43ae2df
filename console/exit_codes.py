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
        "A gateway, peer or orderer does not answer, or not in time. Nothing was changed.",
        "See fedfabric network status; then run the same command again.",
    ),
    ExitCode.DENIED: (
        "The certificate is unknown here, has not the role, or its organisation may not do this.",
        "Use a profile with the right role: --profile, or fedfabric network add-user.",
    ),
    ExitCode.UNKNOWN_OUTCOME: (
        "The transaction was sent and its fate is not known. It may still be committed.",
        "Run the same command again: equal content is success, never a second time.",
    ),
    ExitCode.JOB_ENDED_OTHERWISE: ("The job that was watched was refused, cancelled or aborted.", "See job show."),
    ExitCode.AUDIT_FAILED: ("The audit found a link that does not hold.", "The report names the link."),
    ExitCode.ENVIRONMENT: (
        "Something this machine lacks: Go, Docker, an optional part of fedfabric, a port, disk, a writable folder.",
        "The message says what to install or change.",
    ),
    ExitCode.INTERRUPTED: ("Stopped by Ctrl-C or SIGTERM. What the command had started is stopped too.", "Nothing."),
}
