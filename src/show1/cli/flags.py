"""Options that several commands have alike."""

from typing import Annotated, Literal

import typer

_MEMORY = (
    "low keeps one network in memory at a time, high keeps all; auto{} decides by the machine. A size such as 6GB is a "
    "budget that the generation keeps to."
)
MemoryFlag = Annotated[str, typer.Option(metavar="auto|low|high|SIZE", help=_MEMORY.format(""))]
ShownMemoryFlag = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="auto|low|high|SIZE",
        help=f"{_MEMORY.format(', the default,')} What each part is predicted to take is then shown first.",
        show_default=False,
    ),
]
"""None: it was not given, which means `auto`."""
DeviceFlag = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,STAGE=NAME...]",
        help="cpu, cuda, cuda:1 or mps; by default the fastest device. Stages may have devices of their own, "
        "such as cuda:0,text=cpu (docs/devices.md).",
    ),
]
StorageFlag = Annotated[
    str | None,
    typer.Option(
        metavar="fp8|int8|int4",
        help="Store weights in fewer bits, an approximation: fp8 for the stages' networks, int8 or int4 for text "
        "encoders, or two such as fp8,int4 (docs/memory.md).",
    ),
]
Precision = Literal["float32", "bfloat16", "float16", "float64"]
Sheet = Annotated[str | None, typer.Option(metavar="FILE.png", help="Also write a contact sheet: frames side by side.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress, only the file's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
VideoAsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout: file, run, seed, timings, peak memory.")
]
