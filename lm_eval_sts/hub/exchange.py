"""Pushing records to a dataset repository on the hub and pulling them, through ``huggingface_hub``."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lm_eval_sts.errors import HubError, SettingsError, described
from lm_eval_sts.files import locked, package_version, write_atomically
from lm_eval_sts.hub.card import card
from lm_eval_sts.hub.contents import (
    CARD,
    CONTENTS,
    FOLDERS,
    KEPT_BY_HUB,
    Contents,
    Pulled,
    held,
    refuse_strange,
)
from lm_eval_sts.records import load_record, save_record

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PULLED: Final = "pulled.json"
_TYPE: Final = "dataset"
_LOG_IN: Final = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Attributes:
        url: The repository's page, or the pull request's.
        commit: The commit at which it now is.
        changed: Paths that were new or other than before; empty where nothing was written.
        created: Whether the repository was made.
    """

    url: str
    commit: str
    changed: tuple[str, ...]
    created: bool = False


def has_token() -> bool:
    """Whether the hub would know who asks."""
    from huggingface_hub import get_token

    return get_token() is not None


def push(folder: Path, contents: Contents, repository: str, *, private: bool = True, message: str = "") -> Pushed:
    """Brings laid out records into a dataset repository; those of other paths that are there stay.

    Args:
        folder: Where they are laid out.
        contents: What they are.
        repository: ``user/name``; made where it is missing.
        private: Of a repository that is made; one that is there stays as it is.
        message: Of the commit.

    Raises:
        HubError: There is no token, the repository holds something else, was changed meanwhile, or the hub refuses.
        SettingsError: The repository's name is none.
    """
    api = _api()
    if not has_token():
        raise HubError(f"pushing to {repository} needs a token of the hub: {_LOG_IN}")
    with _hub_errors(api, repository):
        head = _head(api, repository)
        if created := head is None:
            api.create_repo(repository, repo_type=_TYPE, private=private)
            head = str(api.repo_info(repository, repo_type=_TYPE).sha)
        there = _contents(api, repository, head)
        merged = Contents(files=dict(sorted({**there.files, **contents.files}.items())))
        changed = tuple(name for name, file in contents.files.items() if there.files.get(name) != file)
        page = f"{api.endpoint}/datasets/{repository}"
        if not changed:
            return Pushed(page, head, ())
        with tempfile.TemporaryDirectory() as temporary:
            listed, described_by = Path(temporary) / CONTENTS, Path(temporary) / CARD
            save_record(merged, listed)
            described_by.write_text(card(repository, merged), encoding="utf-8")
            files = {**{name: folder / name for name in changed}, CONTENTS: listed, CARD: described_by}
            made = _commit(api, repository, files, message or f"{len(changed)} records", parent_commit=head)
        return Pushed(page, str(made.oid), changed, created)


def propose(files: Mapping[str, Path], repository: str, title: str, text: str = "") -> Pushed:
    """Opens a pull request with files on a dataset repository.

    Args:
        files: By their path there.
        repository: ``user/name``.
        title: Of the pull request.
        text: Its description.

    Returns:
        With the pull request's address; nothing changed where all files are there already.

    Raises:
        HubError: There is no token or no such repository, or the hub refuses.
    """
    api = _api()
    with _hub_errors(api, repository):
        made = _commit(api, repository, files, title, commit_description=text, create_pr=True)
    if made.pr_url is None:
        return Pushed(f"{api.endpoint}/datasets/{repository}", str(made.oid), ())
    return Pushed(str(made.pr_url), str(made.oid), tuple(files))


