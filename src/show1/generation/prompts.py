"""What each stage is told, its text states, and what users should know about their prompts."""

import re
from collections.abc import Mapping, Sequence

from show1.config import CascadeSettings, StageName
from show1.experts import ExpertText
from show1.generation.request import GenerationRequest
from show1.options import shown
from show1.stage_table import STAGE_TABLE
from show1.stages import PromptEmbeddings
from show1.text.encoder import PromptEncoder
from show1.text.unread import SHOWN


def encoded(request: GenerationRequest, stage: StageName, encoder: PromptEncoder | ExpertText) -> PromptEmbeddings:
    """The text states of a request's prompts for a stage, by the stage's encoder."""
    prompts, negatives, length = _texts(request, stage)
    if isinstance(encoder, ExpertText):
        return encoder.embed(prompts, negatives)
    return PromptEmbeddings(
        prompt_embeds=encoder.encode(prompts, length), negative_prompt_embeds=encoder.encode(negatives, length)
    )


def is_cached(request: GenerationRequest, stage: StageName, encoder: PromptEncoder | ExpertText) -> bool:
    """Whether `encoded` would find all text states of a stage in the cache, so that no text encoder is read."""
    prompts, negatives, length = _texts(request, stage)
    if isinstance(encoder, ExpertText):
        return encoder.is_cached((*prompts, *negatives))
    return encoder.is_cached((*prompts, *negatives), length)


def _texts(request: GenerationRequest, stage: StageName) -> tuple[list[str], list[str], int | None]:
    """The texts for a stage's encoder, what to avoid in each, and the limit in tokens (None: the tokenizer's)."""
    to_text = STAGE_TABLE[stage].prompt
    prompts = [to_text(p, request.settings)[0] for p in request.prompts_of(stage)]
    one = getattr(request.settings, stage).negative_prompt
    avoided = request.negative_prompts or (one,) * len(prompts)
    negatives = [to_text(p, request.settings)[0] for p in avoided]
    return prompts, negatives, to_text(one, request.settings)[1]


def told_prompts(request: GenerationRequest, stages: Sequence[StageName]) -> dict[str, list[StageName]]:
    """The prompts of a request, each with those of some stages that are told it."""
    told: dict[str, list[StageName]] = {}
    for stage in stages:
        for prompt in dict.fromkeys(request.prompts_of(stage)):
            told.setdefault(prompt, []).append(stage)
    return told


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
