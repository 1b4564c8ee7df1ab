"""The space of a study: which keys are searched, in which ranges, under which conditions."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.recipe import known_keys

Choice = bool | int | float | str | None | dict[str, Any] | list[Any]
Space = Mapping[str, "Parameter"]

_TILES = "it decides which tiles are learned from and scored, and trials would not be comparable"
# Sections and keys that are not searched, and why not.
_FIXED = {
    "seed": _TILES,
    "data": _TILES,
    "pseudo": "a trial trains by semisalt baseline, teacher or cotrain, none of which makes pseudo-labels",
}


class Parameter(BaseModel):
    """What one key may be.

    Attributes:
        kind: of its values.
        low, high: of numbers, both included.
        log: numbers are drawn evenly in their logarithm.
        step: numbers are `low` plus a multiple of this.
        choices: of a categorical: scalars, or whole tables such as a mix of losses.
        when: other keys and the values (one or a list) that they must have for this key to be searched at all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["float", "int", "categorical"]
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: tuple[Choice, ...] | None = None
    when: dict[str, tuple[Choice, ...]] = {}

    @field_validator("when", mode="before")
    @classmethod
    def _lists(cls, when: Any) -> Any:
        """A single value is a list of one."""
        if not isinstance(when, Mapping):
            return when
        return {key: value if isinstance(value, list | tuple) else (value,) for key, value in when.items()}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Parameter":
        if self.kind == "categorical":
            if not self.choices or self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("a categorical has choices, and nothing else")
            if len({encode(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError(f"choices must be different: {list(self.choices)}")
            return self
        if self.choices is not None or self.low is None or self.high is None:
            raise ValueError(f"a range of kind {self.kind} has low and high, and no choices")
        numbers = [value for value in (self.low, self.high, self.step) if value is not None]
        if self.kind == "int" and not all(isinstance(value, int) for value in numbers):
            raise ValueError(f"a range of kind int has whole numbers, not {numbers}")
        try:
            self.distribution()
        except ValueError as error:
            raise ValueError(str(error)) from None
        return self

    def distribution(self) -> BaseDistribution:
        """As Optuna has it. Raises ValueError for an impossible range."""
        if self.kind == "categorical":
            return CategoricalDistribution([encode(choice) for choice in self.choices or ()])
        low, high = self.low or 0, self.high or 0
        if self.kind == "int":
            return IntDistribution(int(low), int(high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(low), float(high), log=self.log, step=self.step)

    def ends(self) -> tuple[Choice, ...]:
        """The values that show whether the whole range is possible."""
        return self.choices or (self.low, self.high)


def encode(value: Choice) -> bool | int | float | str | None:
    """As Optuna keeps a choice: tables and lists as JSON text."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def decode(parameter: Parameter, value: Any) -> Choice:
    """The choice that Optuna's value stands for; numbers are themselves."""
    if parameter.kind != "categorical":
        return value  # type: ignore[no-any-return]
    return next(choice for choice in parameter.choices or () if encode(choice) == value and _same_type(choice, value))


def suggest(trial: Trial, space: Space, base: Mapping[str, Any]) -> dict[str, Choice]:
    """Let a trial choose a value for each key whose conditions hold; returns them by key.

    A condition's key that is not searched has its value from `base`, the nested recipe.
    """
    chosen: dict[str, Choice] = {}
    for key in order(space):
        parameter = space[key]
        fixed = {name: lookup(base, name) for name in parameter.when if name not in space}
        if holds(parameter, {**fixed, **chosen}):
            chosen[key] = decode(parameter, _suggested(trial, key, parameter))
    return chosen


def holds(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Whether a parameter's conditions hold; a condition on a key without a value does not."""
    return all(
        name in values and any(_equal(values[name], wanted) for wanted in allowed)
        for name, allowed in parameter.when.items()
    )


def apply(base: Mapping[str, Any], chosen: Mapping[str, Choice]) -> dict[str, Any]:
    """The nested recipe with the chosen values; whole tables first, then what lies in them.

    Another kind of schedule keeps nothing of the base's: the two have different keys.
    """
    tree: dict[str, Any] = json.loads(json.dumps(base))
    kind = chosen.get("schedule.kind")
    if kind is not None and kind != lookup(base, "schedule.kind"):
        tree["schedule"] = {}
    for key in sorted(chosen, key=lambda name: name.count(".")):
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            child = node.get(parent)
            node[parent] = node = dict(child) if isinstance(child, dict) else {}
        node[leaf] = chosen[key]
    return tree


def order(space: Space) -> list[str]:
    """The keys, each after those that its conditions name. Raises UserError for conditions in a circle."""
    done: dict[str, None] = {}
    waiting = dict(space)
    while waiting:
        ready = [key for key, parameter in waiting.items() if not set(parameter.when) & waiting.keys()]
        if not ready:
            raise UserError(f"space: the conditions of {', '.join(waiting)} wait for each other")
        for key in ready:
            done[key] = None
            del waiting[key]
    return list(done)


def check(source: str, space: Space, base: Mapping[str, Any]) -> None:
    """Refuse keys and values that the configuration does not have, in ranges and in conditions, and a space of which
    the recipe lets nothing be searched.

    Raises UserError, naming file and key.
    """
    if not space:
        raise UserError(f"{source}: space: there is nothing to search; name a key and its range")
    order(space)
    for key, parameter in space.items():
        _check_key(f"{source}: space: {key}", key)
        for name, allowed in parameter.when.items():
            where = f"{source}: space: {key}: when: {name}"
            _check_key(where, name, searched=False)
            for value in allowed:
                problem = _no_choice(space, name, value) or _refusal(base, space, name, value)
                if problem:
                    raise UserError(f"{where}: {value!r} is no value of it: {problem}")
        for end in parameter.ends():
            problem = _refusal(base, space, key, end)
            if problem:
                raise UserError(f"{source}: space: {key}: {end!r} is out of range: {problem}")
    # Whoever waits for searched keys waits, in the end, for one that waits for none.
    first = [parameter for parameter in space.values() if not parameter.when.keys() & space.keys()]
    if not any(holds(parameter, {name: lookup(base, name) for name in parameter.when}) for parameter in first):
        needed = ", ".join(sorted({name for parameter in first for name in parameter.when}))
        raise UserError(
            f"{source}: space: no key is ever searched: with the recipe's {needed} no condition (when) holds"
        )


def lookup(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of a nested recipe; None where there is none."""
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _suggested(trial: Trial, key: str, parameter: Parameter) -> Any:
    distribution = parameter.distribution()
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, log=parameter.log, step=distribution.step)
    assert isinstance(distribution, FloatDistribution)  # noqa: S101
    return trial.suggest_float(key, distribution.low, distribution.high, log=parameter.log, step=distribution.step)


def _check_key(where: str, key: str, *, searched: bool = True) -> None:
    section = key.partition(".")[0]
    if searched and section in _FIXED:
        raise UserError(f"{where}: {_FIXED[section]}: leave it out")
    known = [name for name in known_keys() if name.partition(".")[0] not in (_FIXED if searched else ())]
    if key in known or any(key.startswith(f"{name}.") for name in ("loss.start", "loss.finish")):
        return
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    raise UserError(f"{where}: unknown key" + (f"; did you mean '{close[0]}'?" if close else ""))


def _when(space: Space, key: str) -> Mapping[str, tuple[Choice, ...]]:
    """A key's conditions; one that is not searched has none."""
    return space[key].when if key in space else {}


def _no_choice(space: Space, key: str, value: Choice) -> str | None:
    """Why a searched key never has a value; None if it may, or is not searched."""
    choices = space[key].choices if key in space else None
    if choices is None or any(_equal(value, choice) for choice in choices):
        return None
    return f"the space has {', '.join(map(repr, choices))}"


def _refusal(base: Mapping[str, Any], space: Space, key: str, value: Choice) -> str | None:
    """Why the configuration does not take a key's value, whatever the other searched keys are; None if it may."""
    conditions = {name: allowed[0] for name, allowed in _when(space, key).items()}
    try:
        Config.model_validate(apply(base, {**conditions, key: value}))
    except ValidationError as error:
        for problem in error.errors():
            location = [str(part) for part in problem["loc"] if part not in ("triangular2", "cosine")]
            if _to_blame(location, space, key):
                return str(problem["msg"]).removeprefix("Value error, ")
    return None


def _to_blame(location: Sequence[str], space: Space, key: str) -> bool:
    """Whether a problem at `location` is a key's own: it lies there, or nothing else in that table is searched.

    What depends on another searched key, too, is a trial's own matter.
    """
    own = key.split(".")
    if list(location[: len(own)]) == own:
        return True
    if own[: len(location)] != list(location):
        return False
    if ".".join(location) in ("loss.start", "loss.finish"):  # a weight is judged with its whole table
        return True
    others = space.keys() - {key} - _when(space, key).keys()
    return not any(name.split(".")[: len(location)] == list(location) for name in others)


def _equal(value: Any, wanted: Any) -> bool:
    return _same_type(value, wanted) and bool(value == wanted)


def _same_type(value: Any, other: Any) -> bool:
    """True is not 1."""
    return isinstance(value, bool) == isinstance(other, bool)


def searched_values(space: Space, params: Mapping[str, Any]) -> Iterator[tuple[str, Choice]]:
    """A trial's parameters as the configuration has them."""
    for key, value in params.items():
        if key in space:
            yield key, decode(space[key], value)
