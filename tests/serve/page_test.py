"""The page of `lumachrome serve`, used as people use it, in headless Chromium.

Needs LUMACHROME_BINARY, chromium, chromedriver and Selenium; without a browser or Selenium all cases are skipped. Photos are drawn
by the binary itself. LUMACHROME_PAGE_URL: the page of a server that runs already. LUMACHROME_SCREENSHOTS: a folder for pictures.
"""

import base64
import csv
import io
import json
import math
import os
import shutil
import statistics
import struct
import sys
import unittest
import zipfile
from collections import Counter
from pathlib import Path

from page_case import DESKTOP, PHONE, PageCase, missing

try:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    pass  # all is skipped


def size_of(image):
    """(width, height) of PNG or JPEG bytes."""
    if image.startswith(b"\x89PNG"):
        return struct.unpack(">II", image[16:24])
    assert image.startswith(b"\xff\xd8"), image[:8]
    at = 2
    while True:
        marker, length = image[at + 1], struct.unpack(">H", image[at + 2 : at + 4])[0]
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            return width, height
        at += 2 + length


def wilson(hits, count):
    z = statistics.NormalDist().inv_cdf(0.975)
    share = hits / count
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [(middle + sign * reach) / (1 + z * z / count) for sign in (-1, 1)]


class PageTest(PageCase):
    # Colour -------------------------------------------------------------------------------------------

    def test_drop_gives_colour(self):
        self.drop("#drop", [("meadow.png", self.photos[0].read_bytes())])
        self.settle(1)
        self.assertTrue(self.find("#compare").is_displayed())
        self.assertFalse(self.find("#welcome").is_displayed())
        self.assertGreater(self.colours()["chroma"], 8)
        self.assertEqual(self.text(".film-name"), "meadow.png")
        bars = self.browser.find_elements(By.CSS_SELECTOR, ".bar")
        self.assertEqual(len(bars), 5)
        self.assertTrue(bars[0].text.strip().endswith("%"))

    def test_folder_dropped(self):
        folder = self.folder / "album" / "inside"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.photos[0], folder / "page 10.png")
        shutil.copyfile(self.photos[1], folder.parent / "page 9.png")
        (folder / "notes.txt").write_text("no photo")
        for kind in ("dragEnter", "dragOver", "drop"):
            self.browser.execute_cdp_cmd(
                "Input.dispatchDragEvent",
                {
                    "type": kind,
                    "x": 600,
                    "y": 300,
                    "data": {"items": [], "files": [str(folder.parent)], "dragOperationsMask": 1},
                },
            )
        self.settle(2)
        names = [
            name.get_attribute("textContent") for name in self.browser.find_elements(By.CSS_SELECTOR, ".film-name")
        ]
        self.assertEqual(names, ["page 9.png", "page 10.png"])

    def test_paste(self):
        self.js(
            """
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0))], "image.png", {type: "image/png"}));
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true}));
            """,
            base64.b64encode(self.photos[0].read_bytes()).decode(),
        )
        self.settle(1)

    def test_format_that_only_the_browser_knows(self):
        self.expected_errors = ("422", "415")  # the server says so first
        data = self.browser.execute_async_script(
            "const canvas = Object.assign(document.createElement('canvas'), {width: 90, height: 60});"
            "canvas.getContext('2d').fillRect(20, 20, 30, 30); arguments[0](canvas.toDataURL('image/webp').split(',')[1])"
        )
        photo = self.folder / "photo.webp"
        photo.write_bytes(base64.b64decode(data))
        self.choose("photo-input", [photo])
        self.settle(1)
        self.assertEqual(
            self.js(
                "const {naturalWidth, naturalHeight} = document.getElementById('after-image');"
                "return [naturalWidth, naturalHeight]"
            ),
            [90, 60],
        )

    def test_slider(self):
        self.add(self.photos[0])
        handle = self.find("#handle")
        self.wait("the slider rests", "!document.getElementById('compare').getAnimations().length")
        self.assertAlmostEqual(self.visible_share(), 0.5, delta=0.07)
        handle.send_keys(Keys.ARROW_LEFT * 10)
        self.assertEqual(handle.get_attribute("aria-valuenow"), "30")
        self.assertAlmostEqual(self.visible_share(), 0.7, delta=0.07)
        handle.send_keys(Keys.END)
        self.assertEqual(handle.get_attribute("aria-valuetext"), "100 % before, 0 % after")
        self.assertLess(self.visible_share(), 0.05)
        box = self.find("#compare")
        ActionChains(self.browser).move_to_element_with_offset(box, 100, 40).click_and_hold().move_by_offset(
            -100 - box.rect["width"] // 4, 5
        ).release().perform()
        self.assertAlmostEqual(self.visible_share(), 0.75, delta=0.07)
        touch = ActionBuilder(self.browser, mouse=PointerInput("touch", "finger"))
        touch.pointer_action.move_to(box, 0, 50).pointer_down().move_to(box, box.rect["width"] // 4, 50).pointer_up()
        touch.perform()
        self.assertAlmostEqual(self.visible_share(), 0.25, delta=0.07)

    def test_side_by_side(self):
        self.add(self.photos[0])
        self.js("document.querySelector('[name=view][value=side]').click()")
        before, after = self.find(".before").rect, self.find(".after").rect
        self.assertLessEqual(before["x"] + before["width"], after["x"])
        self.assertAlmostEqual(before["width"], after["width"], delta=2)
        self.assertFalse(self.find("#handle").is_displayed())

    def test_scene_changes_colours(self):
        self.add(self.photos[0])
        own = self.colours()
        with self.recoloured():
            self.browser.find_elements(By.CSS_SELECTOR, ".bar")[3].click()
        self.assertGreater(self.difference(own, self.colours()), 0.5)
        self.assertEqual(
            self.find(".bar[aria-pressed=true] .bar-label").text.lower().replace(" ", "_"),
            self.find("#classes").get_attribute("value"),
        )
        with self.recoloured():
            self.find(".bar[aria-pressed=true]").click()
        self.assertLess(self.difference(own, self.colours()), 0.1)

    def test_style_changes_colours(self):
        self.add(self.photos[0], self.photos[5])
        own = self.colours()
        with self.recoloured():
            self.drop("#style-drop", [("autumn.png", self.photos[2].read_bytes())])
        full = self.colours()
        self.assertGreater(self.difference(own, full), 0.5)
        with self.recoloured():
            self.find(".style input").send_keys(Keys.HOME)
        self.assertLess(self.difference(own, self.colours()), 0.1)
        with self.recoloured():
            self.find(".candidate-photo").click()  # the other photo of the film strip
        self.assertGreater(self.difference(own, self.colours()), 0.5)
        self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, ".style")), 2)
        self.drop("#style-drop", [("notes.txt", b"no photo")])
        self.expected_errors = ("422", "415")
        self.wait("the error", "document.getElementById('style-message').textContent.startsWith('notes.txt: ')")

    def test_saturation_zero_is_gray(self):
        self.add(self.photos[0])
        with self.recoloured():
            self.find("#saturation").send_keys(Keys.HOME)
        self.assertLessEqual(self.colours()["chroma"], 4)  # JPEG rounds
        self.assertEqual(self.text("#saturation-value"), "0.00")
        with self.recoloured():
            self.find("#reset").click()
        self.assertGreater(self.colours()["chroma"], 8)

    def test_only_the_newest_change_counts(self):
        self.add(self.photos[0])
        slider = self.find("#saturation")
        with self.recoloured():
            slider.send_keys(Keys.END, Keys.ARROW_LEFT * 12, Keys.HOME)
        self.assertLessEqual(self.colours()["chroma"], 4)

    def test_network_size(self):
        self.add(self.photos[0])
        seen = self.text("#network")
        with self.recoloured():
            self.js("const s = document.getElementById('size'); s.value = '112'; s.dispatchEvent(new Event('change'))")
        self.assertIn("112", self.text("#network"))
        self.assertNotEqual(seen, self.text("#network"))

    def test_download_has_the_size_of_the_photo(self):
        self.add(self.photos[0])
        size = size_of(self.photos[0].read_bytes())
        for extension, choice in ((".jpg", "jpeg"), (".png", "png")):
            self.js("document.querySelector(`[name=format][value=${arguments[0]}]`).click()", choice)
            with self.download() as files:
                self.find("#download").click()
            self.assertEqual(files[0].name, self.photos[0].parent.name + "-color" + extension)
            self.assertEqual(size_of(files[0].read_bytes()), size)
        with self.download() as files:
            self.find("#style-file").click()
        style = files[0].read_bytes()
        self.assertGreater(len(style), 32)
        self.drop("#style-drop", [(files[0].name, style)])
        self.wait("the style file is in use", "document.querySelectorAll('.style').length === 1")

    def test_zip_of_three(self):
        self.drop(
            "body",
            [
                (name, photo.read_bytes())
                for name, photo in zip(("grandma.png", "Grandma.png", "Großvater im Garten.png"), self.photos)
            ],
        )
        self.settle(3)
        self.js("document.querySelector('[name=format][value=png]').click()")
        with self.download() as files:
            self.find("#download-all").click()
        with zipfile.ZipFile(files[0]) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual(
                [entry.filename for entry in archive.infolist()],
                ["grandma-color.png", "Grandma-color-2.png", "Großvater im Garten-color.png"],
            )
            for entry, photo in zip(archive.infolist(), self.photos):
                self.assertEqual(entry.compress_type, zipfile.ZIP_STORED)
                self.assertTrue(entry.flag_bits & 0x800)
                self.assertEqual(size_of(archive.read(entry)), size_of(photo.read_bytes()))
        self.assertEqual(self.text("#batch-text"), "3 of 3 photos are in lumachrome.zip.")

    def test_bad_file_does_not_stop_the_others(self):
        self.expected_errors = ("422", "415")
        self.drop(
            "body",
            [
                ("one.png", self.photos[0].read_bytes()),
                ("broken.jpg", b"\xff\xd8 no photo"),
                ("two.png", self.photos[1].read_bytes()),
            ],
        )
        self.settle(2)
        failed = self.wait("the error", "document.querySelector('.film-item.failed .film-error')?.textContent")
        self.assertNotIn("{", failed)
        self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, ".film-item.failed")), 1)
        self.find(".film-item.failed .film-open").click()
        self.assertEqual(self.text("#message"), "broken.jpg: " + failed)
        self.assertFalse(self.find("#download").is_enabled())
        with self.download() as files:
            self.find("#download-all").click()
        with zipfile.ZipFile(files[0]) as archive:
            self.assertEqual(len(archive.namelist()), 2)
        self.find(".film-item.failed .film-remove").click()
        self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, ".film-open")), 2)

    def test_forgotten_photo_is_sent_again(self):
        self.add(self.photos[0])
        self.expected_errors = ("404",)
        status = self.browser.execute_async_script("""
            const ids = performance.getEntriesByType("resource").map((entry) => /photos\\/[0-9a-f]{32}/.exec(entry.name)).filter(Boolean);
            fetch(`/api/v1/${ids[0]}`, {method: "DELETE", headers: {"X-Lumachrome": "1"}}).then((reply) => arguments[0](reply.status));
            """)
        self.assertEqual(status, 204)
        with self.recoloured():
            self.find("#saturation").send_keys(Keys.HOME)
        self.assertEqual(self.text("#message"), "")
        self.assertLessEqual(self.colours()["chroma"], 4)

    def test_server_that_does_not_answer(self):
        self.add(self.photos[0])
        self.expected_errors = ("ERR_INTERNET_DISCONNECTED",)
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.execute_cdp_cmd("Network.enable", {})
        self.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        self.find("#saturation").send_keys(Keys.HOME)
        self.wait("the error", "document.getElementById('message').textContent.includes('Is it still running?')")
        self.browser.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
        with self.recoloured():
            self.find("#saturation").send_keys(Keys.END)
        self.assertEqual(self.text("#message"), "")

    def test_settings_for_all_photos(self):
        self.add(self.photos[0], self.photos[1])
        with self.recoloured():
            self.find("#saturation").send_keys(Keys.HOME)
        thumbnail = self.js("return document.querySelectorAll('.film-open img')[1].src")
        self.find("#for-all").click()
        self.wait(
            "the other photo changes", "document.querySelectorAll('.film-open img')[1].src !== arguments[0]", thumbnail
        )
        self.browser.find_elements(By.CSS_SELECTOR, ".film-open")[1].click()
        self.settle(2)
        self.assertLessEqual(self.colours()["chroma"], 4)

    # Everywhere ---------------------------------------------------------------------------------------

    def test_keyboard_reaches_everything(self):
        self.add(self.photos[0], self.photos[1])
        reached = set()
        for _ in range(60):
            ActionChains(self.browser).send_keys(Keys.TAB).perform()
            name, outlined = self.js(
                "const e = document.activeElement, around = e.closest('label, .handle') ?? e; return [e.id || e.name || e.className, "
                "[e, ...around.querySelectorAll('span')].some((part) => getComputedStyle(part).outlineStyle !== 'none')]"
            )
            reached.update(name.split())
            if name:
                self.assertTrue(outlined, f"{name} shows no focus")
        self.assertLessEqual(
            {
                "tab-colour",
                "theme",
                "handle",
                "view",
                "format",
                "download",
                "download-all",
                "film-add",
                "film-open",
                "film-remove",
                "bar",
                "classes",
                "candidate",
                "saturation",
                "size",
                "reset",
                "for-all",
                "style-file",
            },
            reached,
        )

    def test_dark_and_light(self):
        ground = "return getComputedStyle(document.body).backgroundColor"
        light = self.js(ground)
        self.size(*DESKTOP, dark=True)
        dark = self.js(ground)
        self.assertNotEqual(light, dark)
        self.find("#theme").click()
        self.assertEqual(self.js(ground), light)
        self.reload()
        self.assertEqual(self.js(ground), light)
        self.assertEqual(self.find("#theme").get_attribute("aria-pressed"), "false")

    def test_phone(self):
        self.size(*PHONE)
        self.reload()
        self.assertTrue(self.fits())
        self.add(*self.photos[:3])
        self.assertTrue(self.fits())
        self.js("document.querySelector('[name=view][value=side]').click()")
        self.assertTrue(self.fits())
        self.find(".candidate-photo").click()
        self.wait("the style is there", "document.querySelector('.style')")
        self.assertTrue(self.fits())
        self.find("#tab-study").click()
        self.assertTrue(self.fits())

    def test_labels(self):
        self.add(self.photos[0])
        nameless = self.js("""
            return [...document.querySelectorAll("button, select, input:not([type=file]), progress, [role=slider]")]
                .filter((e) => !(e.textContent.trim() && e.tagName === "BUTTON") && !e.ariaLabel && !e.labels?.length)
                .map((e) => e.outerHTML);
            """)
        self.assertEqual(nameless, [])
        self.assertEqual(self.js("return document.documentElement.lang"), "en")

    # Study --------------------------------------------------------------------------------------------

    def prepare_study(self, count):
        self.find("#tab-study").click()
        self.choose("study-input", self.named_photos(count))
        self.wait(
            "the images",
            "document.getElementById('study-photos').textContent === arguments[0]",
            f"{count} photos, {3 * count} images.",
        )

    def named_photos(self, count):
        """The same photos under names that differ."""
        folder = self.folder / "study"
        folder.mkdir(exist_ok=True)
        for i, photo in enumerate(self.photos[:count]):
            shutil.copyfile(photo, folder / f"photo {i}.png")
        return [folder / f"photo {i}.png" for i in range(count)]

    def answer(self, positions, natural):
        for position in positions:
            shown = self.wait(
                "the image",
                "(image => image.dataset.position === arguments[0] && [image.src, image.alt])"
                "(document.getElementById('trial-image'))",
                str(position),
            )
            self.assertTrue(shown[0].startswith("blob:"))
            self.assertEqual(shown[1], f"Image {position + 1}")
            if position % 4 == 3:
                self.find("#trial-yes" if natural(position) else "#trial-no").click()
            else:
                ActionChains(self.browser).send_keys("y" if natural(position) else "n").perform()

    def enrol(self, name):
        self.find("#participant-name").send_keys(name)
        self.find("#participant-start").click()

    def export_csv(self):
        with self.download() as files:
            self.find("#export-csv").click()
        return list(csv.DictReader(io.StringIO(files[0].read_bytes().decode("utf-8"))))

    def test_study(self):
        self.prepare_study(12)
        self.enrol("Ada, first")
        natural = lambda position: position % 3 > 0
        self.answer(range(10), natural)
        self.wait("the image", "document.getElementById('trial-image').dataset.position === '10'")
        ActionChains(self.browser).send_keys(Keys.BACKSPACE).perform()
        self.answer(range(9, 20), natural)
        ActionChains(self.browser).send_keys(Keys.ESCAPE).perform()  # pauses
        self.reload()
        self.find("#tab-study").click()
        self.assertIn("12 of 12 are missing", self.text("#study-photos"))
        self.prepare_study(12)
        self.find("#participants button").click()
        self.answer(range(20, 36), natural)
        self.wait("the end", "!document.getElementById('trial').open")
        self.enrol("=SUM(A1)")
        self.answer(range(36), lambda position: position < 9)
        self.wait("the end", "!document.getElementById('trial').open")

        rows = self.export_csv()
        ada, other = [row for row in rows if row["participant"] == "Ada, first"], [
            row for row in rows if row["participant"] == "'=SUM(A1)"
        ]
        self.assertEqual((len(ada), len(other), len(rows)), (36, 36, 72))
        self.assertEqual([int(row["natural"]) for row in ada], [int(natural(i)) for i in range(36)])
        self.assertEqual([int(row["natural"]) for row in other], [int(i < 9) for i in range(36)])
        for answers in ada, other:
            shown = [(row["photo"], row["variant"]) for row in answers]
            self.assertEqual(len(set(shown)), 36)
            self.assertEqual(Counter(variant for _, variant in shown), {"truth": 12, "color": 12, "baseline": 12})
            for i in range(36):
                self.assertNotIn(shown[i][0], [photo for photo, _ in shown[max(0, i - 5) : i]])
        self.assertNotEqual([row["photo"] for row in ada], [row["photo"] for row in other])
        self.check_results(rows)
        self.import_again()

    def check_results(self, rows):
        for variant in ("truth", "color", "baseline"):
            answers = [row for row in rows if row["variant"] == variant]
            natural = sum(int(row["natural"]) for row in answers)
            low, high = wilson(natural, len(answers))
            shares = [
                statistics.mean(int(row["natural"]) for row in answers if row["participant"] == name)
                for name in sorted({row["participant"] for row in rows})
            ]
            line = self.text(f"#results-variants tr[data-variant={variant}]")
            self.assertIn(f"{natural} of {len(answers)}", line)
            for figure in (natural / len(answers), low, high, statistics.median(shares)):
                self.assertIn(f"{100 * figure:.1f} %", line)

    def import_again(self):
        table = self.text("#results-body")
        with self.download() as files:
            self.find("#export-json").click()
        study = json.loads(files[0].read_text(encoding="utf-8"))
        self.assertEqual([len(participant["answers"]) for participant in study["participants"]], [36, 36])
        for _ in range(2):
            self.find("#study-clear").click()
        self.assertEqual(self.text("#participants"), "")
        broken = files[0].with_name("broken.json")
        broken.write_text(
            json.dumps({**study, "participants": [{"name": "Eve", "answers": [{"photo": 99}]}]}), encoding="utf-8"
        )
        self.choose("import-input", [broken])
        self.wait(
            "the error", "document.getElementById('study-message').textContent.includes('no study of lumachrome')"
        )
        self.choose("import-input", files)
        self.wait("the results", "document.getElementById('results-body').textContent === arguments[0]", table)

    # Pictures -----------------------------------------------------------------------------------------

    @unittest.skipUnless(os.environ.get("LUMACHROME_SCREENSHOTS"), "LUMACHROME_SCREENSHOTS names no folder")
    def test_screenshots(self):
        folder = Path(os.environ["LUMACHROME_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        looks = [
            (name, size, dark) for name, size in (("desktop", DESKTOP), ("phone", PHONE)) for dark in (False, True)
        ]

        def shoot(view):
            for name, size, dark in looks:
                self.size(*size, dark=dark)
                self.wait("the view rests", "!document.getAnimations().length")
                self.browser.save_screenshot(str(folder / f"{view}-{name}-{'dark' if dark else 'light'}.png"))
            self.size(*DESKTOP)

        shoot("welcome")
        self.add(*self.photos[:4])
        shoot("colour")
        self.prepare_study(2)
        shoot("study")
        self.enrol("Ada")
        self.answer(range(3), lambda position: position != 1)
        shoot("trial")
        self.answer(range(3, 6), lambda position: position != 4)
        self.wait("the end", "!document.getElementById('trial').open")
        shoot("results")


def main():
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(PageTest)
    names = sys.argv[1:]
    if names:
        suite = unittest.TestSuite(case for case in suite if any(name in case.id() for name in names))
    count = suite.countTestCases()
    if reason := missing():
        print(f"skipped: {reason}")
        print(f"[doctest] test cases: {count} | 0 passed | 0 failed | {count} skipped")
        return 0
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for case, trace in result.failures + result.errors:
        print(f"ERROR: {case}: {trace.strip().splitlines()[-1]}")
    skipped = len(result.skipped)
    passed = max(0, result.testsRun - len(result.failures) - len(result.errors) - skipped)
    failed = count - passed - skipped  # also those that could not begin
    print(f"[doctest] test cases: {count} | {passed} passed | {failed} failed | {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
