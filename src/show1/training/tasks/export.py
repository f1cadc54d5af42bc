"""What an export says about itself: settings that suit it, and a card for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from show1.checkpoints.index import CARD, STAGE_NOTES, Notes, read_stage_notes, write_stage_notes
from show1.config import PUBLISHED, StageName
from show1.files import write_text
from show1.training.options import FOLDERS


def write_notes(
    folder: Path,
    stage: StageName,
    *,
    learned: Mapping[str, Any],
    sampling: Mapping[str, Any] | None,
    max_text_tokens: int | None,
    init: str | None,
) -> None:
    """Writes the settings that suit a stage, so that a cascade of exports has them as its defaults.

    Args:
        folder: Folder of the export.
        stage: The stage.
        learned: Settings that the training decided: sizes, frames, noise levels.
        sampling: How the stage samples well with the trainings' own sampler; None: with the published one.
        max_text_tokens: Tokens of a prompt; None for a stage whose tokenizer decides.
        init: Folder that the training started from; of an export of the same stage, sampling is taken from there.

    Raises:
        OutputError: The file cannot be written.
    """
    before = read_stage_notes(Path(init), stage) if init is not None else Notes()
    settings = {**(sampling or {}), **before.settings.get(stage, {}), **learned}
    whole = PUBLISHED.replace(**{stage: settings}).to_dict()[stage]
    shared = {} if max_text_tokens is None else {"max_text_tokens": max_text_tokens}
    write_stage_notes(folder, stage, Notes(settings={stage: whole, **shared}, customization=before.customization))


def write_card(folder: Path, config: Mapping[str, Any], step: int) -> None:
    """Writes the model card of an export, README.md, which leaves open what only its maker can know.

    Args:
        folder: Folder of the export.
        config: All options of the training, as its `config.json` holds them.
        step: Number of steps done.

    Raises:
        OutputError: The file cannot be written.
    """
    task, begun = config["task"], [name for name in FOLDERS if config.get(name)]
    rows = {
        "what": f"weights of the training task `{task}` of [show1](https://arxiv.org/abs/2309.15818)",
        "data": f"`{config['data']}`",
        "steps": f"{step:,} of {config['steps']:,}, in batches of {config['batch_size']} per process",
        **{f"`--{name.replace('_', '-')}`": f"`{config[name]}`" for name in begun},
        "licence": "not chosen yet",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = f"""---
library_name: show1
tags: [show1, {task}]
---

# {task}

| | |
|---|---|
{table}

Before you share these weights, choose a licence and name it here. It may depend on the licences of the data, and of the
weights that the training started from.

## How to use it

{_use(folder, task)}

## All options

```json
{json.dumps(dict(config), indent=2, ensure_ascii=False)}
```
"""
    write_text(folder / CARD, text)


def _use(folder: Path, task: str) -> str:
    notes = folder / STAGE_NOTES
    if not notes.is_file():
        if task == "tiny_vae":
            return (
                "Its `vae/` takes the place of the `vae/` of a translation stage whose latents it has learned. "
                "`show1 train translation --vae THIS_FOLDER` trains an expert for it."
            )
        option = "--vae" if task == "vae" else "--text"
        return f"This is a part of a stage: give this folder to `show1 train` as `{option}`."
    saved = json.loads(notes.read_text(encoding="utf-8"))
    stage = saved["stage"]
    if stage == "keyframes" and saved["settings"].get("num_frames") == 1:
        return (
            "This network makes single images. Train a network for videos from it, and put that into a cascade:\n\n"
            "```\nshow1 train keyframes --init THIS_FOLDER ...\n```"
        )
    return f"""`{STAGE_NOTES}` holds the settings that suit this stage: sizes, frames, steps, guidance. A cascade made
of such folders has them as its defaults:

```
show1 models assemble {stage}=THIS_FOLDER other_stage=ITS_FOLDER -o my-cascade
show1 generate "a prompt" --model my-cascade
```

{_more(task, stage)}"""


def _more(task: str, stage: str) -> str:
    """What else the weights can be used for."""
    if task.startswith("distil"):
        return f"`show1 distil {stage} --teacher THIS_FOLDER --student-steps N` makes it sample in fewer steps."
    return f"`show1 train {stage} --init THIS_FOLDER` continues training from these weights."
