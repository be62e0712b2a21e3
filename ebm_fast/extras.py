"""Optional libraries, each behind an extra whose name the error says."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ebm_ref.contracts import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """The imported `module`; where its library is absent, `MissingExtraError` says what to install.

    A library that is present and fails on its own imports raises its own error.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != library:
            raise
        raise MissingExtraError(f'{library} is not installed: pip install "ebm-oracle[{extra}]"') from error
