"""Configuration: every key is known, every value has its type, and what was resolved is written down."""

import json
import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from ebm_fast.app import config as config_module
from ebm_fast.app.config import (
    ENERGIES,
    DataConfig,
    RunSettings,
    config_read,
    file_tables,
    merge,
    preset_names,
    preset_tables,
    resolve,
    set_tables,
    value_read,
)
from ebm_fast.app.data import SHAPES
from ebm_ref.contracts import ConfigError, EbmError, RangeError, ShapeError
from ebm_ref.train import Recipe


def resolved(*assignments: str, preset: str = "toy2d"):
    return resolve(preset, merge(preset_tables(preset), set_tables(assignments)), SHAPES[preset])


@pytest.mark.parametrize("preset", preset_names())
def test_presets__resolve_and_are_what_their_file_says(preset: str) -> None:
    config = resolve(preset, merge(preset_tables(preset)), SHAPES[preset])
    stated = tomllib.loads(files("ebm_fast.app").joinpath("presets", f"{preset}.toml").read_text())
    methods = stated.pop("method", {})
    stated["train"] |= methods.get(stated["train"]["method"], {})  # what the preset's own method has of its own
    for section, table in stated.items():
        for key, value in table.items():
            assert config.tables()[section][key] == (None if value == "none" else value)
    for method, table in methods.items():
        tables = resolved(f"train.method={method}", preset=preset).tables()
        other, network = tables["train"], table.pop("energy", {})
        assert {key: tables["energy"][key] for key in network} == network
        assert {key: other[key] for key in table} == {k: None if v == "none" else v for k, v in table.items()}


def test_preset_names__are_the_six() -> None:
    assert preset_names() == ["breast_cancer", "digits", "iris", "mnist5k", "toy2d", "wine"]


def test_resolve__layers_win_in_order(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[train]\nlr = 0.5\nbatch = 32\n[energy]\nhidden = [5]\n")
    layers = preset_tables("toy2d"), file_tables(tmp_path / "mine.toml"), set_tables(["batch=16", "run.seed=4"])
    config = resolve("toy2d", merge(*layers), (2,))
    assert (config.train.lr, config.train.batch, config.run.seed) == (0.5, 16, 4)
    assert config.identity()["hidden"] == [5]
    assert config.train.K == resolved().train.K


def test_resolve__another_kind_of_energy_starts_afresh() -> None:
    config = resolved("energy.kind=MLPEnergy", preset="digits")
    assert config.kind == "MLPEnergy" and "channels" not in config.identity()
    assert resolved("energy.kind=ConvEnergy", "channels=[8,8,8]", preset="digits").spec.strides == (1, 2, 2)


def test_resolve__round_trip_through_the_run_folder(tmp_path: Path) -> None:
    config = resolved("train.clip=0.25", "train.box=none", "start=data_noise", "lr=1", "data.toy=two_moons")
    (tmp_path / "config.json").write_text(config.dumps())
    preset, tables = config_read(tmp_path / "config.json")
    assert resolve(preset, tables, (2,)) == config
    assert json.loads(config.dumps())["train"]["box"] is None and config.train.clip == 0.25
    assert type(config.train.lr) is float


def test_known_keys__every_field_of_every_section_can_be_set() -> None:
    for section, cls in (("data", DataConfig), ("train", Recipe), ("run", RunSettings)):
        for field in fields(cls):
            assert set_tables([f"{section}.{field.name}=1"]) == {section: {field.name: 1}}
    for spec in ENERGIES.values():
        for field in fields(spec):
            assert set_tables([f"energy.{field.name}=1"]) == {"energy": {field.name: 1}}


UNKNOWN = {
    "train.etaa=1": "did you mean train.eta",
    "etaa=1": "did you mean train.eta",
    "energy.hiden=[3]": "did you mean energy.hidden",
    "run.sede=1": "did you mean run.seed",
    "trian.eta=1": "did you mean train.eta",
    "banana=1": "unknown",
    "eta": "key=value",
    "=3": "unknown",
}


@pytest.mark.parametrize("assignment", UNKNOWN)
def test_set_tables__unknown_key_is_refused_with_a_suggestion(assignment: str) -> None:
    with pytest.raises(ConfigError, match=UNKNOWN[assignment]):
        set_tables([assignment])


def test_set_tables__key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="train.eta is given twice"):
        set_tables(["eta=1", "train.eta=2"])


def test_known_key__bare_name_of_two_sections_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "section_keys", lambda section: ["n", section])
    with pytest.raises(ConfigError, match="ambiguous: data.n or energy.n"):
        set_tables(["n=1"])
    assert set_tables(["run.n=1"]) == {"run": {"n": 1}}


def test_value_read__is_toml_or_a_bare_word() -> None:
    cases = {
        "1": 1,
        "1e-3": 1e-3,
        "[1, 2]": [1, 2],
        "true": True,
        '"a b"': "a b",
        "cosine": "cosine",
        "a/b.npy": "a/b.npy",
    }
    assert {text: value_read(text) for text in cases} == cases


BAD_VALUES = {
    "train.K=1.5": ConfigError,
    "train.K=true": ConfigError,
    "train.eta=[1]": ConfigError,
    "train.eta=true": ConfigError,
    "train.eta=fast": ConfigError,
    "train.box=[1]": ConfigError,
    "train.box=[1, 2, 3]": ConfigError,
    "energy.hidden=64": ConfigError,
    "energy.hidden=[64, 1.5]": ConfigError,
    "energy.layer_norm=1": ConfigError,
    "energy.kind=MLPEnrgy": ConfigError,
    "energy.channels=[8]": ConfigError,
    "energy.kind=[1]": ConfigError,
    "energy.shape=3": ConfigError,
    "energy.shape=[3]": ShapeError,
    "energy.hidden=[]": EbmError,
    "energy.activation=swish": RangeError,
    "train.eta=-1": RangeError,
    "train.eta=nan": RangeError,
    "train.sigma=inf": RangeError,
    "train.K=-1": RangeError,
    "train.batch=0": RangeError,
    "train.box=[2, 1]": RangeError,
    "train.method=pdc": RangeError,
    "train.lr=-1": RangeError,
    "train.steps=-1": RangeError,
    "train.rho=1.5": RangeError,
    "train.clip=0": RangeError,
    "train.M=0": RangeError,
    "train.alpha=-1": RangeError,
    "run.seed=-1": RangeError,
    "run.seed=18446744073709551616": RangeError,
    "run.dtype=float16": RangeError,
    "run.save_every=0": RangeError,
    "data.name=cifar": RangeError,
    "data.n=0": RangeError,
}


@pytest.mark.parametrize("assignment", BAD_VALUES)
def test_resolve__bad_value_is_refused_and_named(assignment: str) -> None:
    with pytest.raises(BAD_VALUES[assignment]) as caught:
        resolved(assignment)
    assert assignment.partition("=")[0].partition(".")[2] in str(caught.value)


BAD_FILES = {
    "eta = 1\n": r"eta stands outside a section; write it under \[train\]",
    "[train]\netaa = 1\n": "did you mean train.eta",
    "[trian]\neta = 1\n": "did you mean train",
    "[train\n": "expected TOML",
    "train = 3\n": "expected a section",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_file_tables__bad_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=BAD_FILES[text]):
        file_tables(tmp_path / "bad.toml")


def test_file_tables__missing_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "x.toml"):
        with pytest.raises(ConfigError):
            file_tables(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"preset": "toy2d", "tran": {}}'])
def test_config_read__damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError):
        config_read(tmp_path / "config.json")


def test_preset_tables__unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean digits"):
        preset_tables("digit")
