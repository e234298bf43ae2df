"""Checkpoints: how far a consumer of events has come, so that it can go on there after a crash.

Delivery is at least once: what was processed after the last checkpoint comes again.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import ClientError

__all__ = ["Checkpoint", "CheckpointError", "Checkpointer", "FileCheckpointer", "InMemoryCheckpointer", "Position"]

_MAXIMUM_FILE_BYTES = 4096
_MAXIMUM_BLOCK_NUMBER = 2**64 - 1


class CheckpointError(ClientError):
    """A checkpoint's file is not one, or a checkpoint is of another channel."""


@dataclass(frozen=True)
class Position:
    """A place in a channel's events.

    Attributes:
        block_number: in which the next event is expected, counted from 0.
        transaction_id: of the last transaction in that block whose event was processed, "" when there is none.
    """

    block_number: int
    transaction_id: str = ""

    def __post_init__(self) -> None:
        if type(self.block_number) is not int or type(self.transaction_id) is not str:
            raise TypeError("a position is an integer and a text")
        if not 0 <= self.block_number <= _MAXIMUM_BLOCK_NUMBER:
            raise ValueError(f"a block number is between 0 and 2^64 - 1, not {self.block_number}")


class _Event(Protocol):
    """What a chaincode event has of a position."""

    @property
    def block_number(self) -> int: ...

    @property
    def transaction_id(self) -> str: ...


class Checkpoint(Protocol):
    """Where to begin."""

    @property
    def position(self) -> Position | None:
        """The position to go on at; None when nothing was ever processed."""


class Checkpointer(Checkpoint, Protocol):
    """A checkpoint that moves."""

    def checkpoint_block(self, block_number: int) -> None:
        """Everything up to this block's end was processed."""

    def checkpoint_transaction(self, block_number: int, transaction_id: str) -> None:
        """Everything up to this transaction of this block was processed."""

    def checkpoint_chaincode_event(self, event: _Event) -> None:
        """Everything up to this event was processed."""


class InMemoryCheckpointer:
    """A checkpointer for one process's life: reconnecting, not restarting."""

    def __init__(self) -> None:
        self._position: Position | None = None

    @property
    def position(self) -> Position | None:
        """Where to go on."""
        return self._position

    def checkpoint_block(self, block_number: int) -> None:
        """Everything up to this block's end was processed."""
        self._move(Position(block_number + 1))

    def checkpoint_transaction(self, block_number: int, transaction_id: str) -> None:
        """Everything up to this transaction of this block was processed."""
        self._move(Position(block_number, transaction_id))

    def checkpoint_chaincode_event(self, event: _Event) -> None:
        """Everything up to this event was processed."""
        self._move(Position(event.block_number, event.transaction_id))

    def _move(self, position: Position) -> None:
        self._position = position


class FileCheckpointer(InMemoryCheckpointer):
    """A checkpointer that outlives a crash of the process or of the machine.

    Each checkpoint is a new file, flushed to the disk, that takes the old one's place: whenever the process is killed,
    the file holds one checkpoint, whole. One process writes a file.

    Raises:
        CheckpointError: the file exists and is not a checkpoint. It is left as it is.
        OSError: the file can't be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = Path(path)
        self._position = self._read()

    def _read(self) -> Position | None:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAXIMUM_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        try:
            content = json.loads(data)
            number, transaction_id = content["blockNumber"], content["transactionId"]
            position = Position(number, transaction_id)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path} is not a checkpoint; remove it to begin at the channel's first block, or restore it"
            ) from error
        return position

    def _move(self, position: Position) -> None:
        # The names are those of the official clients' checkpoint files.
        content = json.dumps({"blockNumber": position.block_number, "transactionId": position.transaction_id})
        new = self.path.with_name(f".{self.path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        super()._move(position)
