from __future__ import annotations

import pytest
import torch

from cell_lm.engine.device import choose_device
from cell_lm.errors import ConfigError


@pytest.mark.parametrize("name", [None, "auto"])
def test_the_environment_forces_the_cpu(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(name).type == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.parametrize(("name", "found"), [("gpu", "no device"), ("meta", "not supported"), ("cuda:99", "finds")])
def test_a_device_that_is_not_there_is_refused(name, found):
    with pytest.raises(ConfigError, match=found):
        choose_device(name)
