"""Where an SAE comes from: a SAELens release, a hub repository, or a local folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval_sts.errors import SaeError
from lm_eval_sts.records import UNKNOWN

if TYPE_CHECKING:
    from sae_lens import SAE

_HOW_TO_LIST = (
    'list them with `python -c "from sae_lens.loading.pretrained_saes_directory import '
    'get_pretrained_saes_directory as d; print(*d())"`'
)


class HubSource(NamedTuple):
    """An SAE on the hub, downloaded or in the local hub cache.

    Attributes:
        release: SAELens release, or a hub repository that is none.
        sae_id: its id there.
    """

    release: str
    sae_id: str


def parse_spec(spec: str) -> HubSource | Path:
    """Reads what a user gives as an SAE.

    Args:
        spec: a local folder, ``release/sae_id``, or ``org/repository/path``.

    Raises:
        SaeError: if it is none of these; the message lists near matches.
    """
    spec = spec.strip()
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():
        return _checked(spec, folder)
    if spec.startswith((".", "~", os.sep)) or folder.is_absolute():
        raise SaeError(f"SAE folder {spec!r} does not exist")
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    release = _longest_prefix(spec, directory)
    if release is not None:
        return _in_release(release, spec[len(release) + 1 :], list(directory[release].saes_map))
    repository = _longest_prefix(spec, {entry.repo_id for entry in directory.values()})
    if repository is not None:
        return _in_repository(repository, spec[len(repository) + 1 :])
    parts = [part for part in spec.split("/") if part]
    near = difflib.get_close_matches(parts[0] if parts else "", directory, n=3, cutoff=0.7)
    if len(parts) < 3 or near:
        hint = f"near: {', '.join(near)}" if near else f"{len(directory)} are known"
        raise SaeError(
            f"SAE {spec!r}: {parts[0] if parts else ''!r} is not a SAELens release ({hint}); give "
            f"release/sae_id, org/repository/path, or a local folder; {_HOW_TO_LIST}"
        )
    return HubSource("/".join(parts[:2]), "/".join(parts[2:]))


def _longest_prefix(spec: str, names: Iterable[str]) -> str | None:
    fitting = [name for name in names if spec == name or spec.startswith(name + "/")]
    return max(fitting, key=len, default=None)


def _checked(spec: str, folder: Path) -> Path:
    from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME

    for name in (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME):
        if not (folder / name).is_file():
            inside = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(SAE_CFG_FILENAME))
            hint = f" (there is one in {', '.join(inside[:3])})" if inside and name == SAE_CFG_FILENAME else ""
            raise SaeError(f"SAE folder {spec!r} has no {name}{hint}: give a folder written by SAELens' save_model")
    return folder


def _in_release(release: str, sae_id: str, known: list[str]) -> HubSource:
    if sae_id in known:
        return HubSource(release, sae_id)
    near = difflib.get_close_matches(sae_id, known, n=4, cutoff=0.3) or known[:4]
    what = f"has no SAE {sae_id!r}" if sae_id else "is a release, not an SAE: add an id"
    raise SaeError(
        f"SAELens release {release!r} {what}; near, of {len(known)}: {', '.join(near)}; "
        f"give for example {release}/{near[0]}"
    )


def _in_repository(repository: str, path: str) -> HubSource:
    """An SAE given by its hub repository: its release knows the format and the metadata."""
    from sae_lens.loading.pretrained_saes_directory import (
        get_pretrained_saes_directory,
        get_releases_for_repo_id,
    )

    directory = get_pretrained_saes_directory()
    known: list[str] = []
    for release in get_releases_for_repo_id(repository):
        for sae_id, folder in directory[release].saes_map.items():
            if path in (sae_id, folder):
                return HubSource(release, sae_id)
            known.append(sae_id)
    if path and all(directory[r].conversion_func is None for r in get_releases_for_repo_id(repository)):
        return HubSource(repository, path)  # SAELens' own format: a folder its directory does not list
    near = difflib.get_close_matches(path, known, n=4, cutoff=0.3) or known[:4]
    raise SaeError(f"repository {repository!r} has no SAE {path!r} that SAELens knows; near: {', '.join(near)}")


def load_named(spec: str) -> tuple[SAE[Any], str]:
    """Loads an SAE with SAELens, in float32, on the CPU.

    Args:
        spec: as of :func:`parse_spec`.

    Returns:
        The SAE, and what it is called: ``release/sae_id``, or its folder.

    Raises:
        SaeError: if it cannot be loaded, for whatever reason.
    """
    from sae_lens import SAE

    source = parse_spec(spec)
    name = "/".join(source) if isinstance(source, HubSource) else str(source)
    try:
        if isinstance(source, HubSource):
            return SAE.from_pretrained(*source, device="cpu", dtype="float32"), name
        return SAE.load_from_disk(source, device="cpu", dtype="float32"), name
    except Exception as error:  # the loaders raise whatever their parsers and the network raise
        raise SaeError(_explain(name, error, is_folder=isinstance(source, Path))) from error


def revision_of(spec: str) -> str:
    """The commit of the hub snapshot in the cache from which SAELens has loaded an SAE; ``unknown`` for a folder.

    Args:
        spec: as of :func:`parse_spec`; loaded already.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import REGEX_COMMIT_HASH, repo_folder_name
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    source = parse_spec(spec)
    if isinstance(source, Path):
        return UNKNOWN
    lookup = get_pretrained_saes_directory().get(source.release)
    overrides: Any = (lookup and lookup.config_overrides) or {}
    own = overrides.get(source.sae_id)  # for each SAE, or one for all
    revision = str((own if isinstance(own, dict) else overrides).get("revision") or constants.DEFAULT_REVISION)
    if REGEX_COMMIT_HASH.fullmatch(revision):
        return revision
    folder = repo_folder_name(repo_id=lookup.repo_id if lookup else source.release, repo_type="model")
    ref = Path(constants.HF_HUB_CACHE) / folder / "refs" / revision
    return ref.read_text().strip() if ref.is_file() else UNKNOWN


def _explain(name: str, error: Exception, *, is_folder: bool) -> str:
    import httpx
    import requests
    from huggingface_hub import errors

    message = shorten(str(error), 300, placeholder=" …") or "no message"
    detail = f"{type(error).__name__}: {message}"
    if is_folder:
        return f"SAE folder {name!r} cannot be loaded ({detail}): is it one that SAELens' save_model wrote?"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"SAE {name!r} is in a gated repository: accept its terms on the hub and log in with "
            f"`hf auth login` ({detail})"
        )
    offline = (
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        httpx.TransportError,
        requests.ConnectionError,
        requests.Timeout,
        ConnectionError,
    )
    if isinstance(error, offline):
        return (
            f"SAE {name!r} is not in the local hub cache and cannot be downloaded ({detail}): unset "
            "HF_HUB_OFFLINE or connect to the network, copy the repository into the cache (HF_HOME), or give "
            "a local folder written by SAELens' save_model"
        )
    missing = (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.RevisionNotFoundError)
    if isinstance(error, missing):
        return (
            f"SAE {name!r} is not on the hub as a SAELens SAE ({detail}): give release/sae_id, "
            f"org/repository/path, or a local folder; {_HOW_TO_LIST}"
        )
    return f"SAE {name!r} cannot be loaded ({detail})"
