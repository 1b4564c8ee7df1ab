import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.recipe import differences, dump_config, known_keys, load_config


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("training.epoch=3", "training.epochs"),
        ("trainig.epochs=3", "training"),
        ("epochs=3", "training.epochs"),
        ("model.epochs=3", "training.epochs"),  # in the wrong table
        ("training.hypercolumn=true", "model.hypercolumn"),
        ("schedule.peek=1e-3", "schedule.peak"),
        ("seeed=1", "seed"),
    ],
)
def test_unknown_key_names_the_nearest(override: str, nearest: str) -> None:
    key = override.partition("=")[0]
    shown = "trainig" if key.startswith("trainig") else key
    with pytest.raises(UserError, match=f"unknown key '{shown}'; did you mean '{nearest}'"):
        load_config(None, [override])


def test_key_of_the_other_schedule_says_so() -> None:
    with pytest.raises(UserError, match=r"schedule.cycles.*another schedule\.kind"):
        load_config(None, ["schedule.cycles=[420]"])


def test_known_keys_hold_every_leaf_of_both_schedules() -> None:
    keys = known_keys()
    assert {"seed", "training.batch", "schedule.step_size", "schedule.cycles", "loss.switch_epoch"} <= set(keys)
    assert len(keys) == len(set(keys))


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("seed: -1\ntraining: {epochs: 0, bach: 3}\nloss: {start: {bse: 1}}\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    for part in ("seed", "training.epochs", "'training.bach'; did you mean 'training.batch'", "did you mean 'bce'"):
        assert part in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.base=1e-5", 1e-5),  # a string to YAML 1.1
        ("schedule.base=0.00001", 1e-5),
        ("training.epochs=7", 7),
        ("training.patience=null", None),
        ("training.compile=true", True),
        ("channels.depth=false", False),
        ("channels.depth=auto", "auto"),
        ("loss.finish={bce: 0.5, lovasz_elu: 5e-1}", {"bce": 0.5, "lovasz_elu": 0.5}),
        ("inference.thresholds=[0.4, 0.5]", (0.4, 0.5)),
        ("model.weights=/some/file=1.safetensors", "/some/file=1.safetensors"),
        ("optimiser.clip_norm=1e-1", 0.1),
        ("data.unlabelled_limit=12", 12),
    ],
)
def test_override_has_the_type_of_its_key(override: str, expected: object) -> None:
    value: object = load_config(None, [override])
    for name in override.partition("=")[0].split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


def test_later_override_wins_over_earlier_and_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("training:\n  epochs: 2\n  batch: 4\n")
    training = load_config(path, ["training.epochs=3", "training.epochs=5"]).training
    assert (training.epochs, training.batch) == (5, 4)


@pytest.mark.parametrize("content", [b"- 1\n- 2\n", b"training: [", b"\xff\xfe\x00"])
def test_file_that_is_no_configuration(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.yaml"):
        load_config(path)
    with pytest.raises(UserError, match="cannot read"):
        load_config(tmp_path / "absent.yaml")


def test_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "x.yaml") == Config()


@given(
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.001, 1),
    cosine=st.booleans(),
    peak=st.floats(1e-3, 1),
    patience=st.none() | st.integers(1, 99),
    depth=st.sampled_from(["auto", True, False]),
)
def test_dump_and_load_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    fraction: float,
    cosine: bool,
    peak: float,
    patience: int | None,
    depth: str | bool,
) -> None:
    kind = {"kind": "cosine", "cycles": [20, 400]} if cosine else {"kind": "triangular2"}
    config = Config.model_validate(
        {
            "seed": seed,
            "data": {"label_fraction": fraction},
            "channels": {"depth": depth},
            "schedule": {**kind, "peak": peak},
            "training": {"patience": patience},
        }
    )
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert differences(config, load_config(path)) == []


def test_differences_name_key_and_both_values() -> None:
    stored = load_config(None, ["channels.depth=false", "training.precision=bf16"])
    assert differences(Config(), stored) == []  # both were asked for as auto
    asked = load_config(None, ["training.batch=4", "training.precision=fp32", "schedule.kind=cosine"])
    lines = differences(asked, stored)
    assert "training.batch: 20 in the run, 4 asked for" in lines
    assert "training.precision: 'bf16' in the run, 'fp32' asked for" in lines
    assert any(line.startswith("schedule.kind: 'triangular2' in the run") for line in lines)
    assert not any("depth" in line for line in lines)
    # auto asked for agrees with a settled value, not a settled value with auto.
    assert differences(stored, Config()) != []


@given(st.text("abcdefghij_", min_size=1, max_size=12))
def test_any_unknown_name_is_refused_with_a_suggestion(name: str) -> None:
    if name in Config.model_fields:
        return
    with pytest.raises(UserError, match=r"did you mean|known:") as caught:
        load_config(None, [f"{name}=1"])
    if difflib.get_close_matches(name, known_keys(), n=1, cutoff=0.4):
        assert "did you mean" in str(caught.value)


def test_a_study_is_no_recipe(tmp_path: Path) -> None:
    study = tmp_path / "search.yaml"
    study.write_text("config: cpu.yaml\nspace:\n  loss.switch_epoch: {kind: int, low: 0, high: 9}\n")
    with pytest.raises(UserError, match=r"search\.yaml: a study, not a recipe: semisalt study run .*search\.yaml$"):
        load_config(study)


def test_without_a_recipe_the_validation_tiles_have_no_say_in_the_weights() -> None:
    """Else `semisalt pseudo` without a recipe would refuse its own baseline, and `--from` every such run."""
    assert Config().chosen_by_score == {}
