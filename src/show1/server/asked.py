"""What a client asks for, in JSON or a form, and the request that it becomes."""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from show1.config import STAGES, CascadeSettings, StageName
from show1.errors import InputError
from show1.generation.arguments import make_request, resolve_settings
from show1.generation.inputs import VideoLike
from show1.generation.pipeline import Show1Pipeline
from show1.generation.request import GenerationRequest
from show1.options import shown
from show1.server.limits import ServerLimits

CLIP = "input_reference"
"""The field of a form that may hold a clip."""
MAX_NUMBER = 2**53
"""Largest whole number that every JSON reader keeps exactly."""


M = TypeVar("M", bound=BaseModel)


class BadRequest(InputError):
    """A request that cannot be done; says which of its parameters is at fault."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        """Takes the message, the parameter, and a code for programs."""
        super().__init__(message)
        self.param, self.code = param, code


def _plain_text(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a text without null characters is expected")
    return value


Text = Annotated[str, BeforeValidator(_plain_text)]
Weight = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Chosen = Annotated[dict[Text, Weight], Field(max_length=8)]
Whole = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class Settings(BaseModel):
    """What may be changed of a job's settings."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    negative_prompt: Text | None = None
    """What to avoid, in every stage."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Denoising steps of every stage."""
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] | None = None
    """Scale of classifier-free guidance of every stage."""
    until: StageName | None = None
    """Last stage to run."""
    expert: Text | None = None
    """Who does the last stage in place of the model's own, by a name that `GET /v1/models` lists. Of a continuation: by
    default as before, `none` for the model's own."""
    extra_params: dict[str, Any] = Field(default_factory=dict)
    """Settings by stage: `{"keyframes": {"guidance_scale": 5}}`."""

    def changes(self, stages: Iterable[StageName]) -> dict[str, Any]:
        """The settings that differ, by stage.

        Args:
            stages: The stages for which the settings of every stage count.
        """
        common = {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
        given = {name: value for name, value in common.items() if value is not None}
        changes: dict[str, Any] = {stage: dict(given) for stage in stages if given}
        for name, change in self.extra_params.items():
            own = isinstance(change, Mapping) and name in STAGES
            changes[name] = {**changes.get(name, {}), **change} if own else change
        return changes


class Creation(Settings):
    """The body of `POST /v1/videos`."""

    prompt: Text
    """What the video shows."""
    model: Text | None = None
    """One of `GET /v1/models`; by default the first."""
    seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    """About how long the video is."""
    size: Text | None = None
    """`WIDTHxHEIGHT`, which must be the model's."""
    width: Whole | None = None
    """See `size`."""
    height: Whole | None = None
    """See `size`."""
    num_frames: Whole | None = None
    """Frames of the video: (n - 1) * 4 + 1 for n keyframes of a model with factor 4."""
    fps: float | None = None
    """Frames per second, which must be the model's."""
    seed: Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None = None
    """Draft i uses seed + i; by default a random one."""
    count: Annotated[int, Field(ge=1)] = 1
    """Drafts."""
    adapters: Chosen = Field(default_factory=dict)
    """Weights of adapters, by names that `GET /v1/adapters` lists."""
    start_from: StageName | None = None
    """First stage to run, on the clip in `input_reference`."""


class Continuation(Settings):
    """The body of `POST /v1/videos/{id}/continue`."""

    draft: Annotated[int, Field(ge=1)] = 1
    """Which draft is carried on, from 1."""
    adapters: Chosen | None = None
    """Weights of adapters; by default those of before. Those of finished stages stay."""


class Remix(BaseModel):
    """The body of `POST /v1/videos/{id}/remix`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: Text
    """What the new video shows; seed and settings stay."""


@dataclass(frozen=True)
class Body:
    """A body's values, before they are checked."""

    values: dict[str, Any]
    """By name."""

    def read(self, kind: type[M]) -> M:
        """Checks the values.

        Raises:
            BadRequest: One is missing, unknown, of another type or out of its range.
        """
        check_text(self.values)
        try:
            return kind.model_validate(self.values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"][:2])[:60] or None
            if name == CLIP:
                raise BadRequest(f"{CLIP} must be a file in a form; addresses are not fetched", name) from None
            if first["type"] == "extra_forbidden":
                known = ", ".join(kind.model_fields)
                raise BadRequest(f"unknown parameter {name!r}; there are {known}", name, "unknown_parameter") from None
            if first["type"] == "missing":
                raise BadRequest(f"the parameter {name!r} is missing", name, "missing_required_parameter") from None
            raise BadRequest(f"{name}: {first['msg']}", name) from None


def form_values(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The values of a form, whose texts stand for numbers too; `extra_params[keyframes][guidance_scale]` is nested.

    Raises:
        BadRequest: A name cannot be read.
    """
    values: dict[str, Any] = {}
    for name, value in fields:
        path = re.findall(r"[^\[\]]+", name)
        if not path or len(path) > 4 or len(name) > 200:
            raise BadRequest(f"the parameter {name[:60]!r} cannot be read", name[:60])
        place = values
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise BadRequest(f"the parameter {name[:60]!r} is given twice", name[:60])
        place[path[-1]] = _leaf(value) if len(path) > 1 or path[0] == "extra_params" else value
    return values


def check_text(value: Any) -> None:
    """Makes sure that every text in a JSON value is UTF-8 and that no whole number is absurd.

    Raises:
        BadRequest: One is not.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadRequest("a text in the request is not UTF-8") from None
    elif isinstance(value, int) and abs(value) > 2**63:
        raise BadRequest("a number in the request is too large")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            check_text(name)
            check_text(each)
    elif isinstance(value, list):
        for each in value:
            check_text(each)


def to_request(
    asked: Creation, pipe: Show1Pipeline, limits: ServerLimits, video: VideoLike | None = None
) -> GenerationRequest:
    """The request that a client asks for.

    Args:
        asked: The body.
        pipe: The model.
        limits: What the server allows.
        video: The clip that `start_from` works on.

    Raises:
        InputError: It cannot be made, or is beyond a limit.
    """
    check_prompt_length(asked.prompt, limits)
    if asked.count > limits.max_count:
        raise BadRequest(f"count is {asked.count}, and {limits.max_count} are the most", "count")
    later = pipe.stages[1:]
    if (video is not None) != (asked.start_from in later):
        raise BadRequest(
            f"start_from (one of {', '.join(later)}) and a video in {CLIP}, a file in a form, belong together; "
            "give both or neither",
            CLIP if video is None else "start_from",
        )
    last = pipe.stages[-1] if asked.until is None else asked.until
    first = STAGES.index(asked.start_from or STAGES[0])
    stages = [stage for stage in pipe.stages if first <= STAGES.index(stage) <= STAGES.index(last)]
    settings = _settings(pipe.settings, asked, stages)
    request = make_request(
        asked.prompt,
        model=pipe,
        count=asked.count,
        negative_prompt=asked.negative_prompt,
        seed=asked.seed,
        num_keyframes=_keyframes(asked, settings),
        settings=settings,
        start_from=asked.start_from,
        until=asked.until,
        video=video,
    )
    _check_shape(asked, request)
    check_work(request, limits)
    pipe.check(request)
    return request


def continued(
    asked: Continuation,
    begun: GenerationRequest,
    finished: tuple[StageName, ...],
    pipe: Show1Pipeline,
    fresh: Collection[StageName] = (),
) -> GenerationRequest:
    """The request that carries a draft on.

    Args:
        asked: The body.
        begun: The request of the job that made the drafts.
        finished: Its finished stages, whose settings stay.
        pipe: The model.
        fresh: Stages that another model does now, with its own settings.

    Raises:
        InputError: There is no such draft, or a setting cannot be used.
    """
    if asked.draft > len(begun.prompts):
        raise BadRequest(f"there are {len(begun.prompts)} drafts, and no draft {asked.draft}", "draft")
    first = pipe.stages.index(begun.stages[0])
    last = pipe.stages[-1] if asked.until is None else asked.until
    if last not in pipe.stages[first:]:
        raise BadRequest(f"the video has no stage {last}; it has {', '.join(pipe.stages[first:])}", "until")
    stages = pipe.stages[first : pipe.stages.index(last) + 1]
    sample = begun.sample(asked.draft - 1, stages)
    for stage in fresh:
        own = getattr(pipe.settings, stage)
        avoided = sample.settings.keyframes.negative_prompt
        if avoided != pipe.settings.keyframes.negative_prompt:  # it was given, for every stage
            own = dataclasses.replace(own, negative_prompt=avoided)
        sample = dataclasses.replace(sample, settings=dataclasses.replace(sample.settings, **{stage: own}))
    later = [stage for stage in stages if stage not in finished]
    settings = _settings(sample.settings, asked, later)
    for stage in later if asked.negative_prompt is not None else ():
        settings = settings.replace(**{stage: {"negative_prompt": asked.negative_prompt}})
    request = GenerationRequest.from_dict({**sample.to_dict(), "settings": settings.to_dict()})
    for stage in finished:
        if stage in stages and request.stage_sha256(stage) != sample.stage_sha256(stage):
            raise BadRequest(
                f"{stage} is finished, and a setting that it was made with would change; ask for a new video with "
                "these settings, or change only those of later stages",
                "extra_params",
            )
    pipe.check(request)
    return request


def check_prompt_length(prompt: str, limits: ServerLimits, what: str = "prompt") -> None:
    """Makes sure that a prompt is not too long for the server.

    Args:
        prompt: The prompt.
        limits: What the server allows.
        what: Its name in the message.

    Raises:
        BadRequest: It is.
    """
    if len(prompt) > limits.max_prompt:
        most = limits.max_prompt
        raise BadRequest(f"the {what.replace('_', ' ')} has {len(prompt)} characters, and {most} are the most", what)


def check_work(request: GenerationRequest, limits: ServerLimits, frames: int | None = None) -> None:
    """Makes sure that a request is within the limits of the server.

    Args:
        request: What is asked for.
        limits: What the server allows.
        frames: Frames of the clip that it begins with.

    Raises:
        BadRequest: It asks for too much.
    """
    for stage in STAGES:
        check_prompt_length(getattr(request.settings, stage).negative_prompt, limits, "negative_prompt")
    for stage in request.stages:
        steps = getattr(request.settings, stage).num_inference_steps
        if steps > limits.max_steps:
            raise BadRequest(f"{stage} would take {steps} steps, and {limits.max_steps} are the most")
    pixels = request.largest_output(frames) * len(request.prompts) / 1e6
    if pixels > limits.max_megapixels:
        raise BadRequest(
            f"the videos asked for have {pixels:.0f} million pixels, and {limits.max_megapixels} are the most; ask for "
            "fewer drafts, fewer frames or a smaller size"
        )


def _settings(base: CascadeSettings, asked: Settings, stages: Iterable[StageName]) -> CascadeSettings:
    """Settings with the changes of a body."""
    try:
        return resolve_settings(base, asked.changes(stages))
    except InputError as error:
        raise BadRequest(str(error), "extra_params" if asked.extra_params else None) from error


def _keyframes(asked: Creation, settings: CascadeSettings) -> int | None:
    """Keyframes for the length that is asked for."""
    if asked.num_frames is not None and asked.seconds is not None:
        raise BadRequest("give seconds or num_frames, not both", "num_frames")
    if asked.seconds is not None:
        return max(1, round(asked.seconds * settings.keyframes.fps))
    if asked.num_frames is None:
        return None
    whole_factor = settings.interpolation.factor if asked.until != STAGES[0] else 1
    number, rest = divmod(asked.num_frames - 1, whole_factor)
    if rest or asked.num_frames < 1:
        near = max(0, round((asked.num_frames - 1) / whole_factor)) * whole_factor + 1
        raise BadRequest(f"num_frames must be a multiple of {whole_factor} and one more, such as {near}", "num_frames")
    return number + 1


def _check_shape(asked: Creation, request: GenerationRequest) -> None:
    """Makes sure that a size or frame rate that is asked for is what the model gives."""
    _, height, width, fps = request.final_shape
    wanted = asked.size or (None if asked.width is asked.height is None else f"{asked.width}x{asked.height}")
    if wanted is not None and wanted != f"{width}x{height}":
        raise BadRequest(
            f"this model makes videos of {width}x{height}, not {shown(wanted)}; leave the size out, or change the "
            "settings of its stages in extra_params",
            "size",
        )
    if asked.fps is not None and asked.fps != fps:
        raise BadRequest(f"this model makes {fps:g} frames per second, not {asked.fps:g}; leave fps out", "fps")


def _leaf(value: Any) -> Any:
    """A text of a form as the JSON value that it spells, if it does."""
    try:
        return json.loads(value) if isinstance(value, str) and len(value) < 10_000 else value
    except (ValueError, RecursionError):
        return value
