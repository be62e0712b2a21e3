"""An extra that is absent, or half installed, is named together with its cure."""

import pytest

from ebm_fast import extras
from ebm_ref.contracts import MissingExtraError


def test_extras__names_the_extra(monkeypatch):
    with pytest.raises(MissingExtraError, match=r'pip install "ebm-oracle\[verify\]"'):
        extras.require("hypothesis_that_is_absent.strategies", "verify")
    assert extras.require("json.decoder", "verify").__name__ == "json.decoder"


def test_extras__a_half_installed_extra_names_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_part_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="a_part_that_is_absent, which half_installed needs, is not installed"):
        extras.require("half_installed", "verify")
