"""A browser before the page of `lumachrome serve`, and what a person does there; the cases are in page_test.py."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
except ImportError:
    webdriver = None

PATIENCE = 60  # seconds; the machine may be busy
DESKTOP, PHONE = (1280, 800), (390, 844)


def missing():
    """Why nothing can be tested here, or None."""
    if webdriver is None:
        return "Python has no selenium"
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            return f"there is no {program}"
    return None


class Server:
    """A server of our own, on a free port."""

    def __init__(self, binary):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([binary, "serve", "--port", str(port)], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(self.url + "healthz", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    self.stop()
                    raise RuntimeError(
                        "the server does not start: " + self.log.read().decode(errors="replace")
                    ) from None
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class PageCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        binary = os.environ["LUMACHROME_BINARY"]
        with contextlib.ExitStack() as stack:
            cls.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            subprocess.run(
                [binary, "data", "scenes", cls.folder / "scenes", "--count", "14"], check=True, capture_output=True
            )
            cls.photos = sorted((cls.folder / "scenes").rglob("*.png"))
            cls.url = os.environ.get("LUMACHROME_PAGE_URL")
            if not cls.url:
                server = Server(binary)
                stack.callback(server.stop)
                cls.url = server.url
            cls.downloads = cls.folder / "downloads"
            cls.downloads.mkdir()
            cls.browser = cls.start_browser()
            stack.callback(cls.browser.quit)
            cls.addClassCleanup(stack.pop_all().close)

    @classmethod
    def start_browser(cls):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for word in (
            "headless=new",
            "no-sandbox",
            "disable-dev-shm-usage",
            "hide-scrollbars",
            "disable-background-networking",
        ):
            options.add_argument("--" + word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(cls.downloads)}
        )
        return browser

    def setUp(self):
        self.expected_errors = ()  # parts of console messages that the case provokes
        self.size(*DESKTOP)
        self.browser.get(self.url)
        self.js("localStorage.clear()")
        self.reload()

    def tearDown(self):
        errors = [
            entry["message"]
            for entry in self.browser.get_log("browser")
            if entry["level"] == "SEVERE" and not any(part in entry["message"] for part in self.expected_errors)
        ]
        self.assertEqual(errors, [], "errors in the console")
        events = (json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance"))
        asked = {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }
        strangers = [url for url in asked if not url.startswith((self.url, "blob:" + self.url, "data:"))]
        self.assertEqual(strangers, [], "requests to other hosts")

    # What a person does -------------------------------------------------------------------------------

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, what, script, *arguments):
        deadline = time.monotonic() + PATIENCE
        while not (value := self.js(f"return ({script})", *arguments)):
            self.assertLess(time.monotonic(), deadline, f"waited in vain: {what}")
            time.sleep(0.03)
        return value

    def reload(self):
        self.browser.get(self.url)
        self.wait("the page starts", "document.documentElement.dataset.ready !== undefined")

    def size(self, width, height, dark=False):
        phone = width < 600
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        self.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def drop(self, selector, files):
        """files: (name, bytes) pairs, dropped together."""
        left_to_browser = self.js(
            """
            const transfer = new DataTransfer();
            for (const [name, data] of arguments[1])
                transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
            return ["dragenter", "dragover", "drop"].map((type) => document.querySelector(arguments[0]).dispatchEvent(
                new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true})));
            """,
            selector,
            [(name, base64.b64encode(data).decode()) for name, data in files],
        )
        self.assertEqual(left_to_browser[1:], [False, False], "the browser would open what is dropped")

    def choose(self, input_id, photos):
        self.browser.find_element(By.ID, input_id).send_keys("\n".join(map(str, photos)))

    def add(self, *photos):
        self.drop("body", [(photo.parent.name + photo.suffix, photo.read_bytes()) for photo in photos])
        self.settle(len(photos))

    def settle(self, photos):
        """Until so many photos are in colour, and nothing is on its way."""
        self.wait(
            f"{photos} photos in colour",
            "document.querySelectorAll('.film-open').length - "
            "document.querySelectorAll('.film-item.waiting').length >= arguments[0]",
            photos,
        )
        self.wait(
            "the photo is shown",
            "(image => image.complete && image.naturalWidth > 0 && "
            "document.getElementById('compare').getAttribute('aria-busy') === 'false')(document.getElementById('after-image'))",
        )

    @contextlib.contextmanager
    def recoloured(self):
        """Until what is done inside has led to another result."""
        before = self.js("return document.getElementById('after-image').src")
        yield
        self.wait("another result", "document.getElementById('after-image').src !== arguments[0]", before)
        self.settle(0)

    def colours(self):
        """Of the result: the mean of R, G and B, and the largest difference between channels of a pixel."""
        return self.js("""
            const image = document.getElementById("after-image");
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
            const sums = [0, 0, 0];
            let chroma = 0;
            for (let i = 0; i < data.length; i += 4) {
                for (let c = 0; c < 3; ++c) sums[c] += data[i + c];
                chroma = Math.max(chroma, Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]));
            }
            return {mean: sums.map((sum) => sum * 4 / data.length), chroma};
            """)

    def difference(self, first, second):
        return max(abs(a - b) for a, b in zip(first["mean"], second["mean"]))

    def visible_share(self):
        """Of the photo's width that shows the result, as the mouse would find it."""
        return self.js("""
            const box = document.getElementById("compare").getBoundingClientRect();
            const after = document.querySelector(".after");
            const hits = Array.from({length: 100}, (_, i) =>
                document.elementsFromPoint(box.left + box.width * (i + 0.5) / 100, box.top + 0.8 * box.height).includes(after));
            return hits.filter(Boolean).length / 100;
            """)

    @contextlib.contextmanager
    def download(self):
        """Gives a list that holds the path of the file downloaded inside."""
        for old in self.downloads.iterdir():
            old.unlink()
        found = []
        yield found
        deadline = time.monotonic() + PATIENCE
        while not (found and found[0].suffix != ".crdownload"):
            self.assertLess(time.monotonic(), deadline, "waited in vain for a download")
            time.sleep(0.03)
            found[:] = [path for path in self.downloads.iterdir() if not path.name.startswith(".")]

    def fits(self):
        """Nothing is wider than the window."""
        return self.js(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth && innerWidth <= screen.width"
        )
