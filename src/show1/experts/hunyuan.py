"""HunyuanVideo."""

from typing import Any

from show1.experts.family import ExpertFamily, Texts


class HunyuanVideo(ExpertFamily):
    """`HunyuanVideoPipeline`: flow matching by a network that was distilled to take the guidance as an input."""

    pipeline = "HunyuanVideoPipeline"
    text_length = 256
    text_states = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")

    def text_of(self, pipe: Any, prompt: str) -> Texts:
        """Encodes a text with both text encoders; see `Texts` for the shapes."""
        states, pooled, mask = pipe.encode_prompt(
            prompt=prompt, device=pipe._execution_device, max_sequence_length=self.text_length
        )
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask.float()}

    def text_arguments(self, text: Texts, guidance: float) -> dict[str, Any]:
        """The text states of the prompts, (B, ...) each: there is no other half of guidance."""
        return super().text_arguments(text, 1.0)
