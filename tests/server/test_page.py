"""The page, in a real browser."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from show1 import Show1Pipeline
from tests.experts.tiny_experts import build_wan
from tests.server.processes import serve, wait_for
from tests.tiny_adapters import random_adapter

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = sync_api.expect

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)"),
]
PROMPT = "a panda spins over the snow"


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    """The page, which must not log an error."""
    with opened_page(browser, address) as opened:
        yield opened


@contextmanager
def opened_page(browser: sync_api.Browser, address: str, **how: bool) -> Iterator[sync_api.Page]:
    """The page of a server, which must not log an error."""
    said: list[str] = []
    with browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True, **how) as context:
        opened = context.new_page()
        opened.set_default_timeout(60_000)
        opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto(address)
        expect(opened.locator("#server")).to_contain_text("Model mini", timeout=60_000)
        yield opened
    assert [text for text in said if "status of 4" not in text and "status of 503" not in text] == []


def ask(page: sync_api.Page, count: int, steps: int = 2) -> sync_api.Locator:
    """Asks for drafts, and returns their card when all are there."""
    page.get_by_label("What should the video show?").fill(PROMPT)
    page.get_by_label("Drafts").fill(str(count))
    if not page.get_by_label("Guidance").is_visible():
        page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Keyframes", exact=True).fill("2")
    page.get_by_label("Steps of the keyframes").fill(str(steps))
    page.get_by_role("button", name="Make drafts").click()
    card = page.locator("#history > li").first
    expect(card.locator(".grid .tile")).to_have_count(count, timeout=60_000)
    return card


def test_drafts_are_made_picked_watched_and_downloaded(page: sync_api.Page, tmp_path: Path) -> None:
    card = ask(page, 3)
    expect(card.locator(".grid video")).to_have_count(3, timeout=120_000)
    playing = "video => !video.paused && video.readyState >= 2 && video.videoWidth === 32"
    page.wait_for_timeout(500)
    assert card.locator(".grid video").first.evaluate(playing)
    card.get_by_role("button", name="Finish this one").nth(1).click()
    strip = card.locator(".wide .tile")
    expect(strip.locator("figure")).to_have_count(4)
    expect(strip.locator("video")).to_have_count(4, timeout=180_000)
    expect(page.locator("#live")).to_contain_text("ready")
    with page.expect_download() as download:
        strip.get_by_role("link", name="Download").click()
    file = tmp_path / "video.mp4"
    download.value.save_as(file)

    page.reload()
    card = page.locator("#history > li").first
    expect(card.locator("video")).to_have_count(7, timeout=60_000)

    page.locator("#file").set_input_files(file)
    found = page.locator("#found")
    expect(found).to_contain_text(PROMPT)
    expect(found).to_contain_text("256x160")
    found.get_by_role("button", name="Close").click()
    dropped = page.evaluate_handle(
        """bytes => {
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))], "dropped.mp4"));
          return data;
        }""",
        base64.b64encode(file.read_bytes()).decode(),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    expect(found).to_contain_text("dropped.mp4")
    expect(found).to_contain_text(PROMPT)
    found.get_by_role("button", name="Use its prompt and seed").click()
    assert page.locator("#seed").input_value() != ""

    boxes = card.get_by_label("Compare")
    boxes.nth(0).check()
    boxes.nth(3).check()
    page.get_by_role("button", name="Compare these two").click()
    expect(page.locator("#compared video")).to_have_count(2)
    page.get_by_role("button", name="Close").last.click()

    before = page.locator(".tile").count()
    card.get_by_role("button", name="Delete").first.click()
    expect(page.locator(".tile")).to_have_count(before - 1)


def test_errors_are_told_and_a_video_can_be_stopped(page: sync_api.Page) -> None:
    page.get_by_text("Settings", exact=True).click()
    page.locator("#frames").evaluate("field => { field.removeAttribute('max'); field.value = '5000'; }")
    page.get_by_label("What should the video show?").fill(PROMPT)
    page.get_by_role("button", name="Make the whole video").click()
    expect(page.get_by_role("alert").first).to_contain_text("1024")
    page.get_by_label("What should the video show?").fill("a zyzzyva spins over the snow")
    page.locator("#frames").fill("2")
    page.get_by_role("button", name="Make the whole video").click()
    expect(page.locator("#history > li").first).to_contain_text("does not know 'zyzzyva'")
    page.locator("#history > li").first.get_by_role("button", name="Stop").click()
    card = ask(page, 1, steps=250)
    card.get_by_role("button", name="Stop").click()
    expect(card.locator(".tile")).to_contain_text("Stopped")
    expect(card.get_by_role("button", name="Try again")).to_be_visible()
    page.locator("#file").set_input_files({"name": "x.mp4", "mimeType": "video/mp4", "buffer": b"\0" * 4000})
    expect(page.get_by_role("alert").first).to_contain_text("cannot be read as a video")


def test_the_page_watches_on_after_an_error(page: sync_api.Page) -> None:
    """A browser never opens a stream of events again by itself that has been answered with an error."""
    asked: list[str] = []

    def refuse_once(route: sync_api.Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, body="no")
        else:
            route.continue_()

    page.route("**/v1/events?*", refuse_once)
    card = ask(page, 1, steps=100)  # so many that the job still runs when the page asks again
    expect(page.locator("#server")).to_contain_text("The connection is lost")
    expect(card.locator("video")).to_have_count(1, timeout=180_000)
    expect(page.locator("#server")).to_contain_text("Model mini")
    assert len(asked) >= 2  # the one that was refused, and the one that brought the video


def test_every_draft_of_a_job_can_be_picked(page: sync_api.Page, address: str) -> None:
    asked = {"prompt": PROMPT, "until": "keyframes", "count": 3, "seed": 5, "num_frames": 2, "num_inference_steps": 2}
    made = httpx2.post(f"{address}/v1/videos", json=asked).json()
    wait_for(lambda: httpx2.get(f"{address}/v1/videos/{made['id']}").json()["status"] == "completed")
    page.reload()
    tile = page.locator(f"#v-{made['id']}")
    expect(tile.locator("video")).to_have_count(3)
    expect(tile.locator("figcaption").nth(2)).to_contain_text("seed 7")
    for draft in range(3):
        source = tile.get_by_role("link", name="Download").nth(draft).get_attribute("href")
        assert source == f"/v1/videos/{made['id']}/content?draft={draft + 1}"
    tile.get_by_label("Compare").nth(0).check()
    tile.get_by_label("Compare").nth(2).check()
    page.get_by_role("button", name="Compare these two").click()
    expect(page.locator("#compared figcaption").last).to_contain_text("seed 7")
    tile.get_by_role("button", name="Finish this one").nth(1).click()
    card = page.locator("#history > li").first
    expect(card.locator(".tile").last).to_contain_text("Seed 6 ")
    for video in httpx2.get(f"{address}/v1/videos").json()["data"]:
        if video["continued_from_video_id"] == made["id"]:
            assert video["draft"] == 2
            httpx2.post(f"{address}/v1/videos/{video['id']}/cancel")


def test_what_this_server_cannot_make_again_is_said(page: sync_api.Page) -> None:
    record = {
        "prompt": "a cat",
        "seed": 3,
        "stages": ["keyframes"],
        "settings": {"keyframes": {}},
        "model": {"name": "mini", "adapters": [{"name": "walk", "weight": 0.5}]},
    }
    found = page.locator("#found")

    def drop(metadata: object) -> None:
        facts = {"object": "video.facts", "num_frames": 5, "height": 40, "width": 64, "fps": 8.0, "metadata": metadata}
        page.unroute("**/v1/inspect")
        page.route("**/v1/inspect", lambda route: route.fulfill(json=facts))
        page.locator("#file").set_input_files({"name": "x.mp4", "mimeType": "video/mp4", "buffer": b"x"})

    drop({"prompt": "by another program"})
    expect(found).to_contain_text("only videos by show1 do")
    drop(record)
    expect(found).to_contain_text("made with walk, which this server does not have")
    expect(found.get_by_role("button", name="Make it again")).to_be_hidden()
    drop({**record, "stages": ["translation"], "model": {"name": "mini"}})
    expect(found).to_contain_text("made from another video, from Translation on")
    drop({**record, "model": {"name": "mini"}})
    expect(found.get_by_role("button", name="Make it again")).to_be_visible()


def test_experts_and_adapters_are_chosen(browser: sync_api.Browser, data: Path, tmp_path: Path) -> None:
    """A draft by an uploaded adapter is finished by an expert; axe-core finds no fault of weight in the settings."""
    wan, pipe = build_wan(tmp_path / "wan"), Show1Pipeline.from_pretrained("mini")
    file = random_adapter(pipe).save(tmp_path / "My walk.safetensors")
    server, address = serve(data, "--expert", f"wan={wan}", "--adapter-uploads")
    with server, opened_page(browser, address, bypass_csp=True) as page:
        page.get_by_text("Settings", exact=True).click()
        expect(page.locator("#adapter")).to_be_hidden()
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(b"no")
        page.get_by_label("Add an adapter").set_input_files(bad)
        expect(page.get_by_role("alert").first).to_contain_text("no safetensors file")
        page.get_by_label("Add an adapter").set_input_files(file)
        expect(page.locator("#adapter")).to_have_value("My-walk")
        expect(page.locator("#trigger")).to_contain_text("a cat walks")
        expect(page.get_by_role("alert").first).to_be_hidden()
        assert [
            v["id"] for v in axe.Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")
        ] == []
        page.get_by_label("Weight of the adapter").fill("0.5")
        card = ask(page, 1)
        page.get_by_label("Last stage by").select_option("wan")
        expect(page.locator("#adapter")).to_have_value("My-walk")
        expect(card.locator(".grid video")).to_have_count(1, timeout=120_000)
        card.get_by_role("button", name="Finish this one").click()
        expect(card.locator(".wide .tile")).to_contain_text("last stage by wan")
        made = httpx2.get(f"{address}/v1/videos").json()["data"]
        assert [video["expert"] for video in made] == ["wan", None]  # it was chosen when the draft was there
        assert [video["adapters"] for video in made] == [{"My-walk": 0.5}] * 2
        httpx2.post(f"{address}/v1/videos/{made[0]['id']}/cancel")
        page.get_by_role("button", name="Delete this adapter").click()
        expect(page.locator("#adapter")).to_be_hidden()


def test_the_keyboard_alone_makes_a_draft(page: sync_api.Page, address: str) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the videos")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("a cat moves left over the grass")
    for _ in range(len(page.locator(".example").all()) + 2):
        if page.evaluate("() => document.activeElement.textContent") == "Make drafts":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    card = page.locator("#history > li", has_text="a cat moves left over the grass")
    expect(card.locator(".tile")).to_have_count(4)
    for video in httpx2.get(f"{address}/v1/videos").json()["data"]:
        httpx2.post(f"{address}/v1/videos/{video['id']}/cancel")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nobody_is_shut_out(browser: sync_api.Browser, address: str, scheme: str, width: int) -> None:
    """axe-core finds no fault of weight, and nothing is wider than the screen."""
    made = httpx2.post(
        f"{address}/v1/videos", json={"prompt": PROMPT, "num_frames": 5, "num_inference_steps": 2}
    ).json()
    with browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(address)
        expect(page.locator(f"#v-{made['id']} video")).to_have_count(4, timeout=180_000)
        page.get_by_text("Settings", exact=True).click()
        assert page.locator("#live").evaluate("live => live.offsetWidth") == 1  # what it says is heard, not seen
        found = axe.Axe().run(page)
        serious = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
        assert serious == [], [(v["id"], [node["html"] for node in v["nodes"]][:3]) for v in serious]
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
