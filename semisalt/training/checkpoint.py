"""Resume state on disk: whole or absent, and checked when read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from semisalt.errors import UserError
from semisalt.files import write_bytes

_MAGIC = b"semisalt checkpoint, sha256 "


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values only) with its sha256, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_bytes(path, _MAGIC + digest + b"\n" + payload)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU, with weights_only=True.

    Raises:
        UserError: there is no checkpoint, its content does not match its sha256, or it holds more than plain state.
    """
    if not path.exists():
        raise UserError(f"{path}: no checkpoint to resume from")
    header, _, payload = path.read_bytes().partition(b"\n")
    if header != _MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise UserError(f"{path}: damaged (its sha256 does not match); remove it to train this fold anew")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: not a checkpoint of semisalt: {error}") from None
    return state
