"""What a server allows, so that no client can take all of it."""

from dataclasses import dataclass, fields
from typing import ClassVar

from show1.options import Options


@dataclass(frozen=True, kw_only=True)
class ServerLimits(Options):
    """Limits of a server; each request beyond one is refused with a message that says so."""

    options_of: ClassVar[str] = "limits"

    max_queue: int = 1000
    """Jobs that may wait or run at once."""
    max_jobs_per_key: int = 200
    """Jobs of one API key that may wait or run at once."""
    max_count: int = 16
    """Drafts of one job."""
    max_prompt: int = 4000
    """Characters of a prompt."""
    max_steps: int = 250
    """Denoising steps of a stage."""
    max_megapixels: int = 256
    """Pixels of all frames of a job's largest video, all drafts together, in millions."""
    max_body_mb: int = 1
    """Size of a request without a file, in MB."""
    max_upload_mb: int = 64
    """Size of a request with a file, in MB."""
    max_adapters_per_key: int = 20
    """Adapters that one API key, or all clients without keys, may have uploaded."""
    max_clip_frames: int = 257
    """Frames of an uploaded clip that are read."""
    max_clip_megapixels: int = 64
    """Pixels of all frames of an uploaded clip, in millions."""
    max_per_minute: int = 600
    """Jobs that one API key, or one address without keys, may ask for in a minute."""
    max_streams: int = 200
    """Streams of events, and requests that wait for their video, that may be open at once."""
    max_streams_per_key: int = 50
    """Those of one API key, or of one address without keys."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(*(field.name for field in fields(self)))
