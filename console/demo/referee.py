"""A process beside the demo that holds everybody's patients: it computes the baselines, then scores each global model.

``python -m fedfabric.console.demo.referee`` reads one JSON object a line and answers each with one. It ends when its
standard input does, so it can't outlive the demo. Requests: ``{"ask": "baselines"}``, ``{"ask": "score", "model":
PATH}``, ``{"ask": "repeat", "joined": ROUND}`` (the federated run for the other seeds, in one process).
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exit_codes import ExitCode
from ..failures import Failure


class Referee:
    """The demo's end of the conversation."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log
        self._turn = asyncio.Lock()

    @classmethod
    async def start(
        cls, plan: Path, folders: Mapping[str, Path], rounds: int, *, scratch: Path, log: Path
    ) -> "Referee":
        """Start the process.

        Args:
            plan: folder of the plan.
            folders: each hospital's patients by the hospital's title.
            rounds: of the job.
            scratch: where PyTorch's caches go.
            log: file for what the process says beside its answers.
        """
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fedfabric.console.demo.referee",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env={**os.environ, "TMPDIR": str(scratch)},
                start_new_session=True,  # a Ctrl-C of the terminal is the demo's to handle
            )
        referee = cls(process, log)
        settings = {"plan": str(plan), "folders": {title: str(path) for title, path in folders.items()}}
        referee._send({**settings, "rounds": rounds})
        return referee

    async def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer; questions are answered one after another.

        Raises:
            Failure: the process has ended.
        """
        async with self._turn:
            self._send(request)
            line = await self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise Failure(
                ExitCode.INTERNAL,
                "INTERNAL",
                "the process that scores the models has ended",
                where=str(self._log),
                remedy="see its last lines there",
            )
        return json.loads(line)

    async def stop(self) -> None:
        """End the process and wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    def _send(self, message: Mapping[str, Any]) -> None:
        self._process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]


def main() -> None:
    """Answer requests until standard input ends."""
    import torch

    from ...aggregation import TensorFile
    from .baselines import SEEDS, Trial, compare

    torch.set_num_threads(1)
    settings = json.loads(sys.stdin.readline())
    folders = {title: Path(folder) for title, folder in settings["folders"].items()}
    trials = [Trial.load(Path(settings["plan"]), folders, seed) for seed in SEEDS]
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        match request["ask"]:
            case "baselines":
                answer = compare(trials, settings["rounds"])
            case "score":
                with TensorFile(Path(request["model"])) as tensors:
                    answer = trials[0].score_tensors(tensors)
            case "repeat":
                clip = float(request["clip"])
                models = (
                    trial.federated(settings["rounds"], request["late"], request["joined"], clip)
                    for trial in trials[1:]
                )
                answer = [trial.score(model) for trial, model in zip(trials[1:], models, strict=True)]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
