"""The gateway's own secrets: a key for its blob store, a secret for rounding bits; each in a file only it may read."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["GatewaySecrets", "SecretError"]

_BYTES = 32
_NONCE_BYTES = 12


class SecretError(Exception):
    """A secret's file can't be used."""


@dataclass(frozen=True)
class GatewaySecrets:
    """The secrets of one gateway; none of them is in its repr."""

    storage_key: bytes = field(repr=False)
    """Data key of plans, models and updates, and what wraps each data set's own key."""
    rounding_secret: bytes = field(repr=False)
    """From which the bits of stochastic rounding are derived."""

    @classmethod
    def load(cls, folder: Path) -> "GatewaySecrets":
        """The secrets in a state folder, made there the first time.

        Raises:
            SecretError: a file has another length, may be read by others, or can't be read or written.
        """
        return cls(_secret(folder / "storage.key"), _secret(folder / "rounding.secret"))

    def wrap(self, key: bytes, about: bytes) -> bytes:
        """A key sealed under the storage key, bound to what it is about."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.storage_key).encrypt(nonce, key, b"wrapped key" + about)

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """The key in what `wrap` gave.

        Raises:
            SecretError: it was changed, is about something else, or another storage key sealed it.
        """
        try:
            return AESGCM(self.storage_key).decrypt(
                wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], b"wrapped key" + about
            )
        except InvalidTag:
            raise SecretError("a data key can't be opened: it was sealed under another storage.key") from None


def _secret(path: Path) -> bytes:
    try:
        with suppress(FileExistsError):
            _create(path)
        if path.stat().st_mode & 0o077:
            raise SecretError(f"{path} may be read by others; restrict it: chmod 600")
        content = path.read_bytes()
    except OSError as error:
        raise SecretError(f"{path} can't be used: {error.strerror}") from error
    if len(content) != _BYTES:
        raise SecretError(f"{path} has {len(content)} bytes instead of {_BYTES}; restore it from its copy")
    return content


def _create(path: Path) -> None:
    """Make the file with its content in one step: a crash leaves no empty secret."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