def pull(
    repository: str,
    output: Path,
    *,
    revision: str | None = None,
    only: Sequence[str] = FOLDERS,
    overwrite: bool = False,
) -> Pulled:
    """Takes records out of a dataset repository; all are validated before anything is written.

    Args:
        repository: ``user/name``.
        output: A folder; gets the files and ``pulled.json``, which says where from and at which commit.
        revision: Branch, tag or commit; None: the main branch.
        only: Which of the folders ``predictions``, ``outcomes``, ``profiles``, ``studies``.
        overwrite: Replace files of the same names that say something else.

    Raises:
        HubError: There is no such repository or revision, it holds what is no record, or the hub cannot be reached.
        RecordError: A record is not valid.
        BusyError: Another process writes to the folder.
    """
    api = _api()
    if unknown := set(only) - set(FOLDERS):
        raise SettingsError(f"--only {sorted(unknown)[0]}: choose of {', '.join(FOLDERS)}")
    with _hub_errors(api, repository, revision):
        commit = str(api.repo_info(repository, repo_type=_TYPE, revision=revision).sha)
        where = f"{repository} at {commit[:12]}"
        listed = _contents(api, repository, commit)
        wanted = {name: file for name, file in listed.files.items() if name.partition("/")[0] in only}
        if not wanted:
            raise HubError(f"{where} holds none of {', '.join(only)}")
        snapshot = Path(
            api.snapshot_download(
                repository, repo_type=_TYPE, revision=commit, allow_patterns=list(wanted), max_workers=4
            )
        )
    for name, file in wanted.items():
        if not (snapshot / name).is_file() or held(snapshot, name).sha256 != file.sha256:
            raise HubError(f"{where}: {name} is not what {CONTENTS} says: it was changed there by other means")
    pulled = Pulled(
        repository=repository,
        revision=commit,
        asked_for=revision,
        files={name: file.sha256 for name, file in wanted.items()},
    )
    with locked(output, wait=30):
        for name in () if overwrite else wanted:
            target = output / name
            if target.exists() and target.read_bytes() != (snapshot / name).read_bytes():
                raise HubError(f"{target} is there and says something else: choose another --output, or --overwrite")
        for name in wanted:
            write_atomically(output / name, (snapshot / name).read_bytes())
        save_record(pulled, output / PULLED)
    return pulled


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        library_name="lm-eval-sts",
        library_version=package_version("lm-eval-sts"),
    )


def _head(api: HfApi, repository: str) -> str | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return str(api.repo_info(repository, repo_type=_TYPE).sha)
    except RepositoryNotFoundError:
        return None


def _contents(api: HfApi, repository: str, commit: str) -> Contents:
    """What a repository says it holds, where it holds nothing else.

    Raises:
        HubError: It holds something else.
    """
    tree = api.list_repo_tree(repository, repo_type=_TYPE, revision=commit, recursive=True)
    sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
    where = f"{repository} at {commit[:12]}"
    refuse_strange(sizes, where)
    if CONTENTS not in sizes:
        if files := sorted(sizes.keys() - KEPT_BY_HUB):
            raise HubError(f"{where} holds {files[0]!r} and no {CONTENTS}: it was not filled by lm-eval-sts hub push")
        return Contents()
    path = api.hf_hub_download(repository, CONTENTS, repo_type=_TYPE, revision=commit)
    listed = load_record(Contents, Path(path))
    refuse_strange({name: file.bytes for name, file in listed.files.items()}, f"{where}: {CONTENTS}")
    if apart := sorted(listed.files.keys() ^ (sizes.keys() - KEPT_BY_HUB)):
        raise HubError(f"{where}: {apart[0]} is not both there and in {CONTENTS}: it was changed by other means")
    return listed


def _commit(api: HfApi, repository: str, files: Mapping[str, Path], message: str, **options: Any) -> Any:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    return api.create_commit(repository, operations, commit_message=message, repo_type=_TYPE, **options)


@contextlib.contextmanager
def _hub_errors(api: HfApi, repository: str, revision: str | None = None) -> Iterator[None]:
    """Says in one line what the hub, or the way there, refuses.

    Raises:
        HubError: Whatever can be put right.
        SettingsError: The repository's name is none.
    """
    from huggingface_hub import errors

    where = f"{repository} on {api.endpoint}"
    try:
        yield
    except errors.HFValidationError as error:
        raise SettingsError(f"{repository!r} is no name of a repository: give user/name") from error
    except errors.GatedRepoError as error:
        raise HubError(f"{where} is gated: accept its terms there, and {_LOG_IN}") from error
    except errors.RepositoryNotFoundError as error:
        hint = "the token may not see it" if has_token() else f"it is private: {_LOG_IN}"
        raise HubError(f"there is no dataset repository {where}, or {hint}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{where} has no revision {revision!r}: give a branch, a tag or a whole commit") from error
    except errors.HfHubHTTPError as error:
        raise HubError(_refused(where, error)) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubError(f"{where} cannot be reached: connect to the network, or unset HF_HUB_OFFLINE") from error
    except Exception as error:  # what the HTTP library raises, whose name differs between releases
        if not type(error).__module__.startswith("httpx"):
            raise
        raise HubError(f"{where} cannot be reached ({described(error)}): is there a network?") from error


def _refused(where: str, error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return f"{where} knows no such token: {_LOG_IN}"
    if status == 403:
        return f"{where}: the token may not write there: take one with write access"
    if status in (409, 412):
        return f"{where} was changed by somebody else meanwhile: push again"
    return f"{where} refuses ({described(error)})"
