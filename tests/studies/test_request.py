"""What a study was asked for: read, resolved, compared."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from semisalt.errors import UserError
from semisalt.studies.request import StudyRequest, base_recipe, changes, read_file, read_request, write_request
from semisalt.studies.space import check
from semisalt.studies.threshold import check_threshold_space
from tests.end_to_end.conftest import REPOSITORY
from tests.studies.made import SPACE, made


def write(path: Path, **keys: Any) -> Path:
    path.write_text(yaml.safe_dump({"space": SPACE, **keys}))
    return path


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trails": 5}, "unknown key 'trails'"),
        ({"trials": 0}, "trials: "),
        ({"holdout": 1}, "holdout: "),
        ({"space": {"loss.switch_epoch": {"kind": "int", "low": 5, "high": 1}}}, "space.loss.switch_epoch: "),
        ({"objectives": ["seconds"]}, "the first objective is 'score'"),
        ({"objectives": ["score", "score"]}, "the first objective is 'score'"),
        ({"objectives": ["score", "speed"]}, "objectives.1: "),
        ({"objectives": ["score", "seconds"], "pruner": {"kind": "median"}}, "cannot be pruned"),
        ({"pruner": {"kind": "percentile"}}, "pruner: "),
        ({"pruner": {"kind": "hyperband", "reduction": 1}}, "reduction: "),
        ({"level": "threshold", "config": "cpu.yaml"}, "trains nothing"),
        ({"level": "threshold", "folds": [0]}, "no pruner and no folds"),
        ({"run": "cpu"}, "level threshold"),
    ],
    ids=str,
)
def test_mistakes_are_named(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "study.yaml", **keys)
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_yaml_no_study(tmp_path: Path) -> None:
    for text, message in {"a: [": "not YAML", "- 1": "table of keys", "trials: 3": "'space' is missing"}.items():
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_file(tmp_path / "study.yaml")
    with pytest.raises(UserError, match="cannot read"):
        read_file(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="a recipe, not a study"):
        read_file(REPOSITORY / "configs" / "cpu.yaml")


def test_the_base_recipe_is_the_files_with_the_holdout_out(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("training: {epochs: 7, batch: 4}\n")
    path = write(tmp_path / "study.yaml", config="base.yaml", set={"training.epochs": 9, "loss.finish": {"bce": 1}})
    config = base_recipe(path, read_file(path))
    assert (config.training.epochs, config.training.batch) == (9, 4)
    assert config.loss.finish == {"bce": 1}
    assert config.data.holdout == 0.1
    with pytest.raises(UserError, match="say it as the study's own key"):
        base_recipe(path, read_file(write(path, set={"data.holdout": 0.2})))
    with pytest.raises(UserError, match=r"did you mean 'training\.epochs'"):
        base_recipe(path, read_file(write(path, set={"training.epoch": 2})))


def test_a_request_comes_back(tmp_path: Path) -> None:
    request = made(tmp_path / "study", pruner={"kind": "hyperband", "shortest": 2}, folds=[0, 1]).request
    write_request(tmp_path / "again.yaml", request)
    assert read_request(tmp_path / "again.yaml") == request


def test_every_difference_is_named(tmp_path: Path) -> None:
    kept = made(tmp_path / "study").request
    assert changes(kept, kept) == []
    tree = kept.model_dump(mode="json")

    def asked(**keys: Any) -> list[str]:
        return changes(StudyRequest.model_validate({**tree, **keys}), kept)

    space = {**tree["space"], "loss.switch_epoch": {"kind": "int", "low": 0, "high": 2}}
    (line,) = asked(space=space)
    assert line.startswith("space: loss.switch_epoch: ")
    assert "'high': 3" in line
    assert "'high': 2" in line
    del space["loss.switch_epoch"]
    (line,) = asked(space=space)
    assert line.endswith("None asked for")
    assert asked(seed=4) == ["seed: 0 in the study, 4 asked for"]
    assert asked(holdout=0.2) == ["holdout: 0.1 in the study, 0.2 asked for"]
    assert asked(data={**kept.data, "fingerprint": "g"}) == ["data: fingerprint: 'f' in the study, 'g' asked for"]
    assert asked(data={**kept.data, "path": "elsewhere"}) == []  # the same tiles may lie elsewhere
    recipe = {**kept.recipe, "training": {**kept.recipe["training"], "epochs": 99}}
    assert asked(recipe=recipe) == ["recipe: training.epochs: 3 in the run, 99 asked for"]
    (line,) = asked(sampler={"startup": 6})
    assert line.startswith("sampler: ")


@pytest.mark.parametrize("name", ["study.yaml", "study_cpu.yaml", "study_threshold.yaml"])
def test_the_shipped_studies_are_in_order(name: str) -> None:
    path = REPOSITORY / "configs" / name
    file = read_file(path)
    if file.level == "threshold":
        check_threshold_space(name, file.space)
        return
    check(name, file.space, base_recipe(path, file).model_dump(mode="json"))
    # The search of the loss mix, its switch, the Lovász variant, the cycle; the consistency where a method has one.
    for key in ("loss.finish", "loss.finish.bce", "loss.switch_epoch", "schedule.kind", "schedule.base"):
        assert key in file.space
    assert {"schedule.peak", "schedule.step_size"} <= file.space.keys()
    assert ("teacher.weight" in file.space) == (name == "study.yaml")
