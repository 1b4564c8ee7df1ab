"""The space: typed, checked against the configuration's keys, conditions in order."""

from itertools import pairwise
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from pydantic import ValidationError

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.studies.space import Parameter, apply, check, decode, encode, holds, order, searched_values, suggest

BASE = Config().model_dump(mode="json")


def parameters(**space: dict[str, Any]) -> dict[str, Parameter]:
    return {key.replace("__", "."): Parameter.model_validate(value) for key, value in space.items()}


@pytest.mark.parametrize(
    ("given_as", "distribution"),
    [
        ({"kind": "float", "low": 0, "high": 1}, FloatDistribution(0.0, 1.0)),
        ({"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}, FloatDistribution(1e-5, 1e-2, log=True)),
        ({"kind": "float", "low": 0, "high": 1, "step": 0.25}, FloatDistribution(0.0, 1.0, step=0.25)),
        ({"kind": "int", "low": 3, "high": 9, "step": 3}, IntDistribution(3, 9, step=3)),
        ({"kind": "int", "low": 1, "high": 100, "log": True}, IntDistribution(1, 100, log=True)),
        ({"kind": "categorical", "choices": [True, 2, "a"]}, CategoricalDistribution([True, 2, "a"])),
    ],
)
def test_ranges_are_optunas(given_as: dict[str, Any], distribution: Any) -> None:
    assert Parameter.model_validate(given_as).distribution() == distribution


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "float", "low": 0},
        {"kind": "float", "low": 1, "high": 0},
        {"kind": "float", "low": 0, "high": 1, "log": True},
        {"kind": "float", "low": 0, "high": float("inf")},
        {"kind": "float", "low": 0, "high": 1, "choices": [1]},
        {"kind": "float", "low": 1e-3, "high": 1, "log": True, "step": 0.1},
        {"kind": "int", "low": 0, "high": 1.5},
        {"kind": "categorical", "choices": []},
        {"kind": "categorical", "choices": ["a", "a"]},
        {"kind": "categorical", "choices": [1, True]},  # Optuna cannot tell them apart
        {"kind": "categorical", "choices": ["a"], "low": 0},
        {"kind": "uniform", "low": 0, "high": 1},
        {"kind": "float", "low": "a", "high": 1},
        {"kind": "float", "low": 0, "high": 1, "hihg": 2},
    ],
    ids=str,
)
def test_impossible_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Parameter.model_validate(wrong)


CASES: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({}, "nothing to search"),
    ({"loss__swich_epoch": {"kind": "int", "low": 0, "high": 1}}, "did you mean 'loss.switch_epoch'"),
    ({"training__batch": {"kind": "int", "low": 1, "high": 8}}, "training.batch: 1 is out of range"),
    ({"model__stem": {"kind": "categorical", "choices": ["stock", "wide"]}}, "model.stem: 'wide' is out of range"),
    ({"training__epochs": {"kind": "categorical", "choices": ["ten"]}}, "training.epochs: 'ten' is out of range"),
    ({"data__label_fraction": {"kind": "float", "low": 0.1, "high": 1}}, "trials would not be comparable"),
    ({"seed": {"kind": "int", "low": 0, "high": 9}}, "trials would not be comparable"),
    ({"pseudo__decided": {"kind": "float", "low": 0.1, "high": 1}}, "none of which makes pseudo-labels"),
    ({"loss__finish__dyce": {"kind": "float", "low": 0.1, "high": 1}}, "loss.finish.dyce: 0.1 is out of range"),
    ({"schedule__peak": {"kind": "float", "low": 1e-6, "high": 1}}, "base 0.0001 is above peak 1e-06"),
    (
        {"loss__switch_epoch": {"kind": "int", "low": 0, "high": 1, "when": {"metod": "supervised"}}},
        "when: metod: unknown key; did you mean 'method'",
    ),
    (
        {
            "teacher__weight": {"kind": "float", "low": 0, "high": 1, "when": {"teacher.ramp": 0.1}},
            "teacher__ramp": {"kind": "float", "low": 0, "high": 1, "when": {"teacher.weight": 0.1}},
        },
        "wait for each other",
    ),
    (
        {"teacher__weight": {"kind": "float", "low": 0, "high": 1, "when": {"method": "mean_teecher"}}},
        "teacher.weight: when: method: 'mean_teecher' is no value of it",
    ),
    (
        {
            "loss__switch_epoch": {"kind": "int", "low": 0, "high": 1, "when": {"schedule.kind": "triangular2"}},
            "schedule__kind": {"kind": "categorical", "choices": ["cosine"]},
        },
        "when: schedule.kind: 'triangular2' is no value of it: the space has 'cosine'",
    ),
    (
        {
            "teacher__weight": {"kind": "float", "low": 0, "high": 1, "when": {"method": "mean_teacher"}},
            "teacher__ramp": {"kind": "float", "low": 0, "high": 1, "when": {"teacher.weight": 0.5}},
        },
        "no key is ever searched: with the recipe's method no condition (when) holds",
    ),
]


