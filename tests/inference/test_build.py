from pathlib import Path

import pytest
import torch

from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.inference.build import build_network, channels_of, predictor_of
from semisalt.inference.weights import save_weights
from tests.tiny import tiny_channels, tiny_config


def test_channels_follow_configuration_and_survey(survey: Survey) -> None:
    assert survey.labelled.depths is not None
    assert survey.unlabelled.depths is not None
    depths = [*survey.labelled.depths.tolist(), *survey.unlabelled.depths.tolist()]
    channels = channels_of(tiny_config(channels={"depth": True, "ramp": "image_rows"}), survey)
    assert (channels.shape, channels.depth_range, channels.ramp) == ((32, 32), (min(depths), max(depths)), "image_rows")
    assert channels_of(tiny_config(channels={"depth": False, "ramp": "none"}), survey).count == 1


def test_depths_that_are_not_there_are_named(survey: Survey) -> None:
    def shallow(tiles: TileSet) -> TileSet:
        return TileSet(tiles.ids, tiles.images, tiles.masks, None)

    flat = Survey(shallow(survey.labelled), shallow(survey.unlabelled), "", Path("here"), None)
    with pytest.raises(UserError, match=r"channels\.depth is true, but here has no depths"):
        channels_of(tiny_config(), flat)


@pytest.mark.parametrize(
    "model", [{"decoder_channels": (8, 8)}, {"encoder": "resnet19"}, {"weights": "nowhere/file.safetensors"}]
)
def test_network_that_cannot_be_built_is_the_users_error(model: dict[str, object]) -> None:
    with pytest.raises(UserError):
        build_network(tiny_config(model=model), tiny_channels())


def test_views_that_would_be_twins_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "whole.safetensors"
    save_weights(file, build_network(tiny_config(), tiny_channels()))
    twins = tiny_config(method="co_training", model={"weights": str(file)})
    with pytest.raises(UserError, match=r"whole\.safetensors gives all views the same weights"):
        build_network(twins, tiny_channels())
    build_network(twins, tiny_channels(), weights="none")  # as for weights that are read later


def test_network_takes_the_channels(survey: Survey) -> None:
    for ramp, count in (("none", 2), ("rows", 3)):
        config = tiny_config(channels={"ramp": ramp})
        network = build_network(config, channels_of(config, survey)).eval()
        assert network(torch.zeros(1, count, 32, 64)).shape == (1, 32, 64)


def test_predictor_needs_a_settled_precision() -> None:
    config = tiny_config(inference={"batch": 5, "flip": False}, training={"precision": "bf16"})
    predictor = predictor_of(config, tiny_channels(), torch.device("cpu"))
    assert (predictor.batch, predictor.flip, predictor.precision) == (5, False, "bf16")
    with pytest.raises(ValueError, match="not settled"):
        predictor_of(tiny_config(training={"precision": "auto"}), tiny_channels(), torch.device("cpu"))
