"""What a text encoder's export shows on the terminal."""

from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from show1.data.clips import Vocabulary
from show1.training.presets import preset
from show1.training.tasks.text_conditioner import TextConditioner


def test_saving_shows_no_bar_of_a_library(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        TextConditioner.fresh(preset("mini"), Vocabulary(words=("a", "cat"))).save(tmp_path)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        if not shown:
            transformers_logging.disable_progress_bar()
    assert (tmp_path / "text_encoder/model.safetensors").is_file() and capfd.readouterr().err == ""