@pytest.mark.parametrize(("space", "message"), CASES, ids=[message for _, message in CASES])
def test_a_space_is_checked_against_the_configuration(space: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=r"study\.yaml: space|the conditions") as caught:
        check("study.yaml", parameters(**space), BASE)
    assert message in str(caught.value)


def test_keys_that_depend_on_each_other_are_a_trials_own_matter() -> None:
    space = parameters(
        schedule__peak={"kind": "float", "low": 1e-6, "high": 1e-2},
        schedule__base={"kind": "float", "low": 1e-6, "high": 1e-2},
    )
    check("study.yaml", space, BASE)


def test_a_condition_decides_whether_a_key_is_searched() -> None:
    space = parameters(
        schedule__warmup_epochs={"kind": "float", "low": 0, "high": 2, "when": {"schedule.kind": "cosine"}},
        schedule__step_size={"kind": "int", "low": 10, "high": 20, "when": {"schedule.kind": ["triangular2"]}},
        schedule__kind={"kind": "categorical", "choices": ["cosine", "triangular2"]},
        teacher__weight={"kind": "float", "low": 0.1, "high": 1, "when": {"method": "mean_teacher"}},
        co_training__agreement={"kind": "float", "low": 0.1, "high": 1, "when": {"method": "co_training"}},
    )
    base = Config(method="mean_teacher").model_dump(mode="json")
    check("study.yaml", space, base)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    kinds = set()
    for _ in range(20):
        chosen = suggest(study.ask(), space, base)
        kinds.add(chosen["schedule.kind"])
        own = "schedule.warmup_epochs" if chosen["schedule.kind"] == "cosine" else "schedule.step_size"
        assert set(chosen) == {"schedule.kind", own, "teacher.weight"}
        config = Config.model_validate(apply(base, chosen))
        assert getattr(config.schedule, own.rpartition(".")[2]) == chosen[own]
        assert config.teacher.weight == chosen["teacher.weight"]
    assert kinds == {"cosine", "triangular2"}


def test_true_is_not_one() -> None:
    space = Parameter.model_validate(
        {"kind": "float", "low": 0, "high": 1, "when": {"inference.flip": [1], "channels.depth": [True]}}
    )
    assert not holds(space, {"inference.flip": True, "channels.depth": True})
    assert holds(space, {"inference.flip": 1, "channels.depth": True})


def test_whole_tables_can_be_chosen_and_a_weight_within_them() -> None:
    mixes = [{"bce": 0.1, "lovasz_hinge": 0.9}, {"bce": 0.1, "lovasz_symmetric": 0.9}]
    space = parameters(
        loss__finish={"kind": "categorical", "choices": mixes},
        loss__finish__bce={"kind": "float", "low": 0.01, "high": 1},
    )
    check("study.yaml", space, BASE)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(8):
        trial = study.ask()
        chosen = suggest(trial, space, BASE)
        # What Optuna keeps stands for the same values.
        assert dict(searched_values(space, trial.params)) == chosen
        finish = Config.model_validate(apply(BASE, chosen)).loss.finish
        mix = chosen["loss.finish"]
        assert isinstance(mix, dict)
        assert finish == {**mix, "bce": chosen["loss.finish.bce"]}


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=5),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
        max_leaves=5,
    )
)
@settings(deadline=None)
def test_choices_come_back(value: Any) -> None:
    parameter = Parameter.model_validate({"kind": "categorical", "choices": [value, "another one"]})
    assert encode(decode(parameter, encode(value))) == encode(value)


@given(st.permutations(["a", "b", "c", "d"]))
@settings(deadline=None)
def test_conditions_come_first(keys: list[str]) -> None:
    waits = dict(pairwise(keys))
    space = {
        key: Parameter.model_validate(
            {"kind": "int", "low": 0, "high": 1, "when": {waits[key]: 1} if key in waits else {}}
        )
        for key in sorted(keys)
    }
    assert order(space) == keys[::-1]


def test_another_kind_of_schedule_keeps_nothing_of_the_bases() -> None:
    chosen = {"schedule.kind": "cosine", "schedule.peak": 2e-3}
    config = Config.model_validate(apply(BASE, chosen))
    assert config.schedule.model_dump()["kind"] == "cosine"
    assert config.schedule.peak == 2e-3
    assert BASE["schedule"]["kind"] == "triangular2"  # the base stays as it was
