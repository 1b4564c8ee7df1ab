"""Networks' weights on disk (safetensors), and how loud each of several speaks."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from semisalt.errors import UserError
from semisalt.files import atomic


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights as safetensors, atomically."""
    # safetensors refuses channels-last strides; the values are what counts.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary)


def load_weights(path: Path, network: nn.Module) -> None:
    """Load safetensors into a network of the same shape. Raises UserError where the file is gone or damaged."""
    try:
        state = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    network.load_state_dict(state)


def weights_file(path: Path) -> bytes:
    """A file of weights as it is. Raises UserError where it is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
    return UserError(f"{path} is {what}: bring the file back, or remove its fold and train that anew with --resume")


def vote_weights(count: int, decay: float) -> list[float]:
    """Exponentially decreasing weights, newest (last) heaviest, adding up to 1.

    Source: the 27th place's write-up of the TGS challenge ('10 last best snapshots, exponentially decreasing').
    """
    raw = [decay ** (count - 1 - position) for position in range(count)]
    return [weight / sum(raw) for weight in raw]
