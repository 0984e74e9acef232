"""Names of the shipped assets, resolved to paths."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lm_eval_sts.errors import DatasetError, choices

ASSETS: Final = Path(__file__).parent / "assets"
SFT_SUFFIX: Final = ".parquet"
_FOLDERS: Final = ("model", "sae", "data", "sft")


def asset_names() -> list[str]:
    """Lists every name that `asset` takes."""
    sets = sorted(path.stem for path in (ASSETS / "sft").glob(f"*{SFT_SUFFIX}"))
    return [f"micro/{folder}" for folder in _FOLDERS] + [f"micro/sft/{name}" for name in sets]


def asset(name: str) -> Path:
    """Resolves an asset's name.

    Args:
        name: ``micro/model``, ``micro/sae``, ``micro/data``, ``micro/sft`` (folders) or ``micro/sft/<set>`` (a file).

    Returns:
        The path of the folder or file in the installed package.

    Raises:
        DatasetError: There is no such asset; names what exists.
    """
    names = asset_names()
    if name not in names:
        raise DatasetError(f"no shipped asset {name!r}: {choices(name, names)}")
    parts = name.split("/")
    path = ASSETS / "sft" / f"{parts[2]}{SFT_SUFFIX}" if len(parts) == 3 else ASSETS / parts[1]
    if not path.exists():
        raise DatasetError(f"asset {name} is missing from the installation ({path}): reinstall the package")
    return path
