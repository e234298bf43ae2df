"""What the hospitals' people do in the demo, each with their own certificate at their own gateway."""

import asyncio
import csv
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .hospitals import Hospital

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...chaincode.records import DatasetUse
    from ...gateway import Client

Result = TypeVar("Result")

JOB = "heart"
DATASET = "heart"
MINT = "budget"
BUDGET = 1200
CLIP = "1.0"
UPDATE_MS = 60_000
ATTEST_MS = 30_000
APPROVAL_MS = 300_000
ROLES = {"operator": "ada", "steward": "basil", "scientist": "chen", "auditor": "dora"}
"""By role, the name of the one who has it in every hospital."""
JURISDICTIONS = {"cleveland": "US-OH", "hungary": "HU", "switzerland": "CH", "va-long-beach": "US-CA"}
SEEN_SECONDS = 15.0
NOT_SEEN = {
    "UNKNOWN_DATASET",
    "UNKNOWN_REQUEST",
    "UNKNOWN_JOB",
    "GRANT_MISSING",
    "QUORUM_MISSING",
    "FUNDS_MISSING",
    "NOT_A_MEMBER",
    "NOT_A_PARTICIPANT",
    "NOT_OWNER",
}
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Staff:
    """A hospital's people, each a client of their own gateway."""

    hospital: Hospital
    operator: "Client"
    steward: "Client"
    scientist: "Client"
    auditor: "Client"

    @property
    def dataset(self) -> str:
        """The id of the hospital's data set."""
        return f"{self.hospital.msp_id}/{DATASET}"

    @property
    def grant(self) -> str:
        """The id of the request for it."""
        return f"heart-{self.hospital.name}"


async def when_seen(act: "Callable[[], Awaitable[Result]]") -> Result:
    """Do what leans on another organisation's last transaction, which may take a moment to reach every peer."""
    from ...gateway import ApiError

    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        try:
            return await act()
        except ApiError as error:
            if error.code not in NOT_SEEN or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


async def share(owner: Staff, patients: Path, submitter: Staff) -> None:
    """Register a hospital's patients and, where another hospital asks for them, grant that."""
    from ...chaincode.records import Column

    with (patients / "patients.csv").open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        columns = tuple(Column(name=name, type="text") for name in reader.fieldnames or ())
        samples = sum(1 for _ in reader)
    dataset = await owner.steward.datasets.register(
        DATASET,
        patients,
        title=f"Heart disease, {owner.hospital.title}",
        description="Clinical measurements and diagnosis (num: 0 healthy, 1 to 4 narrowed arteries), UCI 1989",
        samples=samples,
        licence="CC-BY-4.0",
        jurisdiction=JURISDICTIONS[owner.hospital.name],
        columns=columns,
    )
    if owner.hospital == submitter.hospital:
        return
    await when_seen(
        lambda: submitter.scientist.access.request(
            owner.grant, dataset=dataset.id, version=dataset.version, note=f"training job {JOB}"
        )
    )
    await when_seen(lambda: owner.steward.access.grant(owner.grant))


async def mint(members: Sequence[Staff], account: str) -> None:
    """Mint the budget: a majority of the operators approve, then one carries it out."""
    quorum = members[: len(members) // 2 + 1]
    await asyncio.gather(*(one.operator.tokens.approve_mint(MINT, account, str(BUDGET)) for one in quorum))
    await when_seen(lambda: quorum[0].operator.tokens.mint(MINT, account, str(BUDGET)))


async def submit(submitter: Staff, owners: Iterable[Staff], plan: bytes, rounds: int) -> None:
    """Submit the job, with the whole budget in escrow."""
    from ...chaincode.records import Plan, SubmitJob

    bundle = await submitter.scientist.blobs.upload_plan(plan)
    model = await submitter.scientist.models.initialise(bundle, seed=0)
    request = SubmitJob(
        id=JOB,
        title="Heart disease across hospitals",
        plan=Plan(
            bundle=bundle,
            model=model,
            clip=CLIP,
            rounds=rounds,
            approval_ms=APPROVAL_MS,
            update_ms=UPDATE_MS,
            attest_ms=ATTEST_MS,
        ),
        datasets=tuple([await use(owner, submitter) for owner in owners]),
        budget=str(BUDGET),
    )
    await when_seen(lambda: submitter.scientist.jobs.submit(request))


async def use(owner: Staff, submitter: Staff) -> "DatasetUse":
    """A hospital's data set, and the grant under which the submitter may use it."""
    from ...chaincode.records import DatasetUse

    dataset = await when_seen(lambda: submitter.scientist.datasets.show(owner.dataset))
    own = owner.hospital == submitter.hospital
    return DatasetUse(dataset=dataset.id, version=dataset.version, grant=None if own else owner.grant)


async def approve(owner: Staff) -> None:
    """Review the job and approve the digest that was reviewed."""
    review = await when_seen(lambda: owner.steward.jobs.review(JOB))
    policy = review.report.job.terms.plan.privacy
    await when_seen(lambda: owner.steward.jobs.approve(JOB, digest=review.digest, privacy=policy))


async def invite(newcomer: Staff, submitter: Staff) -> None:
    """Ask a hospital with registered and granted data into the running job, and have it approve."""
    asked = await use(newcomer, submitter)
    await when_seen(lambda: submitter.scientist.jobs.add(JOB, asked.dataset, version=asked.version, grant=asked.grant))
    await approve(newcomer)
