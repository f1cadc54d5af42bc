"""How long the page lets you wait: seconds from the click on "Make drafts" until drafts play, in a real browser.

    python -m benchmarks page
    python -m benchmarks page --desktop docs/images/page.png --phone docs/images/page-phone.png

It starts a server with mini in a folder of its own, as `show1 serve` does, and asks for four drafts again and again;
the first round warms up and does not count. With `--desktop` or `--phone` it then lets a draft be finished, and takes
pictures of the page. Needs Chromium, Pillow and `pip install 'show1[server]' playwright`.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

PROMPT = "a panda spins over the snow"
DRAFTS, SEED = 4, 1
PLAYING = """count => {
  const videos = [...document.querySelectorAll("#history > li:first-child .grid video")];
  return videos.filter(video => video.readyState >= 2 && video.checkVisibility()).length >= count;
}"""
"""Whether so many drafts of the newest card show a picture."""
FINISHED = 'count => document.querySelectorAll("#history > li:first-child video").length >= count'
"""Whether the newest card has so many videos."""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server with a worker."""
    log = folder / "log"
    command = [sys.executable, "-m", "show1", "serve", "--port", "0", "--data", str(folder / "data")]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            while not (found := re.search(r"^http://\S+:\d+$", log.read_text(), re.MULTILINE)):
                if process.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.1)
            yield found[0]
        finally:
            process.terminate()


def opened(browser: Browser, address: str, width: int, height: int, scale: float) -> Page:
    """The page, in a window of that size."""
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page.set_default_timeout(300_000)
    page.goto(address)
    page.get_by_text("Model mini").wait_for()
    return page


def ask(page: Page) -> tuple[float, float]:
    """Seconds until the first draft is seen, and until all are."""
    cards = page.locator("#history > li").count()
    page.get_by_label("What should the video show?").fill(PROMPT)
    page.locator("#seed").evaluate("(field, seed) => { field.value = seed; }", str(SEED))
    began = time.perf_counter()
    page.get_by_role("button", name="Make drafts").click()
    page.wait_for_function(f"() => document.querySelectorAll('#history > li').length > {cards}")
    seconds = []
    for count in (1, DRAFTS):
        page.wait_for_function(PLAYING, arg=count, polling="raf")
        seconds.append(time.perf_counter() - began)
    page.wait_for_timeout(3500)  # what is asked for later has a card of its own
    return seconds[0], seconds[1]


def finish(page: Page) -> None:
    """Lets the first draft of the newest card become a video."""
    page.locator("#history > li").first.get_by_role("button", name="Finish this one").first.click()
    page.wait_for_function(FINISHED, arg=DRAFTS + 4)


def take_picture(browser: Browser, address: str, file: Path, width: int, scale: float) -> None:
    """Writes a picture of the page down to the end of its newest card."""
    page = opened(browser, address, width, 1000, scale)
    page.wait_for_function(FINISHED, arg=DRAFTS + 4)
    box = page.locator("#history > li").first.bounding_box()
    assert box is not None
    page.set_viewport_size({"width": width, "height": round(box["y"] + box["height"] + 16)})
    page.wait_for_timeout(2000)
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)


def main() -> None:
    """Measures, and takes pictures if it is asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often to ask, after one round that does not count")
    parser.add_argument("--desktop", type=Path, metavar="FILE", help="take a picture of the page")
    parser.add_argument("--phone", type=Path, metavar="FILE", help="take one at the width of a phone")
    options = parser.parse_args()
    if (chromium := shutil.which("chromium")) is None:
        sys.exit("no Chromium is installed (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened(browser, address, 1280, 1000, 0.75)
        rounds = [ask(page) for _ in range(1 + options.rounds)][1:]
        for name, seconds in zip(("first", "all"), zip(*rounds, strict=True), strict=True):
            told = " ".join(f"{each:.2f}" for each in seconds)
            print(f"{name} of {DRAFTS} drafts seen after {statistics.median(seconds):.2f} s (median of {told})")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        if options.desktop or options.phone:
            finish(page)
        for file, width, scale in ((options.desktop, 1280, 0.75), (options.phone, 390, 1.0)):
            if file is not None:
                take_picture(browser, address, file, width, scale)
        browser.close()


if __name__ == "__main__":
    main()
