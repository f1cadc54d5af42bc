"""Encodes prompts, and finds what a user should know about them."""

import re
from collections.abc import Callable, Iterable, Sequence

from show1.config import CascadeSettings, StageName
from show1.generation.loader import CascadeLoader
from show1.generation.request import GenerationRequest
from show1.stage_table import STAGE_TABLE
from show1.stages import PromptEmbeddings


def find_warnings(
    prompt: str,
    settings: CascadeSettings,
    stages: Sequence[StageName],
    loader: CascadeLoader,
) -> Iterable[str]:
    """Lists what the user should know about a prompt: words that do not fit, and words that nothing here knows.

    Args:
        prompt: As the user wrote it.
        settings: The settings of the call.
        stages: The stages of the call.
        loader: The model, with its adapters.
    """
    triggers = " ".join(a.adapter.prompt for a in loader.adapters.active())
    taught = re.findall(r"[^\s.,;:!?]+", triggers.lower())
    found: dict[str, None] = {}
    for stage in stages:
        encoder = loader.encoder(stage)
        text, limit = STAGE_TABLE[stage].prompt(prompt, settings)
        limit = limit or encoder.max_tokens
        if (cut := encoder.truncated(text, limit)) is not None:
            found[f"the prompt is longer than {limit} tokens; this part has no effect: {cut!r}"] = None
        if unknown := [word for word in encoder.unknown_words(text) if word.lower() not in taught]:
            words = ", ".join(repr(w) for w in unknown)
            found[f"the model {loader.cascade.name!r} does not know {words}; the video will not show it"] = None
    return found


def encode_prompts(
    request: GenerationRequest, stages: Sequence[StageName], loader: CascadeLoader
) -> dict[StageName, PromptEmbeddings]:
    """Encodes all prompts for some stages, one text encoder after another, each freed as the memory policy says.

    Args:
        request: The prompts and settings.
        stages: The stages to encode for.
        loader: The model.
    """
    encoders = {stage: loader.encoder(stage) for stage in stages}
    texts: dict[StageName, PromptEmbeddings] = {}
    for encoder in dict.fromkeys(encoders.values()):
        try:
            for stage in (s for s in stages if encoders[s] is encoder):
                to_text: Callable[..., tuple[str, int | None]] = STAGE_TABLE[stage].prompt
                prompts = [to_text(p, request.settings)[0] for p in request.prompts]
                negative, length = to_text(getattr(request.settings, stage).negative_prompt, request.settings)
                texts[stage] = PromptEmbeddings(
                    prompt_embeds=encoder.encode(prompts, length),
                    negative_prompt_embeds=encoder.encode([negative] * len(prompts), length),
                )
        finally:
            loader.release_text(encoder)
    return texts
