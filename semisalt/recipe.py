"""Recipes: the configuration as YAML, read, overridden, written and compared.

A recipe names only what differs from the defaults. An unknown key is an error that names the nearest key.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from semisalt.config import Config, CosineConfig, CyclicConfig
from semisalt.errors import UserError


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML and apply `key=value` overrides (dotted keys, YAML values) on top.

    Raises:
        UserError: unreadable file, an unknown key (the nearest one is named), a value out of its range.
    """
    source = str(path) if path else "--set"
    tree = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(tree, override)
    return build_config(tree, source)


def build_config(tree: Mapping[str, Any], source: str) -> Config:
    """The configuration of a nested table that `source` gave. Raises UserError, naming the source, as `load_config`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        if "space" in tree:
            raise UserError(f"{source}: a study, not a recipe: semisalt study run {source}") from None
        lines = [_explain(problem) for problem in error.errors()]
        raise UserError(f"{source}: " + "\n".join(lines)) from None


def dump_config(config: Config) -> str:
    """YAML of the complete configuration; `load_config` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(requested: Config, stored: Config) -> list[str]:
    """The keys in which two configurations differ, one line each; a requested `auto` agrees with anything."""
    wanted, kept = (dict(_leaves(config.model_dump(mode="json"))) for config in (requested, stored))
    return [
        f"{key}: {kept.get(key)!r} in the run, {wanted.get(key)!r} asked for"
        for key in sorted(wanted.keys() | kept.keys())
        if wanted.get(key) != kept.get(key) and wanted.get(key) != "auto"
    ]


def known_keys() -> list[str]:
    """All dotted keys of the configuration, those of both schedules included."""
    keys: list[str] = []
    for name, field in Config.model_fields.items():
        sections: list[Any] = [CyclicConfig, CosineConfig] if name == "schedule" else [field.annotation]
        for section in sections:
            if isinstance(section, type) and issubclass(section, BaseModel):
                keys += [f"{name}.{key}" for key in section.model_fields]
            else:
                keys.append(name)
    return list(dict.fromkeys(keys))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot read the configuration (it is not UTF-8 text)") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a configuration is a table of keys, this is a {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected key=value, for example training.epochs=40")
    *parents, leaf = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: '{parent}' is a value, not a table")
        node = child
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: '{text}' is not a YAML value") from None


def _explain(problem: Mapping[str, Any]) -> str:
    location = [str(part) for part in problem["loc"] if part not in ("triangular2", "cosine")]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest_key(key, is_table=isinstance(problem['input'], Mapping))}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key + ': ' if key else ''}{message}{shown}"


def _nearest_key(key: str, *, is_table: bool) -> str:
    """The nearest table, or the nearest dotted key: one of the same name in another table first."""
    if is_table:
        return _nearest(key, list(Config.model_fields))
    known = known_keys()
    if key in known:
        return ": it belongs to another schedule.kind"
    namesakes = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    return _nearest(key, namesakes or known)


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
