"""`python -m tools.screenshots`: the pictures of docs/seeing.md, a training's metrics in TensorBoard, MLflow and W&B.

Runs examples/logged_digits.py in a folder of its own, starts the real tools on what it logged, and takes their pages
with a headless Chromium. The pages of W&B need an account, so its picture shows `wandb leet`, its own viewer of offline
runs, in a terminal. On Debian: apt-get install chromium tmux; pip install wandb.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

TOP = Path(__file__).parents[1]
IMAGES = TOP / "docs/images"
WIDTH, HEIGHT, ONE_ROW = 1200, 820, 615  # the last: of charts, in MLflow
SHOWN = "(level|loss|lr|update_ratio)$"  # metrics
WAIT = 300  # seconds that a server may take to start
DRAWN = 8000  # milliseconds that a page may take to draw its curves
COLUMNS, LINES = 140, 33  # of a terminal
TERMINAL = os.environ | {"TERM": "xterm-256color"}
TERMINAL_STYLE = """
pre { display: inline-block; margin: 0; padding: 12px; font: 14px/16px "DejaVu Sans Mono"; }
.cell { display: inline-block; width: 1ch; height: 16px; font-style: normal; overflow: hidden; vertical-align: top; }
"""
COLOURS = 128  # of a picture's palette, which keeps its file small


def chromium() -> str:
    """The browser's path. Raises FileNotFoundError where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no Chromium found; on Debian: apt-get install chromium")


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[str]:
    """The address of a server that runs in `folder` meanwhile; `command` takes its port as `{port}`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, "-m", *(part.format(port=port) for part in command)]
    with (folder / f"{command[0]}.log").open("w") as log:
        server = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(WAIT):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait()


def shoot(page: Page, path: Path, what: Locator | None = None) -> None:
    """Write what the page, or an element of it, shows, in few colours."""
    page.mouse.move(0, 0)  # it would show what can be clicked
    (what or page).screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")


def tensorboard(browser: Browser, folder: Path) -> None:
    """Some of the metrics, loss and learning rate on log axes, without settings and tables."""
    with serving(folder, "tensorboard.main", "--logdir", "runs", "--port", "{port}") as address:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}/?darkMode=false&smoothing=0&tagFilter={SHOWN}#timeseries")
        page.click("text=Enable step selection and data table", timeout=1000 * WAIT)
        page.click("[aria-label='Close side pane']")
        page.wait_for_timeout(DRAWN)
        for card in page.locator("scalar-card").all():
            if "/l" in (name := card.inner_text()) and "/level" not in name:  # loss, lr
                card.locator("[aria-label='More line chart options']").click()
                page.click("[aria-label='Toggle Y-axis log scale on line chart']")
        page.wait_for_timeout(DRAWN)
        shoot(page, IMAGES / "tensorboard.png")


def mlflow(browser: Browser, folder: Path) -> None:
    """The same metrics on the run's page, without the assistant."""
    store = ("--backend-store-uri", "sqlite:///mlflow.db")
    training = "?workflowType=machine_learning"
    with serving(folder, "mlflow", "server", *store, "--port", "{port}", "--workers", "1") as address:
        page = browser.new_page(viewport={"width": WIDTH, "height": ONE_ROW})
        page.goto(f"{address}/#/experiments/1/runs{training}")
        run = page.locator("a", has_text="PilotLR").first.get_attribute("href", timeout=1000 * WAIT)
        page.goto(f"{address}/{run}/model-metrics{training}")
        page.fill("[placeholder='Search metric charts']", SHOWN, timeout=1000 * WAIT)
        page.locator("[aria-label='Close']").last.click()
        page.wait_for_timeout(DRAWN)
        shoot(page, IMAGES / "mlflow.png")


def wandb(browser: Browser, folder: Path) -> None:
    """W&B's viewer without its side bars, the learning rate on a log axis."""
    if not (shutil.which("tmux") and importlib.util.find_spec("wandb")):
        print("no picture of W&B: it needs tmux and wandb")
        return
    name = ("tmux", "-L", "screenshots", "-f", "/dev/null")
    size = ("-x", str(COLUMNS), "-y", str(LINES))

    def tmux(*command: str) -> str:
        done = subprocess.run([*name, *command], cwd=folder, env=TERMINAL, capture_output=True, text=True, check=True)
        return done.stdout

    def press(keys: Sequence[str], until: Callable[[str], bool]) -> None:
        while not until(tmux("capture-pane", "-p")):
            tmux("send-keys", *keys)
            time.sleep(DRAWN / 1000)

    tmux("new-session", "-d", *size, sys.executable, "-m", "wandb", "leet", "run", "wandb/latest-run")
    try:
        press((), lambda text: "lrpilot/loss_noise" in text)  # it is there
        press(["["], lambda text: "Run Overview" not in text)
        press(["]"], lambda text: "System Metrics" not in text)
        press(["Tab", "s", "s", "y"], lambda text: "lrpilot/lr [log]" in text)  # of the third row of charts
        text = tmux("capture-pane", "-p", "-e")
    finally:
        tmux("kill-server")
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(text))
    html = console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True)
    # Fonts of one width have no patterns of dots: these are put into cells of that width.
    cells = re.sub("[\u2800-\u28ff]", r'<i class="cell">\g<0></i>', html)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_content(f"<style>{TERMINAL_STYLE}</style>{cells}")
    shoot(page, IMAGES / "wandb.png", page.locator("pre"))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        subprocess.run([sys.executable, TOP / "examples/logged_digits.py"], cwd=folder, check=True)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tensorboard(browser, folder)
        mlflow(browser, folder)
        wandb(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
