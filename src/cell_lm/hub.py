"""Repositories of the Hugging Face hub: downloads into its cache, uploads as one commit, errors in one line.

``HF_ENDPOINT`` (the address of the hub) is read at each call; ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` as
huggingface_hub reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cell_lm.errors import ModelError

_NETWORK = "Check the network; without one, name a model folder, or a repository that was downloaded before"
_TOKEN = "Pass token=, or set HF_TOKEN, of somebody who may"


@dataclass(frozen=True)
class Download:
    """Which version of a repository to read, and how.

    Attributes
    ----------
    revision : str or None
        Branch, tag or commit; None: the main branch.
    token : str, bool or None
        Access token of the hub; None: that of ``HF_TOKEN`` or of ``hf auth login``, if there is one; False: none.
    cache_dir : str, Path or None
        Folder of the downloads; None: the usual one.
    local_files_only : bool
        Read only what was downloaded before.
    """

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    def fetch(self, repository: str, files: Sequence[str]) -> Path:
        """Return the folder with these files of a repository, downloaded where they are not in the cache.

        Raises
        ------
        ModelError
            There is no such repository or revision, or no access to it; or it cannot be reached, and is not in the
            cache.
        """
        from huggingface_hub import snapshot_download

        with _one_line(repository, self.revision, offline=self.local_files_only):
            return Path(
                snapshot_download(
                    repository,
                    revision=self.revision,
                    token=self.token,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                    allow_patterns=list(files),
                    endpoint=os.environ.get("HF_ENDPOINT"),
                    library_name="cell-lm",
                )
            )


def upload(
    folder: Path,
    repository: str,
    files: Sequence[str],
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    message: str,
) -> str:
    """Upload files of a folder as one commit, and return its address; the repository is made where there is none.

    Raises
    ------
    ModelError
        No access, no such revision, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token, library_name="cell-lm")
    with _one_line(repository, revision):
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(files),
            revision=revision,
            commit_message=message,
        )
        return str(commit.commit_url)


@contextmanager
def _one_line(repository: str, revision: str | None, *, offline: bool = False) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        raise ModelError("is no name of a repository", where=repository, fix="Name it owner/name") from None
    except errors.GatedRepoError:
        raise ModelError("its owner grants access on request", where=repository, fix=_TOKEN) from None
    except errors.RepositoryNotFoundError:
        found = "is neither a folder here nor a repository of the Hugging Face hub, or it is private"
        raise ModelError(found, where=repository, fix=f"Check the name. {_TOKEN}") from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            f"it has no revision '{revision}'", where=repository, fix="Name a branch, tag or commit"
        ) from None
    except errors.LocalTokenNotFoundError:
        raise ModelError("a token was asked for, and there is none", where=repository, fix=_TOKEN) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ModelError(f"no access ({status})", where=repository, fix=_TOKEN) from None
        raise ModelError(f"the hub answered {status}", where=repository, fix="Try again later") from None
    except Exception as error:
        if offline:
            found, fix = "is not among the models downloaded before", "Leave local_files_only out to download it"
            raise ModelError(found, where=repository, fix=fix) from None
        found = (
            f"is neither a folder here nor a repository of the Hugging Face hub that can be reached ({_said(error)})"
        )
        raise ModelError(found, where=repository, fix=_NETWORK) from None


def _said(error: BaseException) -> str:
    """Return the first line of what went wrong, that of the cause where there is one."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
