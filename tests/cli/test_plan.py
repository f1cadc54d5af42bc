"""What a command says of memory and time before it computes: `--dry-run`, and the first lines of a generation."""

import re
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Show1

PROMPT = "a burning lamborghini driving on rainbow."


@pytest.fixture(autouse=True)
def _no_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, so that text encoders are needed."""
    monkeypatch.setenv("SHOW1_CACHE", str(tmp_path / "cache"))


def planned_lines(text: str) -> list[str]:
    """The lines of a plan, without that of the process itself, which differs from run to run."""
    lines = [line for line in text.splitlines() if line.startswith(("plan ", "time "))]
    own = [line for line in lines if re.match(r"plan +beside each of these: 0\.\d\d GB of the process", line)]
    assert len(own) == (not torch.cuda.is_available())
    return [line for line in lines if line not in own]


def test_the_command_shows_the_plan_and_keeps_to_it(show1: Show1, cascade: Path) -> None:
    plan = show1("generate", PROMPT, "--model", cascade, "--memory", "40GB", "--dry-run")
    assert plan.code == 0, plan.err
    assert re.search(r"super_resolution: 0\.\d\d GB, 1 sample a call", plan.out)
    as_json = show1("generate", PROMPT, "--model", cascade, "--memory", "40GB", "--dry-run", "--json").json
    assert as_json["budget_bytes"] == 40 * 10**9
    assert as_json["plan"]["keyframes"]["streamed"] is False
    refused = show1("generate", PROMPT, "--model", cascade, "--memory", "much")
    assert refused.code == 2 and "such as '6GB'" in refused.err
    small = show1("generate", PROMPT, "--model", cascade, "--memory", "1MB")
    assert small.code == 2 and "are not enough for" in small.err
    lasting = show1("generate", PROMPT, "--model", cascade, "--memory", "low", "--dry-run")
    shown = planned_lines(lasting.out)
    assert len(shown) == 7 and shown[0].startswith("plan       text encoder of keyframes: 0.00 GB, 1 sample a call")
    assert "plan  " not in show1("generate", PROMPT, "--model", cascade, "--dry-run").out


@pytest.mark.parametrize("memory", ["40GB", "low"])
def test_a_generation_says_first_what_it_will_take(show1: Show1, cascade: Path, memory: str) -> None:
    asked = ("generate", PROMPT, "-m", cascade, "--until", "interpolation", "--seed", 1)
    planned = show1(*asked, "--memory", memory, "--dry-run")
    lines = planned_lines(planned.out)
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "plan       text encoder of keyframes",
        "plan       keyframes",
        "plan       interpolation",
    ]
    made = show1(*asked, "--memory", memory, "-o", "a.mkv", "--run", "run")
    assert made.code == 0 and made.err.index(lines[0]) < made.err.index("keyframes: done")
    assert planned_lines(made.err) == lines
    later = show1("resume", "run", "--memory", memory)  # it is finished
    assert later.code == 0 and "plan  " not in later.err
    for quiet in ("--quiet", "--json"):
        told = show1(*asked, "--memory", memory, "-o", f"b{quiet}.mkv", quiet)
        assert told.code == 0 and "plan  " not in told.err
    assert "plan  " not in show1(*asked, "-o", "c.mkv").err


def test_a_plan_is_said_once_for_prompts_that_take_the_same(show1: Show1, cascade: Path) -> None:
    Path("prompts.txt").write_text(f"{PROMPT}\na panda\n")
    asked = ("--prompts", "prompts.txt", "-m", cascade, "--until", "keyframes", "--memory", "40GB", "-o", "videos/")
    made = show1("generate", *asked)
    assert made.code == 0 and made.err.count("plan       keyframes: ") == 1
