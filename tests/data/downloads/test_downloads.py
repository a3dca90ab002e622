from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cell_lm.data.downloads import REGISTRY, Dataset, RemoteFile, download, find_dataset, registry
from cell_lm.errors import InputError
from cell_lm.genes.interactions import read_string

MEMBERS = {"hg19/matrix.mtx": b"%%MatrixMarket\n", "hg19/genes.tsv": b"A\n", "hg19/barcodes.tsv": b"C\n"}


def archive(members: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = (len(data) if kind == tarfile.REGTYPE else 0), kind
            info.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a file where a mirror has it, and register it as the set ``my``."""

    def put(data: bytes, *, name: str = "my.tar.gz", known: str | None = None, keep: str = "") -> Path:
        folder = tmp_path / "mirror"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        file = RemoteFile(f"https://nowhere.invalid/{name}", name, known, keep)
        monkeypatch.setitem(registry.REGISTRY, "my", Dataset("my", "cells", "mine", (file,)))
        return folder

    return put


def test_a_set_is_fetched_checked_unpacked_and_noted(source: Callable[..., Path], tmp_path: Path) -> None:
    data = archive(MEMBERS)
    known = hashlib.sha256(data).hexdigest()
    mirror = source(data, known=f"md5:{hashlib.md5(data).hexdigest()}")
    fetched = download("my", tmp_path / "out", mirror=str(mirror))
    assert fetched.cells == (tmp_path / "out" / "my" / "hg19",)
    assert fetched.first_seen == ()
    assert (fetched.cells[0] / "matrix.mtx").read_bytes() == MEMBERS["hg19/matrix.mtx"]
    note = json.loads((tmp_path / "out" / "downloads.lock.json").read_text())["my.tar.gz"]
    assert note == {"url": "https://nowhere.invalid/my.tar.gz", "sha256": known, "bytes": len(data)}


def test_what_is_there_is_checked_and_not_fetched_again(source: Callable[..., Path], tmp_path: Path) -> None:
    mirror = source(archive(MEMBERS))
    download("my", tmp_path / "out", mirror=str(mirror))
    (mirror / "my.tar.gz").unlink()
    assert download("my", tmp_path / "out", mirror=str(mirror)).first_seen == ()
    (tmp_path / "out" / "my.tar.gz").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"does not have the hash it should \([0-9a-f]{64}\)\. Remove it"):
        download("my", tmp_path / "out", mirror=str(mirror))


def test_a_published_hash_is_held_against_what_came(source: Callable[..., Path], tmp_path: Path) -> None:
    mirror = source(archive(MEMBERS), known=f"sha256:{'0' * 64}")
    with pytest.raises(InputError, match="what was fetched does not have the hash it should"):
        download("my", tmp_path / "out", mirror=str(mirror))
    assert [item.name for item in (tmp_path / "out").iterdir()] == []


def test_without_a_published_hash_the_first_download_is_noted_and_later_ones_must_agree(
    source: Callable[..., Path], tmp_path: Path
) -> None:
    mirror = source(archive(MEMBERS))
    assert download("my", tmp_path / "out", mirror=str(mirror)).first_seen == ("my.tar.gz",)
    (tmp_path / "out" / "my.tar.gz").unlink()
    source(archive({**MEMBERS, "hg19/genes.tsv": b"B\n"}))
    with pytest.raises(InputError, match="what was fetched does not have the hash it should"):
        download("my", tmp_path / "out", mirror=str(mirror))


def test_a_file_that_cannot_be_fetched_says_so_in_a_line(source: Callable[..., Path], tmp_path: Path) -> None:
    mirror = source(archive(MEMBERS))
    (mirror / "my.tar.gz").unlink()
    with pytest.raises(InputError, match=r"my\.tar\.gz: it cannot be fetched \(FileNotFoundError: .*--mirror"):
        download("my", tmp_path / "out", mirror=str(mirror))


@pytest.mark.parametrize(
    ("members", "kind", "word"),
    [
        ({"../../out.txt": b"x"}, tarfile.REGTYPE, "no plain file below its folder"),
        ({"/etc/x": b"x"}, tarfile.REGTYPE, "no plain file below its folder"),
        ({"link": b""}, tarfile.SYMTYPE, "no plain file below its folder"),
        ({"device": b""}, tarfile.CHRTYPE, "no plain file below its folder"),
        ({"zeros": bytes(1 << 20)}, tarfile.REGTYPE, "unpacks to more than 200 times"),
    ],
)
def test_an_archive_that_reaches_out_is_refused_whole(
    members: dict[str, bytes], kind: bytes, word: str, source: Callable[..., Path], tmp_path: Path
) -> None:
    mirror = source(
        archive({**MEMBERS, **members}, kind=tarfile.REGTYPE)
        if kind == tarfile.REGTYPE
        else archive(members, kind=kind)
    )
    with pytest.raises(InputError, match=word):
        download("my", tmp_path / "out", mirror=str(mirror))
    assert not (tmp_path / "out" / "my").exists()
    assert not (tmp_path / "out.txt").exists()


def test_an_archive_that_is_cut_off_is_refused(source: Callable[..., Path], tmp_path: Path) -> None:
    mirror = source(archive(MEMBERS)[:-40])
    with pytest.raises(InputError, match="the archive cannot be read"):
        download("my", tmp_path / "out", mirror=str(mirror))
    assert not (tmp_path / "out" / "my").exists()


def test_only_the_wanted_members_are_unpacked(source: Callable[..., Path], tmp_path: Path) -> None:
    mirror = source(archive({"a_human1.csv.gz": b"x", "b_mouse1.csv.gz": b"y"}), keep="_human")
    assert [path.name for path in download("my", tmp_path, mirror=str(mirror)).cells] == ["a_human1.csv.gz"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The mirror's folder, served on this machine."""
    (tmp_path / "mirror").mkdir(exist_ok=True)

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=tmp_path / "mirror")) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_an_address_is_fetched_from_too(server: str, source: Callable[..., Path], tmp_path: Path) -> None:
    source(archive(MEMBERS))
    assert download("my", tmp_path / "out", mirror=server).cells[0].name == "hg19"
    (tmp_path / "mirror" / "my.tar.gz").unlink()
    with pytest.raises(InputError, match=r"HTTPError: 404"):
        download("my", tmp_path / "other", mirror=server)


