"""Models on the Hugging Face hub, against a stand-in of its API: nothing leaves this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard as HubCard

from cell_lm.config import EncoderConfig
from cell_lm.errors import ModelError
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.model_card import LIMITS, ModelCard
from cell_lm.model_folder import find_packaged
from hub_stand_in import OWNER, READER, Hub, Repository, hub_stand_in

NAME = "someone/pancreas"
CARD = ModelCard(
    licence="cc-by-4.0",
    datasets=("someone/cells",),
    metrics=("f1",),
    base_model="cell-lm/small",
    limits=("Pancreas alone.",),
    notes="macro-F1 .9 on a left-out donor.",
)


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def model(make_config: Callable[..., EncoderConfig], vocabulary: Vocabulary) -> CellLM:
    few = Vocabulary(vocabulary.symbols[:300], vocabulary.ensembl[:300])
    return CellLM(make_config(), few, seed=3)


def same(one: CellLM, other: CellLM) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_a_model_goes_to_the_hub_and_comes_back_with_its_card(hub: Hub, model: CellLM, tmp_path: Path) -> None:
    address = model.push_to_hub(NAME, card=CARD, notes="Trained twice.", token=OWNER, commit_message="Second model")
    repository = hub.repositories[NAME]
    assert address == f"{hub.address}/{NAME}/commit/{repository.refs['main']}"
    assert repository.messages == ["initial commit", "Second model"]
    files = repository.commits[repository.refs["main"]]
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors", "vocabulary.json"}
    assert same(CellLM.from_pretrained(NAME, cache_dir=tmp_path, token=False), model)
    text = files["README.md"].decode()
    assert f'CellLM.from_pretrained("{NAME}")' in text
    for part in ("macro-F1 .9", "Trained twice.", "- Pancreas alone.", *(f"- {limit}" for limit in LIMITS)):
        assert part in text


def test_the_header_of_a_card_is_what_the_hub_reads() -> None:
    config = EncoderConfig()
    read = HubCard(CARD.render(config, name=NAME, genes=3, parameters=4)).data.to_dict()
    assert read == {
        "library_name": "cell-lm",
        "pipeline_tag": "feature-extraction",
        "license": "cc-by-4.0",
        "base_model": "cell-lm/small",
        "datasets": ["someone/cells"],
        "metrics": ["f1"],
        "tags": ["single-cell", "biology", "CellLM"],
    }
    plain = HubCard(ModelCard().render(config, name=NAME, genes=3, parameters=4))
    assert set(plain.data.to_dict()) == {"library_name", "pipeline_tag", "tags"}


def test_the_card_of_the_packaged_model_states_licence_scores_and_limits() -> None:
    card = HubCard.load(find_packaged("small") / "README.md")
    assert (card.data.license, card.data.metrics, card.data.pipeline_tag) == (
        "bsd-3-clause",
        ["f1"],
        "feature-extraction",
    )
    assert "## Limits" in card.text
    assert "15,117 cells from 19 files" in card.text


def test_a_revision_is_read_by_branch_and_by_commit(hub: Hub, model: CellLM, tmp_path: Path) -> None:
    model.push_to_hub(NAME, token=OWNER)
    repository = hub.repositories[NAME]
    first = repository.refs["dev"] = repository.refs["main"]
    other = CellLM(model.config, model.vocabulary, seed=9)
    other.push_to_hub(NAME, token=OWNER, revision="dev")
    assert repository.refs["main"] == first != repository.refs["dev"]
    for revision, wanted in (("dev", other), (first, model), (None, model)):
        assert same(CellLM.from_pretrained(NAME, revision=revision, cache_dir=tmp_path), wanted)
    with pytest.raises(ModelError, match=r"it has no revision 'v9'\. Name a branch, tag or commit\.$"):
        CellLM.from_pretrained(NAME, revision="v9", cache_dir=tmp_path)
    with pytest.raises(ModelError, match="it has no revision 'v9'"):
        model.push_to_hub(NAME, token=OWNER, revision="v9")


def test_a_private_repository_needs_a_token(hub: Hub, model: CellLM, tmp_path: Path) -> None:
    model.push_to_hub(NAME, token=OWNER, private=True)
    assert hub.repositories[NAME].private
    with pytest.raises(ModelError, match=r"neither a folder here nor a repository .*, or it is private.*token="):
        CellLM.from_pretrained(NAME, cache_dir=tmp_path, token=False)
    assert same(CellLM.from_pretrained(NAME, cache_dir=tmp_path, token=READER), model)


def test_what_was_downloaded_is_read_without_asking_the_hub(hub: Hub, model: CellLM, tmp_path: Path) -> None:
    model.push_to_hub(NAME, token=OWNER)
    with pytest.raises(ModelError, match=r"is not among the models downloaded before\. Leave local_files_only out"):
        CellLM.from_pretrained(NAME, cache_dir=tmp_path, local_files_only=True)
    CellLM.from_pretrained(NAME, cache_dir=tmp_path)
    hub.asked.clear()
    assert same(CellLM.from_pretrained(NAME, cache_dir=tmp_path, local_files_only=True), model)
    assert hub.asked == []


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals_are_one_line(hub: Hub, model: CellLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {"cache_dir": tmp_path}
    assert "Check the name" in refusal(lambda: CellLM.from_pretrained("no/body", **read))
    assert "no access (401)" in refusal(lambda: model.push_to_hub(NAME, token=READER))
    assert "is no name of a repository" in refusal(lambda: model.push_to_hub("a b/c", token=OWNER))
    hub.repositories["a/gated"] = gated = Repository(gated=True)
    gated.commit("main", {"config.json": b"{}"}, "first")
    assert "access on request" in refusal(lambda: CellLM.from_pretrained("a/gated", **read))
    gated.gated = False
    assert "holds no model of cell-lm" in refusal(lambda: CellLM.from_pretrained("a/gated", **read))
    hub.status = 404
    assert "the hub answered 404" in refusal(lambda: model.push_to_hub(NAME, token=OWNER))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    said = refusal(lambda: CellLM.from_pretrained("some/model", **read))
    assert "that can be reached" in said
    assert "a repository that was downloaded before" in said
    assert "that can be reached" in refusal(lambda: model.push_to_hub(NAME, token=OWNER))
