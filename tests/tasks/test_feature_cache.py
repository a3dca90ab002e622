from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch

from cell_lm.data import CellData, Store, from_anndata
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, GeneError
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.prepare import PrepareSettings, prepare
from cell_lm.tasks import CACHE, CellTypeClassifier, EmbeddingCache, embed_cells
from cell_lm.tasks.features import place, weights_hash
from typed_cells import tiny_model, typed_adata


@pytest.fixture(autouse=True)
def _empty() -> None:
    CACHE.clear()


@pytest.fixture(scope="module")
def cells() -> CellData:
    return from_anndata(typed_adata(120))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cells of each call of the encoder."""
    calls: list[int] = []
    plain = CellLM.encode

    def counted(self: CellLM, cells: CellData, **arguments: object) -> np.ndarray:
        calls.append(len(cells))
        return plain(self, cells, **arguments)

    monkeypatch.setattr(CellLM, "encode", counted)
    return calls


def test_embeddings_are_those_of_the_model_with_and_without_a_cache(model, cells):
    expected = model.encode(cells)
    for cache in (None, EmbeddingCache()):
        for _ in range(2):
            np.testing.assert_array_equal(embed_cells(model, cells, cache=cache), expected)


def test_five_seeds_embed_once(model, cells, encoded):
    for seed in range(5):
        CellTypeClassifier(model, seed=seed).fit(cells, "cell_type").predict(cells)
    assert sum(encoded) == len(cells)


def test_folds_of_one_dataset_embed_each_cell_once(model, cells, encoded):
    fold = np.arange(len(cells)) % 4
    for number in range(4):
        classifier = CellTypeClassifier(model).fit(cells[fold != number], "cell_type")
        classifier.evaluate(cells[fold == number], "cell_type")
    assert sum(encoded) == len(cells)


def test_the_same_cells_read_again_are_not_embedded_again(model, encoded):
    first = embed_cells(model, from_anndata(typed_adata(30)))
    again = embed_cells(model, from_anndata(typed_adata(30)[::-1].copy()))
    assert encoded == [30]
    np.testing.assert_array_equal(again, first[::-1])


def test_a_classifier_without_cache_embeds_every_time(model, cells, encoded):
    classifier = CellTypeClassifier(model, cache=False).fit(cells, "cell_type")
    classifier.predict(cells)
    assert encoded == [120, 120]
    assert len(CACHE) == 0


def retrained(model: CellLM) -> CellLM:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.encoder.norm.bias[0] += 0.5
    return other


def shortened(model: CellLM) -> CellLM:
    """The same weights, reading fewer genes of a cell."""
    other = copy.deepcopy(model)
    other.config = other.config.model_copy(update={"max_genes": 50})
    return other


@pytest.mark.parametrize("change", [retrained, shortened])
def test_another_model_is_not_given_the_embeddings_of_the_first(model, cells, change):
    first, other = embed_cells(model, cells), change(model)
    found = embed_cells(other, cells)
    assert not np.allclose(found, first)
    np.testing.assert_array_equal(found, embed_cells(other, cells, cache=None))


def test_weights_that_change_in_place_are_noticed(cells):
    model = tiny_model(seed=4)
    first = embed_cells(model, cells)
    with torch.no_grad():
        model.encoder.norm.bias.data[0] += 0.5
    np.testing.assert_array_equal(embed_cells(model, cells), model.encode(cells))
    assert not np.array_equal(embed_cells(model, cells), first)


def test_arithmetic_is_part_of_the_key(model, cells):
    exact = embed_cells(model, cells)
    rough = embed_cells(model, cells, precision="bfloat16")
    assert not np.array_equal(rough, exact)
    np.testing.assert_array_equal(rough, model.encode(cells, precision="bfloat16"))


def test_cells_that_differ_in_one_count_are_embedded_for_themselves(model, cells, encoded):
    embed_cells(model, cells)
    changed = from_anndata(typed_adata(120))
    changed.X.data[5] += 1
    found = embed_cells(model, changed)
    assert encoded == [120, 1]
    np.testing.assert_allclose(found, model.encode(changed), rtol=1e-4, atol=1e-5)


def test_what_is_returned_may_be_written_to(model, cells):
    first = embed_cells(model, cells)
    expected = first.copy()
    first[:] = 7
    again = embed_cells(model, cells)
    np.testing.assert_array_equal(again, expected)
    again[:] = 9
    np.testing.assert_array_equal(embed_cells(model, cells), expected)


def test_the_cache_holds_no_more_than_its_bytes_and_forgets_the_oldest():
    cache, rng = EmbeddingCache(max_bytes=100 * (16 + 4 * 8)), np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (250, 2), dtype=np.uint64)
    embedding = rng.normal(size=(250, 8)).astype(np.float32)
    for name, first in (("a", 0), ("b", 50), ("c", 100)):
        cache.add(name, hashes[first : first + 50], embedding[first : first + 50])
    assert cache.bytes <= cache.max_bytes
    into = np.zeros((50, 8), np.float32)
    assert not cache.fetch("a", hashes[:50], into).any()
    assert cache.fetch("b", hashes[50:100], into).all()
    np.testing.assert_array_equal(into, embedding[50:100])
    cache.add("d", hashes[150:200], embedding[150:200])  # b was used after c
    assert cache.fetch("b", hashes[50:100], into).all()
    assert not cache.fetch("c", hashes[100:150], into).any()
    cache.add("e", hashes, embedding)
    assert not cache.fetch("e", hashes[:50], into).any()


def test_many_small_pieces_stay_findable():
    cache, rng = EmbeddingCache(), np.random.default_rng(0)
    hashes = np.column_stack([rng.permutation(400), rng.integers(0, 9, 400)]).astype(np.uint64)
    embedding = rng.normal(size=(400, 3)).astype(np.float32)
    for row in range(400):
        cache.add("a", hashes[[row]], embedding[[row]])
    into = np.zeros_like(embedding)
    assert len(cache) == 400
    assert len(cache._blocks["a"]) < 12
    assert cache.fetch("a", hashes, into).all()
    np.testing.assert_array_equal(into, embedding)


def test_cells_that_share_half_of_a_hash_are_not_confused():
    cache, embedding = EmbeddingCache(), np.arange(4, dtype=np.float32)[:, None]
    hashes = np.array([[5, 1], [5, 2], [6, 1], [7, 1]], np.uint64)
    cache.add("a", hashes[[0, 2]], embedding[[0, 2]])
    into = np.full((4, 1), -1, np.float32)
    assert cache.fetch("a", hashes, into).tolist() == [True, False, True, False]
    assert into.ravel().tolist() == [0, -1, 2, -1]


def test_threads_share_a_cache(model, cells):
    cache, expected, wrong = EmbeddingCache(max_bytes=60_000), model.encode(cells), []

    def work(number: int) -> None:
        rows = np.random.default_rng(number).permutation(len(cells))[:40]
        found = [embed_cells(model, cells[rows], cache=cache) for _ in range(5)]
        wrong.extend(number for each in found if not np.allclose(each, expected[rows], rtol=1e-4, atol=1e-5))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.bytes <= cache.max_bytes


def test_a_store_gives_the_embeddings_of_the_cells_in_memory_to_the_bit(model, tmp_path):
    adata = typed_adata(90)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    settings = PrepareSettings(min_genes=1, max_mito=1.0, keep_duplicates=True, shard_cells=40)
    prepare([tmp_path / "cells.h5ad"], tmp_path / "store", settings=settings)
    store = Store.open(tmp_path / "store")
    memory = from_anndata(adata[store.cells(["row"])["row"].to_numpy(np.int64)].copy())
    np.testing.assert_array_equal(
        embed_cells(model, CellView.of(store), cache=None), embed_cells(model, memory, cache=None)
    )


def test_progress_counts_embedded_and_known_cells_alike(model, cells):
    done: list[int] = []
    embed_cells(model, cells[:50], progress=done.append)
    embed_cells(model, cells, progress=done.append)
    assert sum(done) == 50 + len(cells)


def test_cells_of_another_vocabulary_are_refused_also_where_they_are_known(model, cells):
    embed_cells(model, cells)
    human = Vocabulary.human()
    other = from_anndata(typed_adata(5), vocabulary=Vocabulary(human.symbols[:1500], human.ensembl[:1500]))
    with pytest.raises(GeneError, match="not the model's"):
        embed_cells(model, other)


def test_a_model_goes_to_the_device_that_is_named(model, cells):
    assert place(model, "cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="'cuda:77' is requested"):
        embed_cells(model, cells, device="cuda:77")
    with pytest.raises(ConfigError, match="'gpu' is no device"):
        CellTypeClassifier(model, device="gpu").fit(cells, "cell_type")


def test_the_hash_of_the_weights_is_that_of_their_file(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    assert weights_hash(CellLM.from_pretrained(tmp_path / "model")) == weights_hash(model)
    assert weights_hash(model) in (tmp_path / "model" / "config.json").read_text()
