"""What users should know about their prompts."""

import re
from collections.abc import Mapping

from show1.config import CascadeSettings, StageName
from show1.experts import ExpertText
from show1.options import shown
from show1.stage_table import STAGE_TABLE
from show1.text.encoder import PromptEncoder
from show1.text.unread import SHOWN


def warnings_of(
    prompt: str,
    encoders: Mapping[StageName, PromptEncoder | ExpertText],
    *,
    settings: CascadeSettings,
    taught: str,
    model: str,
) -> list[str]:
    """Lists what of a prompt has no effect.

    Args:
        prompt: As the user wrote it.
        encoders: The text encoder of each stage.
        settings: Those of the call.
        taught: Text with the words that adapters have taught.
        model: The model's name.
    """
    found: dict[str, None] = {}
    words_taught = re.findall(r"[^\s.,;:!?]+", taught.lower())
    for stage, encoder in encoders.items():
        text, limit = STAGE_TABLE[stage].prompt(prompt, settings)
        limit = limit or encoder.max_tokens
        if (cut := encoder.truncated(text, limit)) is not None:
            part = cut if len(cut) <= 150 else f"{cut[:90]} ... {cut[-50:]}"
            found[f"the prompt is longer than {limit} tokens; this part has no effect: {part!r}"] = None
        if isinstance(encoder, ExpertText):
            continue
        if unknown := [word for word in encoder.unknown_words(text) if word.lower() not in words_taught]:
            words = ", ".join(shown(word) for word in unknown[:SHOWN])
            words += f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            found[f"the model {model!r} does not know {words}; the video will not show it"] = None
    return list(found)
