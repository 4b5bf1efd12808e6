"""The real JupyterLab in a headless Chromium: notebooks 00 and 06 run there as for a reader; a slider moves a figure.

The screenshots lie in build/screenshots/ afterwards, to be looked at.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from helpers import ROOT
from nbformat.reader import NotJSONError
from playwright.sync_api import Error, sync_playwright

pytestmark = pytest.mark.slow

SCREENSHOTS = ROOT / "build" / "screenshots"
QUICK = {  # parameters: what is looked at here is how a notebook runs, not its numbers
    "00": {"ITERATIONS": 4, "TEST_PER_CLASS": 4},
    "06": {"ITERATIONS": 2, "TEST_PER_CLASS": 5, "CODE_ITERATIONS": 30, "PATCH_ITERATIONS": 10},
}
PATIENCE = 900  # seconds for a notebook; an idle machine needs a tenth of it
STDERR, ERROR = (f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("stderr", "error"))


def saved_notebook(number):
    return next((ROOT / "notebooks").glob(f"{number}_*.ipynb"))


def quick_copy(number, folder):
    """A copy without outputs in `folder`, with the quick parameters; returns its path."""
    source = saved_notebook(number)
    notebook = nbformat.read(source, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
        if "parameters" in cell.metadata.get("tags", []):
            for name, value in QUICK[number].items():
                cell.source, found = re.subn(rf"(?m)^({name}: \w+ = )\S+", rf"\g<1>{value}", cell.source)
                assert found == 1, name
    nbformat.write(notebook, folder / source.name)
    return folder / source.name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(address, token, folder) of a JupyterLab with settings of its own, so that the machine's do not matter."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    news = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # a question about news would cover the page
    token = secrets.token_hex()
    settings = {
        "JUPYTER_TOKEN": token, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime", "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces", "TQDM_DISABLE": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    address, log = f"http://127.0.0.1:{port}", home / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, env={**os.environ, **{k: str(v) for k, v in settings.items()}}, stdout=out, stderr=out
        )
    try:
        for _ in range(300):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail(f"JupyterLab did not answer within a minute:\n{log.read_text()}")
        yield address, token, folder
    finally:
        server.terminate()
        server.wait(60)


def installed():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium():
    """The machine's own Chromium or Chrome; where there is none, Playwright's, downloaded the first time."""
    with sync_playwright() as playwright:
        if own := installed():
            browser = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        else:
            download = [sys.executable, "-m", "playwright", "install", "chromium"]
            try:
                subprocess.run(download, check=True, capture_output=True, timeout=300)
                browser = playwright.chromium.launch()
            except (subprocess.SubprocessError, Error) as error:
                pytest.skip(f"no chromium or google-chrome on the PATH, and Playwright could not get one: {error}")
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, request):
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    screenshot(page, request.node.name)
    page.close()


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def run_all(page, lab, number):
    """Open a copy of the notebook and run all cells through the menu; saved again and again until all are done."""
    address, token, folder = lab
    path = quick_copy(number, folder)
    page.goto(f"{address}/lab/tree/{path.name}?reset&token={token}")
    page.get_by_text("| Idle").wait_for(timeout=120_000)  # the kernel, in the bar at the bottom
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end, done = time.monotonic() + PATIENCE, False
    while not done:
        assert time.monotonic() < end, f"{path.name} was not done after {PATIENCE} seconds"
        page.wait_for_timeout(1000)
        page.keyboard.press("Control+s")
        try:
            cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        except NotJSONError:
            continue  # the server is writing it just now
        outputs = [output for cell in cells for output in cell.outputs]
        bad = [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
        assert not bad, bad
        done = all(cell.execution_count for cell in cells)
    expected = [output for cell in nbformat.read(saved_notebook(number), 4).cells for output in cell.get("outputs", [])]
    assert figures(outputs) == figures(expected) > 0


def figures(outputs):
    return sum("image/png" in output.get("data", {}) for output in outputs)


def nothing_went_wrong(page):
    return page.locator(STDERR).count() == page.locator(ERROR).count() == 0  # also inside widgets


def test_notebook_00_runs_and_shows_its_figures(page, lab):
    run_all(page, lab, "00")
    shown = page.locator(".jp-RenderedImage img").last
    shown.hover()  # scrolls there and waits until the page stands still
    assert shown.evaluate("image => image.naturalWidth") > 300
    assert nothing_went_wrong(page)


def test_the_slider_of_notebook_06_moves_its_figure(page, lab):
    run_all(page, lab, "06")
    figure, handle = page.locator(".jupyter-widgets img"), page.locator(".noUi-handle")
    figure.hover()
    handle.hover()
    screenshot(page, "before_the_slider_moves")
    before, box = figure.get_attribute("src"), handle.bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"], steps=5)
    page.mouse.up()
    now = "document.querySelector('.jupyter-widgets img')"  # another element than before, perhaps
    page.wait_for_function(f"before => {now} && {now}.src != before", arg=before, timeout=60_000)
    page.wait_for_function(f"{now}.naturalWidth > 300")
    assert nothing_went_wrong(page)
