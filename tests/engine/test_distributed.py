from __future__ import annotations

import pickle

import pytest
import torch.distributed as dist

from cell_lm.engine.distributed import Ranks
from cell_lm.errors import ConfigError, OtherRankError, TrainingError

GLOO = "[/src/gloo/transport/tcp/pair.cc:537] Read error [10.0.0.1]:27026: Connection reset by peer. Check the logs."


@pytest.mark.parametrize("error", [RuntimeError(GLOO), dist.DistNetworkError("Connection reset by peer. NCCL 2.21")])
def test_what_the_group_raises_is_said_in_one_line(error: RuntimeError) -> None:
    with pytest.raises(TrainingError) as said, Ranks(timeout=7.0).lost_rank_errors(lambda: "Start again"):
        raise error
    message = str(said.value)
    assert message.startswith("another process of the run ended, or was silent for 7 s (")
    assert message.endswith("Connection reset by peer). Start again.")
    assert "pair.cc" not in message


def test_any_other_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="a fault of ours"), Ranks().lost_rank_errors(lambda: ""):
        raise RuntimeError("a fault of ours")


def test_one_process_in_place_of_the_several_that_accelerate_was_asked_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    Ranks()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(ConfigError, match=r"started one.*torchrun"):
        Ranks()


def test_an_environment_that_no_launcher_made_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: object) -> None:
        raise ValueError("MASTER_ADDR env was not set")

    monkeypatch.setattr("cell_lm.engine.distributed.PartialState", refuse)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR env was not set.*torchrun"):
        Ranks()


def test_one_process_agrees_with_itself() -> None:
    ranks = Ranks()
    assert ranks.any([True, False]) == [True, False]
    assert ranks.max(5) == 5
    assert ranks.all_equal(5)
    assert ranks.run_on_main(lambda: None) == 0
    assert ranks.run_on_all(lambda: "answer") == "answer"


@pytest.mark.parametrize(
    "error",
    [ConfigError("found.", where="there", fix="Do this"), OtherRankError(3, "found. Do this."), TrainingError("found")],
)
def test_errors_travel_between_processes_whole(error: ConfigError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.found, again.where, again.fix) == (str(error), error.found, error.where, error.fix)
