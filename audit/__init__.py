"""Verifies a job from blocks and blobs alone, with no network and no gateway.

    report = verify_job(Path("export"), None, genesis_hash, "heart")
    print("\n".join(report.lines()))

The report's checks are numbered; `report.verified` says whether all passed, `report.findings` which links broke.
"""

from .report import Check, CheckResult, Finding, MemberFigures, Outcome, Remark, Report, RoundFigures
from .verifier import AuditInputError, AuditSettings, genesis_hash, verify_job

__all__ = [
    "AuditInputError",
    "AuditSettings",
    "Check",
    "CheckResult",
    "Finding",
    "MemberFigures",
    "Outcome",
    "Remark",
    "Report",
    "RoundFigures",
    "genesis_hash",
    "verify_job",
]
