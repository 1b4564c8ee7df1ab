"""What a study was asked for: the YAML a person writes, and what it came to once it was begun.

The resolved request lies in the study's directory. A study that goes on must be asked for the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.recipe import differences, load_config
from semisalt.studies.space import Parameter

Objective = Literal["score", "seconds", "parameters"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SamplerConfig(_Section):
    """The tree-structured Parzen estimator (Bergstra et al. 2011), every default that decides a result spelled out."""

    startup: int = Field(10, ge=0, description="Trials at random before the estimator has a say")
    candidates: int = Field(24, ge=1, description="Of which the estimator takes the best")
    multivariate: bool = Field(True, description="Keys are drawn together, not each for itself")
    constant_liar: bool = Field(True, description="Running trials count as bad ones: workers spread out")


class NoPruner(_Section):
    kind: Literal["none"] = "none"


class MedianPruner(_Section):
    """A trial ends where its best epoch of a fold lies under the median of the others at that epoch."""

    kind: Literal["median"] = "median"
    startup: int = Field(5, ge=0, description="Finished trials before any is pruned")
    warmup: int = Field(0, ge=0, description="Epochs of each trial before it can be pruned")


class HyperbandPruner(_Section):
    """Hyperband (Li et al. 2018): at each rung a trial goes on if it is among the best of its bracket."""

    kind: Literal["hyperband"] = "hyperband"
    shortest: int = Field(1, ge=1, description="Epochs before the first rung")
    reduction: int = Field(3, ge=2, description="One of so many goes on")


Pruner = Annotated[NoPruner | MedianPruner | HyperbandPruner, Field(discriminator="kind")]


class _Search(_Section):
    """What the written and the resolved request share."""

    level: Literal["training", "threshold"] = "training"
    seed: int = Field(0, ge=0, description="Of the search; the recipe has its own")
    holdout: float = Field(0.1, ge=0, lt=1, description="Share of the labelled tiles that the search never sees")
    folds: tuple[int, ...] | None = Field(None, description="Which folds a trial trains; null: all")
    objectives: tuple[Objective, ...] = ("score",)
    sampler: SamplerConfig = SamplerConfig()
    pruner: Pruner = NoPruner()
    heartbeat: int = Field(10, ge=1, description="Seconds between a worker's signs of life; six missed: it is dead")
    space: dict[str, Parameter]

    @field_validator("objectives")
    @classmethod
    def _score_first(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not objectives or objectives[0] != "score" or len(set(objectives)) < len(objectives):
            raise ValueError(f"the first objective is 'score', and each is named once; got {list(objectives)}")
        return objectives

    @model_validator(mode="after")
    def _possible(self) -> "_Search":
        if len(self.objectives) > 1 and self.pruner.kind != "none":
            raise ValueError("a trial of several objectives cannot be pruned: set pruner to {kind: none}")
        if self.level == "threshold" and (self.objectives != ("score",) or self.pruner.kind != "none" or self.folds):
            raise ValueError("a study of level threshold has the objective 'score' alone, no pruner and no folds")
        return self


class StudyFile(_Search):
    """The YAML that a person writes."""

    trials: int = Field(50, ge=1, description="How many in all, over all workers and continuations")
    config: str | None = Field(None, description="The base recipe, a path relative to this file; null: the defaults")
    set: dict[str, Any] = Field({}, description="Overrides of the base recipe, by dotted key")
    run: str | None = Field(None, description="The finished run whose predictions are searched (level threshold)")

    @model_validator(mode="after")
    def _has_a_source(self) -> "StudyFile":
        if self.level == "threshold" and (self.config or self.set):
            raise ValueError("a study of level threshold trains nothing: leave out config and set")
        if self.level == "training" and self.run:
            raise ValueError("run is for studies of level threshold; a training starts from config")
        return self


class StudyRequest(_Search):
    """The resolved request: rerunning it reproduces the study.

    Attributes:
        name: of the study, as its storage knows it.
        storage: the URL of a database; None: SQLite in the study's directory.
        recipe: the base recipe, settled and complete, as `Config.model_dump` gives it.
        data: path, fingerprint, and the numbers of labelled and of holdout tiles.
        run: the run whose predictions are searched (level threshold).
    """

    name: str
    storage: str | None = None
    recipe: dict[str, Any]
    data: dict[str, Any]
    run: str | None = None

    @property
    def base(self) -> Config:
        """The base recipe."""
        return Config.model_validate(self.recipe)

    @property
    def wanted_folds(self) -> list[int]:
        """The folds that a trial trains, in their order."""
        return list(self.folds) if self.folds is not None else list(range(self.base.data.folds))


def read_file(path: Path) -> StudyFile:
    """Read a study's YAML. Raises UserError, naming file, key and what would do."""
    return StudyFile.model_validate(_checked(path, StudyFile))


def read_request(path: Path) -> StudyRequest:
    """Read a resolved request. Raises UserError where it is none."""
    return StudyRequest.model_validate(_checked(path, StudyRequest))


def write_request(path: Path, request: StudyRequest) -> None:
    """Write a resolved request."""
    tree = request.model_dump(mode="json")
    write_text(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def base_recipe(path: Path, file: StudyFile) -> Config:
    """The base recipe that a study's YAML at `path` names, its holdout kept out. Raises UserError as load_config."""
    given = file.set.get("data.holdout")
    if given is not None:
        raise UserError(f"{path}: set: data.holdout: say it as the study's own key, holdout")
    overrides = [f"{key}={json.dumps(value)}" for key, value in file.set.items()]
    config = load_config(path.parent / file.config if file.config else None, overrides)
    return config.model_copy(update={"data": config.data.model_copy(update={"holdout": file.holdout})})


def changes(asked: StudyRequest, kept: StudyRequest) -> list[str]:
    """In what a request differs from the one that a study was begun with, one line each."""
    lines = [f"recipe: {line}" for line in differences(asked.base, kept.base)] if asked.recipe != kept.recipe else []
    for key in type(asked).model_fields:
        if key in ("recipe", "data", "space", "heartbeat"):
            continue
        lines += _compare(key, getattr(kept, key), getattr(asked, key))
    for key in sorted((kept.data.keys() | asked.data.keys()) - {"path"}):
        lines += _compare(f"data: {key}", kept.data.get(key), asked.data.get(key))
    for key in sorted(kept.space.keys() | asked.space.keys()):
        lines += _compare(f"space: {key}", _short(kept.space.get(key)), _short(asked.space.get(key)))
    return lines


def _compare(key: str, kept: Any, asked: Any) -> list[str]:
    return [] if kept == asked else [f"{key}: {kept!r} in the study, {asked!r} asked for"]


def _short(parameter: Parameter | None) -> dict[str, Any] | None:
    return None if parameter is None else parameter.model_dump(mode="json", exclude_defaults=True)


def _checked(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """The YAML's tree, which `kind` takes."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the study ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a study is a table of keys")
    if tree and "space" not in tree and tree.keys() <= Config.model_fields.keys():
        raise UserError(f"{path}: a recipe, not a study: a study names it under config, and what to search under space")
    try:
        kind.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: " + "\n".join(_explain(problem, kind) for problem in error.errors())) from None
    return tree


def _explain(problem: Mapping[str, Any], kind: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; known: {', '.join(kind.model_fields)}"
    if problem["type"] == "missing":
        return f"the key '{key}' is missing"
    return f"{key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
