"""Configuration: a preset, then a TOML file, then `--set key=value`; strict keys, resolved into frozen dataclasses.

Sections and their keys:
    [data]    DataConfig
    [energy]  kind, and the fields of that energy's spec (ebm_ref.specs)
    [train]   the fields of ebm_ref.train.Recipe
    [run]     RunSettings
A preset or a file may add sections [method.NAME]: fields of [train] that hold where the method is NAME, and
[method.NAME.energy], which then takes the place of [energy].

A preset is tuned for its own method. Where another is asked for, by --method or by a later layer, what that one does
not read of the preset's [train] is dropped, and [method.NAME] says what it needs instead. What the asker sets himself
is never dropped: a field that the method does not read is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ebm_ref.contracts import ConfigError, EbmError, RangeError, ShapeError
from ebm_ref.methods import METHODS
from ebm_ref.specs import NetworkSpec
from ebm_ref.train import Recipe

from .settings import ENERGIES, FIELDS, DataConfig, RunSettings

SECTIONS = ("data", "energy", "train", "run")
Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class RunConfig:
    """One run, resolved: nothing is left to a default that could change under it."""

    preset: str
    data: DataConfig
    kind: str
    spec: NetworkSpec
    train: Recipe
    run: RunSettings

    @property
    def until(self) -> int:
        """The step after which the run stops."""
        return self.run.until or self.train.steps

    def identity(self) -> dict[str, Any]:
        """The energy as JSON holds it; a checkpoint belongs to exactly one."""
        identity: dict[str, Any] = json.loads(json.dumps({"kind": self.kind, **asdict(self.spec)}))
        return identity

    def tables(self) -> Tables:
        """The sections as TOML or JSON would hold them."""
        tables = {"data": asdict(self.data), "energy": self.identity(), "train": asdict(self.train)}
        resolved: Tables = json.loads(json.dumps(tables | {"run": asdict(self.run)}))
        return resolved

    def dumps(self) -> str:
        return json.dumps({"preset": self.preset, **self.tables()}, indent=1) + "\n"


# ------------------------------------------------------------------------------------ where values come from


def preset_names() -> list[str]:
    return sorted(f.name.removesuffix(".toml") for f in files(__package__).joinpath("presets").iterdir())


def preset_tables(preset: str) -> Tables:
    """The sections of a preset."""
    names = preset_names()
    if preset not in names:
        raise ConfigError(f"preset: expected one of {', '.join(names)}, found {preset!r}{did_you_mean(preset, names)}")
    return toml_tables(files(__package__).joinpath("presets", f"{preset}.toml").read_text(), f"preset {preset}")


def file_tables(path: Path) -> Tables:
    """The sections of a user's TOML file."""
    try:
        return toml_tables(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found {error}") from error


def toml_tables(text: str, where: str) -> Tables:
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: an integer of 5,000 digits
        raise ConfigError(f"{where}: expected TOML, found {error}") from error
    return known_tables(tables, where)


def known_tables(tables: dict[str, Any], where: str) -> Tables:
    """`tables` themselves, after every section and key proved to be known."""
    for section, table in tables.items():
        if section == "method" and isinstance(table, dict):
            known_methods(table, where)
            continue
        if section not in SECTIONS:
            if not isinstance(table, dict):
                home, name = known_key(section, f"{where}: ")
                raise ConfigError(f"{where}: {name} stands outside a section; write it under [{home}]")
            raise ConfigError(f"{where}: unknown section [{section}]{did_you_mean(section, SECTIONS)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: expected a section [{section}], found a value")
        for key in table:
            known_key(f"{section}.{key}", f"{where}: ")
    return tables


def known_methods(methods: dict[str, Any], where: str) -> None:
    """Raise unless `methods` are sections [method.NAME] with fields of [train]."""
    for name, table in methods.items():
        if name not in METHODS or not isinstance(table, dict):
            raise ConfigError(f"{where}: unknown section [method.{name}]{did_you_mean(name, METHODS)}")
        for key in table:
            if key == "energy" and isinstance(table[key], dict):
                for field in table[key]:
                    known_key(f"energy.{field}", f"{where}: ")
            elif key == "method" or key not in METHODS[name].fields:
                raise ConfigError(f"{where}: [method.{name}] {key}: method {name} does not read it")


def set_tables(assignments: Iterable[str]) -> Tables:
    """The sections that `--set key=value ...` makes; values are TOML, a bare word is a string."""
    tables: Tables = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected key=value, found {assignment!r}")
        section, name = known_key(key.strip())
        if name in tables.setdefault(section, {}):
            raise ConfigError(f"--set: {section}.{name} is given twice")
        tables[section][name] = value_read(text.strip())
    return tables


def value_read(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def known_key(key: str, where: str = "") -> tuple[str, str]:
    """(section, name) of `section.name`, or of a bare name that one section alone has."""
    every = [f"{section}.{name}" for section in SECTIONS for name in section_keys(section)]
    matches = [full for full in every if key in (full, full.partition(".")[2])]
    if len(matches) != 1:
        why = f"is ambiguous: {' or '.join(matches)}" if matches else f"is unknown{did_you_mean(key, every)}"
        raise ConfigError(f"{where}key {key!r} {why}")
    section, _, name = matches[0].partition(".")
    return section, name


def section_keys(section: str) -> list[str]:
    if section == "energy":
        return ["kind", *dict.fromkeys(f.name for spec in ENERGIES.values() for f in fields(spec))]
    return [f.name for f in fields({"data": DataConfig, "train": Recipe, "run": RunSettings}[section])]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no known word is close."""
    names = {full.partition(".")[2] or full: full for full in known} | {full: full for full in known}
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]}?" if close else f"; known: {', '.join(known)}" if len(names) < 8 else ""


def merge(*layers: Tables) -> Tables:
    """Later layers win, key by key; one that names another energy.kind starts [energy] afresh.

    Of a layer whose own method another one overrules, what the other does not read is dropped.
    """
    methods = [layer["train"]["method"] for layer in layers if "method" in layer.get("train", {})]
    layers = tuple(layer_read(layer, methods[-1] if methods else Recipe.method) for layer in layers)
    kinds = [layer.get("energy", {}).get("kind") for layer in layers]
    last = max((i for i, kind in enumerate(kinds) if kind is not None), default=0)
    afresh = any(kind not in (None, kinds[last]) for kind in kinds)
    layers = tuple(layer | {"energy": {}} if afresh and i < last else layer for i, layer in enumerate(layers))
    return {section: {k: v for layer in layers for k, v in layer.get(section, {}).items()} for section in SECTIONS}


def layer_read(layer: Tables, method: Any) -> Tables:
    """The layer as `method` reads it: its [train] with its [method.NAME] laid over it."""
    if not isinstance(method, str) or method not in METHODS:
        return layer  # refused where the recipe is made
    train = dict(layer.get("train", {}))
    if train.get("method", method) != method:
        train = {key: value for key, value in train.items() if key in METHODS[method].fields}
    own = dict(layer.get("method", {}).get(method, {}))
    network = own.pop("energy", None)
    return layer | {"train": train | own} | ({} if network is None else {"energy": network})


# -------------------------------------------------------------------------------------------- resolving


def resolve(preset: str, tables: Tables, shape: tuple[int, ...]) -> RunConfig:
    """The run that `tables` describe. `shape` is the data's sample shape; energy.shape must agree.

    Raises ConfigError on a wrong type or an unknown key, RangeError on a number outside its interval.
    """
    energy = dict(tables["energy"])
    kind = energy.pop("kind", "MLPEnergy")
    if not isinstance(kind, str) or kind not in ENERGIES:
        raise ConfigError(f"energy.kind: found {kind!r}{did_you_mean(str(kind), ENERGIES)}")
    known = [f.name for f in fields(ENERGIES[kind])]
    for key in energy:
        if key not in known:
            raise ConfigError(f"energy.{key}: {kind} has no such field{did_you_mean(key, known)}")
    spec = section_read(ENERGIES[kind], "energy", {"shape": shape} | energy)
    if spec.shape != shape:
        raise ShapeError(f"energy.shape: the data hold samples of shape {shape}, found {spec.shape}")
    run = section_read(RunSettings, "run", tables["run"])
    train = section_read(Recipe, "train", tables["train"])
    check_kind(kind, train.method)
    if getattr(spec, "out_channels", None) is not None:
        raise ConfigError(f"energy.out_channels: follows from the data, found {spec.out_channels}")
    if run.rollback_gap is not None and "gap" not in METHODS[train.method].records:
        raise RangeError(f"[run] rollback_gap: method {train.method} has no energy gap, found {run.rollback_gap}")
    if run.until > train.steps:  # a longer run than the recipe's: its schedule is laid out over all of it
        train = replace(train, steps=run.until)
    data = section_read(DataConfig, "data", tables["data"])
    return RunConfig(preset, data, kind, spec, train, run)


def check_kind(kind: str, method: str) -> None:
    """Raise unless the method trains such a network."""
    if (METHODS[method].model != "energy") != (kind in FIELDS):
        wanted = f"a field, {' or '.join(FIELDS)}" if kind not in FIELDS else "an energy"
        raise ConfigError(f"energy.kind: method {method} trains {wanted}, found {kind}")


def section_read(cls: type[Any], section: str, table: dict[str, Any]) -> Any:
    """An instance of the dataclass `cls` from a table, every value of the declared type."""
    hints = get_type_hints(cls)
    values = {}
    for field in fields(cls):
        if field.name in table:
            values[field.name] = convert(f"{section}.{field.name}", table[field.name], hints[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{section}.{field.name}: expected a value, found none")
    try:
        return cls(**values)
    except EbmError as error:
        raise type(error)(f"[{section}] {error}") from error


def convert(where: str, value: Any, hint: Any) -> Any:
    """`value` as the annotated type: int, float, bool, str, tuples of them, or None (`none` on the command line)."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if NoneType in options and value in (None, "none"):
        return None
    for option in options:
        if get_origin(option) is tuple and isinstance(value, (list, tuple)):
            inner = get_args(option)
            kinds = (inner[0],) * len(value) if inner[1:] == (...,) else inner
            if len(kinds) == len(value):
                return tuple(convert(f"{where}[{i}]", v, k) for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ConfigError(f"{where}: expected float, found an integer beyond the largest") from None
        if option in (int, str, bool) and type(value) is option:
            if option is str and "\0" in value:
                raise ConfigError(f"{where}: expected text without NUL, found {value!r}")
            return value
    wanted = " or ".join("none" if o is NoneType else getattr(o, "__name__", str(o)) for o in options)
    raise ConfigError(f"{where}: expected {wanted}, found {value!r}")


def config_read(path: Path) -> tuple[str, Tables]:
    """(preset, sections) of a run folder's config.json."""
    try:
        content = json.loads(path.read_bytes())
        preset = content.pop("preset")
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a run's configuration, found nothing") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a run's configuration, found a damaged file ({error})") from error
    tables = merge(known_tables(content, str(path)))
    method = tables["train"].get("method")
    if isinstance(method, str) and method in METHODS:  # older runs wrote down what their method did not read
        kept = METHODS[method].fields
        unread = {field.name: field.default for field in fields(Recipe) if field.name not in kept}
        tables["train"] = {key: unread.get(key, value) for key, value in tables["train"].items()}
    return str(preset), tables
