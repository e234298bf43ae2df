"""Where each record lies in the state: composite keys of Fabric. Gateways and auditors find rows by these."""

from ...fabric.shim import create_composite_key


def composite_key(kind: str, *attributes: str) -> str:
    """The composite key of a row: its kind and the parts of its name."""
    return create_composite_key(kind, attributes)


def consortium_key() -> str:
    """The record of the consortium; there is one."""
    return composite_key("consortium")


def consortium_approval_key(sequence: int, digest: str, msp: str) -> str:
    """The row by which ``msp`` approves the change with ``digest`` as the consortium's record number ``sequence``."""
    return composite_key("consortium-approval", f"{sequence:06d}", digest, msp)


def dataset_key(dataset: str) -> str:
    """The record of the data set ``MSP/name``."""
    return composite_key("dataset", *dataset.split("/", 1))


def access_request_key(request: str) -> str:
    """The request for access."""
    return composite_key("access-request", request)


def access_grant_key(request: str, owner: str) -> str:
    """The row by which ``owner`` grants the request."""
    return composite_key("access-grant", request, owner)


def access_revocation_key(request: str, owner: str) -> str:
    """The row by which ``owner`` revokes its grant."""
    return composite_key("access-revocation", request, owner)


def access_use_key(request: str, owner: str, operation: str) -> str:
    """The row by which ``owner`` records one use of its grant."""
    return composite_key("access-use", request, owner, operation)


def token_key(owner: str, tx: str, n: int) -> str:
    """The unspent row number ``n`` that transaction ``tx`` wrote for ``owner``."""
    return composite_key("token", owner, tx, f"{n:04d}")


def mint_key(mint: str) -> str:
    """The record that a mint was carried out."""
    return composite_key("mint", mint)


def mint_approval_key(mint: str, msp: str) -> str:
    """The row by which ``msp`` approves a mint."""
    return composite_key("mint-approval", mint, msp)


def job_key(job: str) -> str:
    """The state record of a training job."""
    return composite_key("job", job)


def decision_key(job: str, msp: str) -> str:
    """The row by which the owner ``msp`` approves or refuses a job."""
    return composite_key("job-decision", job, msp)


def round_key(job: str, number: int) -> str:
    """The state record of a round."""
    return composite_key("round", job, f"{number:06d}")


def update_key(job: str, number: int, msp: str) -> str:
    """The row by which ``msp`` commits its update in a round."""
    return composite_key("update", job, f"{number:06d}", msp)


def missing_key(job: str, number: int, attempt: int, msp: str) -> str:
    """The row by which ``msp`` says whose updates it can't get in an attempt of a round."""
    return composite_key("missing", job, f"{number:06d}", f"{attempt:04d}", msp)


def attestation_key(job: str, number: int, attempt: int, msp: str) -> str:
    """The row by which ``msp`` attests the result of an attempt of a round."""
    return composite_key("attestation", job, f"{number:06d}", f"{attempt:04d}", msp)
