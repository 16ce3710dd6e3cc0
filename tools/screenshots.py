"""`python -m tools.screenshots`: the pictures of docs/seeing.md, a training's metrics in TensorBoard and in MLflow.

Runs examples/logged_digits.py in a folder of its own, starts the real servers on what it logged, and takes their pages
with a headless Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

TOP = Path(__file__).parents[1]
IMAGES = TOP / "docs/images"
WIDTH, HEIGHT = 1200, 760
WAIT = 120  # seconds that a server may take
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


def shoot(page: Page, path: Path) -> None:
    """Write what the page shows, in few colours."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")


def tensorboard(browser: Browser, folder: Path) -> None:
    with serving(folder, "tensorboard.main", "--logdir", "runs", "--port", "{port}") as address:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}/?darkMode=false#timeseries")
        page.wait_for_selector("text=lrpilot/lr", timeout=1000 * WAIT)
        page.wait_for_timeout(5000)  # its curves are drawn bit by bit
        shoot(page, IMAGES / "tensorboard.png")


def mlflow(browser: Browser, folder: Path) -> None:
    store = ("--backend-store-uri", "sqlite:///mlflow.db")
    with serving(folder, "mlflow", "server", *store, "--port", "{port}", "--workers", "1") as address:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}/#/experiments/1/runs?workflowType=machine_learning")
        page.click("text=PilotLR", timeout=1000 * WAIT)
        page.click("text=Model metrics", timeout=1000 * WAIT)
        page.wait_for_timeout(8000)
        shoot(page, IMAGES / "mlflow.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        subprocess.run([sys.executable, TOP / "examples/logged_digits.py"], cwd=folder, check=True)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tensorboard(browser, folder)
        mlflow(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
