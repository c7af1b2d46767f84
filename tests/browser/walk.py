"""Walks the administrator's page in a real browser, as a person would, and says what is wrong with it.

Its one argument is a JSON file: where the page is, what is stored, what may be done. Prints one JSON object: what was
walked, and what was wrong.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import traceback
import urllib.parse

from selenium import webdriver
from selenium.common.exceptions import (
    NoAlertPresentException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# So long a page may take to show something, seconds: the machine may be busy.
PATIENCE = 90
WIDTHS = [1280, 375]
PAGES = [
    ("overview", "/"),
    ("studies", "/studies"),
    ("volumes", "/volumes"),
    ("peers", "/peers"),
    ("forwarding", "/forwarding"),
    ("jobs", "/jobs"),
    ("journal", "/journal"),
    ("conflicts", "/conflicts"),
]


class Walk:
    def __init__(self, told):
        self.told = told
        self.base = told["page"]
        self.wrong = []
        self.walked = []
        self.pictures = pathlib.Path(told["screenshots"])
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.axe = pathlib.Path(told["axe"]).read_text()
        self.driver = None
        self.language = None
        self.width = None

    # A browser of its own for each language: that is where the page takes it from.
    def open(self, language, folder):
        options = webdriver.ChromeOptions()
        options.binary_location = self.told["browser"]
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ]:
            options.add_argument(flag)
        accepted = "ja,en" if language == "ja" else "en"
        options.add_experimental_option("prefs", {"intl.accept_languages": accepted})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(
            executable_path=self.told["driver"], log_output=subprocess.DEVNULL
        )
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.language = language
        self.widen(WIDTHS[0])

    def widen(self, width):
        self.width = width
        # Not by the window: a browser without a screen has a narrowest one.
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def close(self):
        if self.driver:
            self.driver.quit()
            self.driver = None

    # ------------------------------------------------------------------ what is asked of a page

    def say(self, what):
        self.wrong.append(f"{self.language} {self.width} {self.driver.current_url}: {what}")

    def check(self, is_so, what):
        if not is_so:
            self.say(what)
        return is_so

    def go(self, path):
        self.driver.get(self.base + path)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css):
        return self.wait(lambda: next(iter(self.all(css)), None), f"{css} is not there")

    def text(self, css="body"):
        return self.driver.execute_script(
            "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", css
        )

    def wait(self, done, what, patience=PATIENCE):
        begun = time.monotonic()
        while time.monotonic() - begun < patience:
            try:
                found = done()
                if found:
                    return found
            except StaleElementReferenceException:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{what} ({self.driver.current_url} after {patience} s)")

    def click(self, css):
        element = self.one(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def fill(self, css, text):
        element = self.one(css)
        element.clear()
        element.send_keys(text)

    def picture(self, name):
        """What is on the page is kept and judged."""
        self.walked.append(f"{self.language}-{self.width}-{name}")
        whole = self.driver.execute_script("return document.documentElement.scrollHeight")
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": self.width,
                "height": max(900, min(whole, 6000)),
                "deviceScaleFactor": 1,
                "mobile": self.width < 500,
            },
        )
        self.driver.save_screenshot(str(self.pictures / f"{name}-{self.language}-{self.width}.png"))
        self.widen(self.width)
        self.judge()

    def judge(self):
        self.check(self.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == self.language,
                   "another language than asked for")
        self.check(len(self.all("h1")) == 1, f"{len(self.all('h1'))} h1")
        self.check(self.driver.title.strip() not in ("", "Kura"), "no title")
        wide = self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        self.check(wide <= 1, f"{wide} pixels wider than the window")
        outside = self.driver.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
            ".filter(n => !n.startsWith(arguments[0]))",
            self.base + "/",
        )
        self.check(not outside, f"loads {outside}")
        self.no_attack()
        self.driver.execute_script(self.axe)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done(String(e)))"
        )
        if isinstance(found, str):
            self.say(f"axe: {found}")
            return
        for one in found:
            if one["impact"] in ("serious", "critical"):
                where = [node["html"][:200] + " // " + node.get("failureSummary", "")[:300] for node in one["nodes"][:3]]
                self.say(f"axe {one['impact']} {one['id']}: {one['help']}: {where}")
        self.console()

    def console(self):
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self.say(f"console: {entry['message'][:300]}")

    def no_attack(self):
        """A patient's name is text."""
        try:
            self.driver.switch_to.alert.accept()
            self.say("an alert came up")
        except NoAlertPresentException:
            pass
        self.check(not self.all("img[src='x']"), "the name of a patient became an element")
        self.check(self.driver.execute_script("return window.attacked === undefined"), "a script of a patient ran")

    def step(self, name, walk):
        """One part of the walk; the next is tried whatever became of it."""
        try:
            walk()
        except Exception as error:  # noqa: BLE001
            last = traceback.extract_tb(error.__traceback__)
            lines = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(last[-4:]))
            self.say(f"{name}: {type(error).__name__} {str(error).splitlines()[0] if str(error) else ''} ({lines})")
            try:
                self.driver.save_screenshot(str(self.pictures / f"failed-{name}-{self.language}-{self.width}.png"))
                self.driver.get_log("browser")
            except Exception:  # noqa: BLE001
                pass

    # ------------------------------------------------------------------ what a person does

    def kura(self, *words):
        done = subprocess.run(
            [*self.told["kura"], *words, "--config", self.told["config"]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        )
        if done.returncode not in (0, 1):
            raise AssertionError(f"kura {words}: {done.stdout} {done.stderr}")

    def sees_the_state(self):
        self.go("/")
        self.one("#answer .answer")
        self.wait(lambda: self.all("#disks meter"), "no bar for the volumes")
        self.picture("overview")

    def searches(self):
        told = self.told["study"]
        self.go("/studies")
        # By what is typed alone, without a click.
        self.fill("input[name=accession]", told["accession"])
        self.wait(
            lambda: len(self.all("#found tbody tr")) == 1 and told["accession"] in self.text("#found"),
            "the study is not found while typing",
        )
        self.check("accession=" + told["accession"] in self.driver.current_url, "the address does not follow the search")
        self.picture("search")
        self.click("#found tbody tr a")
        self.wait(lambda: "/studies/" + told["uid"] in self.driver.current_url, "no page of the study")

    def sees_thumbnails(self):
        self.go("/studies/" + self.told["study"]["uid"])
        drawn = "return [...document.images].filter(i => i.complete && i.naturalWidth > 0 && i.src.includes('/thumbnails/')).length"
        self.wait(lambda: self.driver.execute_script(drawn) > 0, "no thumbnail appears")
        kinds = self.driver.execute_script(
            "return [...document.images].map(i => i.src).filter(s => s.includes('/thumbnails/'))"
        )
        kind = self.driver.execute_async_script(
            "const done = arguments[1]; fetch(arguments[0]).then(r => done(r.headers.get('content-type')))", kinds[0]
        )
        self.check(kind == "image/png", f"the thumbnail is {kind}")
        self.check(all(i.get_attribute("alt") for i in self.all("img")), "a picture without a text")
        self.picture("study")

    def sees_an_attack(self):
        for path in ["/studies?patient_id=" + urllib.parse.quote(self.told["attack"]["patient_id"]),
                     "/studies/" + self.told["attack"]["uid"]]:
            self.go(path)
            self.wait(lambda: "onerror=" in self.text(), "the name is not shown as it is")
            self.picture("attack")

    def adds_a_peer(self):
        peer = self.told["peer"]
        self.go("/peers")
        self.fill("form[action='/peers'] input[name=ae_title]", peer["ae_title"])
        self.fill("form[action='/peers'] input[name=host]", "127.0.0.1")
        self.fill("form[action='/peers'] input[name=port]", str(peer["port"]))
        self.click("form[action='/peers'] button[type=submit]")
        self.wait(lambda: self.driver.current_url.endswith("/peer/" + peer["ae_title"]), "no page of the peer")
        self.wait(lambda: self.all("main [role=status]"), "nothing is said of what was done")
        self.picture("peer")
        self.go("/peers")
        self.wait(lambda: peer["ae_title"] in self.text("#peers"), "the peer is not in the table")
        self.picture("peers-with-one")

    def tests_the_peer(self):
        peer = self.told["peer"]
        self.go("/peer/" + peer["ae_title"])
        self.click(f"form[action='/peer/{peer['ae_title']}/test'] button")
        self.wait(lambda: self.all("main table tbody tr"), "the test shows nothing that was tried")
        self.picture("peer-tested")

    def sends_the_study(self):
        told, peer = self.told["study"], self.told["peer"]
        self.go("/studies/" + told["uid"])
        self.click(f"form[action='/studies/{told['uid']}/send'] button[type=submit]")
        self.wait(lambda: self.all("main [role=status]"), "nothing is said of what was done")
        folder = pathlib.Path(peer["folder"])
        self.wait(lambda: len(list(folder.iterdir())) >= told["images"], "the peer did not get the images")
        self.go("/forwarding?state=all")
        self.wait(lambda: told["uid"] in self.text("#outbox"), "the outbox does not show it")
        self.picture("forwarded")

    def watches_the_mirror(self):
        """Progress on the overview moves, and nobody loads the page again."""
        self.go("/")
        self.driver.execute_script("window.loadedOnce = true")
        self.kura("mirror", "resume")
        values = set()

        def moved():
            for bar in self.all("#jobs progress"):
                values.add(bar.get_attribute("value"))
            return len({value for value in values if value}) >= 2

        self.wait(moved, f"no progress moves: {values}")
        self.check(self.driver.execute_script("return window.loadedOnce === true"), "the page was loaded again")
        self.picture("mirror-runs")
        self.wait(lambda: not self.all("#jobs progress"), "the mirror job does not end")
        self.go("/jobs")
        self.picture("jobs-after")

    def replaces_a_disk(self):
        disk = self.told["disk"]
        path = pathlib.Path(disk["path"])
        os.rename(path, disk["aside"])
        path.mkdir()
        self.go("/volumes")
        row = f"#volume-{disk['name']}"
        self.wait(lambda: any(notice.is_displayed() for notice in self.all("#volumes .notice")),
                  "that the disk is away is not shown by itself")
        self.picture("disk-away")
        self.go("/")
        self.wait(lambda: self.all("#answer .notice.bad, #answer .notice.warning, #answer .warning, #answer .bad"),
                  "the overview is as if all were well")
        self.picture("overview-degraded")
        self.go("/volumes")
        self.click(row)
        form = f"form[action='/volume/{disk['name']}/replace']"
        self.fill(f"{form} input[name=path]", disk["new"])
        self.click(f"{form} button[type=submit]")
        self.wait(lambda: self.all("form input[name=sure]"), "no page in between")
        self.check(not any(pathlib.Path(disk["new"]).iterdir()), "something was written before it was asked")
        self.picture("replace-asked")
        self.click("form:has(input[name=sure]) button[type=submit]")
        self.wait(lambda: self.all("main pre"), "no report at the end")
        self.picture("replace-report")

    def reads_journal_and_conflicts(self):
        self.go("/journal")
        self.wait(lambda: self.told["peer"]["ae_title"] in self.text("main"), "the journal does not show what was sent")
        self.picture("journal-filled")
        self.go("/conflicts")
        self.wait(lambda: self.told["conflict"] in self.text("main"), "the conflict is not shown")
        self.picture("conflicts-filled")

    def by_keyboard(self):
        """From the first page to a study with Tab, letters and Enter alone."""
        told = self.told["study"]
        self.go("/")
        body = self.driver.find_element(By.TAG_NAME, "body")
        body.send_keys(Keys.TAB)
        first = self.driver.switch_to.active_element
        self.check(first.get_attribute("href") == self.base + "/#main", "Tab does not begin with the way to the content")
        self.tab_to("nav a[href='/studies']").send_keys(Keys.ENTER)
        self.wait(lambda: self.driver.current_url.rstrip("/").endswith("/studies"), "Enter does not open Studies")
        field = self.tab_to("input[name=accession]")
        field.send_keys(told["accession"])
        field.send_keys(Keys.ENTER)
        self.wait(lambda: len(self.all("#found tbody tr")) == 1, "the study is not found")
        self.tab_to("#found tbody tr a").send_keys(Keys.ENTER)
        self.wait(lambda: "/studies/" + told["uid"] in self.driver.current_url, "Enter does not open the study")

    def tab_to(self, css):
        for _ in range(80):
            active = self.driver.switch_to.active_element
            if self.driver.execute_script("return arguments[0].matches(arguments[1])", active, css):
                return active
            seen = self.driver.execute_script(
                "const s = getComputedStyle(arguments[0]);"
                "return s.outlineStyle !== 'none' && s.outlineWidth !== '0px' || s.boxShadow !== 'none'",
                active,
            )
            if active.tag_name != "body" and not seen:
                self.say(f"where the keyboard is cannot be seen: {active.get_attribute('outerHTML')[:200]}")
            active.send_keys(Keys.TAB)
        raise AssertionError(f"Tab does not come to {css}")

    def without_script(self):
        """Searching works without JavaScript too."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        try:
            self.go("/studies")
            self.fill("input[name=accession]", self.told["study"]["accession"])
            self.click("form[role=search] button[type=submit]")
            self.wait(lambda: len(self.all("#found tbody tr")) == 1, "nothing is found")
        finally:
            self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    def looks_everywhere(self):
        for name, path in PAGES:
            def look(name=name, path=path):
                self.go(path)
                self.one("h1")
                self.picture(name)
            self.step(name, look)
        self.step("study", self.sees_thumbnails)


def main():
    told = json.loads(pathlib.Path(sys.argv[1]).read_text())
    walk = Walk(told)
    try:
        walk.open("en", told["profile"] + "-en")
        walk.step("state", walk.sees_the_state)
        walk.step("search", walk.searches)
        walk.step("thumbnails", walk.sees_thumbnails)
        walk.step("attack", walk.sees_an_attack)
        walk.step("keyboard", walk.by_keyboard)
        walk.step("no-script", walk.without_script)
        if told["peer"]:
            walk.step("add-peer", walk.adds_a_peer)
            walk.step("test-peer", walk.tests_the_peer)
            walk.step("send", walk.sends_the_study)
        walk.step("mirror", walk.watches_the_mirror)
        walk.step("replace", walk.replaces_a_disk)
        if told["peer"]:
            walk.step("records", walk.reads_journal_and_conflicts)
        for language in ["en", "ja"]:
            if walk.language != language:
                walk.close()
                walk.open(language, told["profile"] + "-" + language)
            for width in WIDTHS:
                walk.widen(width)
                walk.looks_everywhere()
    finally:
        walk.close()
    print(json.dumps({"walked": walk.walked, "wrong": walk.wrong}, ensure_ascii=False))


main()
