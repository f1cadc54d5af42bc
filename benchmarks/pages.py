"""Tables on pages of the documentation that scripts write themselves, and what they were measured on."""

import datetime
import os
import platform
from pathlib import Path

import torch


def replace_table(page: Path, name: str, table: str) -> None:
    """Puts a table between the marks `<!-- name -->` and `<!-- end -->` of a page.

    Raises:
        SystemExit: The page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, mark, rest = page.read_text(encoding="utf-8").partition(begin)
    if not mark or end not in rest:
        raise SystemExit(f"{page} has no table to replace: put {begin.strip()} and {end} where it belongs")
    page.write_text(f"{before}{begin}{table}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def measured_on() -> str:
    """The processor, its load, the version of torch and the date, as a line below a table."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return f"{processor()}, {threads}{load}; torch {torch.__version__}, {datetime.date.today()}"


def processor() -> str:
    """The processor's own name, where it has one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    wide = ["with AVX-512 BF16"] if getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() else []
    return " ".join([platform.machine(), *names[:1], *wide])