def test_a_page_in_place_of_a_matrix_is_refused_and_removed(tmp_path: Path) -> None:
    (tmp_path / "SRA1_SRS2.sparse.RData").write_text("<html>no such sample</html>")
    with pytest.raises(InputError, match="what came is no file of R"):
        download("panglao:SRA1:SRS2", tmp_path / "out", mirror=str(tmp_path))
    assert not (tmp_path / "out" / "SRA1_SRS2.sparse.RData").exists()


def test_panglao_is_found_by_its_ids() -> None:
    file = find_dataset("panglao:SRA667466:srs3059953").files[0]
    assert file.url == "https://panglaodb.se/data_dl.php?sra=SRA667466&srs=SRS3059953&filetype=R&datatype=readcounts"
    assert (file.name, file.hash) == ("SRA667466_SRS3059953.sparse.RData", None)
    assert find_dataset("panglao:SRA667466").files[0].name == "SRA667466.sparse.RData"


def test_a_name_that_is_not_known_is_answered_with_close_ones() -> None:
    with pytest.raises(InputError, match="Did you mean pbmc3"):
        find_dataset("pbmc3")


def test_hashes_are_whole_and_the_sorted_populations_are_ten() -> None:
    for dataset in REGISTRY.values():
        for file in dataset.files:
            kind, _, value = (file.hash or "sha256:" + "0" * 64).partition(":")
            assert (kind, len(value)) in (("md5", 32), ("sha256", 64))
            assert int(value, 16) >= 0
            assert file.url.endswith(file.name)
    assert len(find_dataset("zheng_sorted").files) == 10
    assert {name for name, dataset in REGISTRY.items() if not dataset.pinned} == {
        name for name in REGISTRY if name.startswith(("zheng_", "string"))
    }


def test_strings_files_are_fetched_into_the_folder_that_reads_them(tmp_path: Path) -> None:
    mirror, out = tmp_path / "mirror", tmp_path / "out"
    mirror.mkdir()
    links = "protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 990\n"
    info = "#string_protein_id\tpreferred_name\n9606.ENSP1\tTP53\n9606.ENSP2\tMDM2\n"
    for name, content in (("9606.protein.links.v12.0", links), ("9606.protein.info.v12.0", info)):
        (mirror / f"{name}.txt.gz").write_bytes(gzip.compress(content.encode()))
    fetched = download("string", out, mirror=str(mirror))
    assert fetched.cells == (out,)
    assert len(fetched.first_seen) == 2
    assert len(read_string(out)) == 1
    assert download("string", out, mirror=str(mirror)).first_seen == ()


def test_the_networks_of_string_are_at_strings_own_address_with_the_names_of_their_proteins() -> None:
    for name in ("string", "string_detailed"):
        dataset = find_dataset(name)
        assert dataset.kind == "network"
        assert all(file.url.startswith("https://stringdb-downloads.org/download/protein.") for file in dataset.files)
        assert dataset.files[1].name == "9606.protein.info.v12.0.txt.gz"
    assert {dataset.kind for name, dataset in REGISTRY.items() if not name.startswith("string")} == {"cells"}


def test_a_page_that_came_in_place_of_a_gzipped_file_is_refused_and_removed(tmp_path: Path) -> None:
    (tmp_path / "9606.protein.links.v12.0.txt.gz").write_bytes(b"<html>Please come again later</html>")
    with pytest.raises(InputError, match="what came is not gzipped"):
        download("string", tmp_path / "out", mirror=str(tmp_path))
    assert list((tmp_path / "out").iterdir()) == []
