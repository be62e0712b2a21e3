"""Optional libraries, each behind an extra whose name the error says."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ebm_ref.contracts import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """The imported `module`; where its library, or one it needs, is absent, MissingExtraError says what to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        absent = (error.name or library).partition(".")[0]
        what = library if absent == library else f"{absent}, which {library} needs,"
        raise MissingExtraError(f'{what} is not installed: pip install "ebm-oracle[{extra}]"') from error
