"""The group report: what stands in the page, and what it does in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from veridice.report import cohort_page
from veridice.report.charts import measures
from veridice.report.cohort_page import write_group_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
FORMULA = '=HYPERLINK("x")\t+1'
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FACTS: dict[str, Any] = {
    "name": "Study of <b>two</b> sites",
    "min_dice": 0.75,
    "coverage": 0.9,
    "calibration": {"source": "40 simulated patients", "n": 120, "simulated": True},
    "settings_differ": True,
}
CUTOFFS = pd.DataFrame(
    {
        "looks": [4, 12],
        "share": [0.1, 0.3],
        "failures_found": [3.2, 7.5],
        "failures_left": [5.1, 0.8],
        "share_left": [0.14, 0.03],
    }
)


def study(rows: int = 40) -> pd.DataFrame:
    """A ranked table: two failed scans, one of them with a hostile name, then the worst first."""
    rng = np.random.default_rng(1)
    dice = np.linspace(0.3, 0.95, rows)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{n // 2:02d}" for n in range(rows)],
            "session_id": [f"ses-{n % 2 + 1}" for n in range(rows)],
            "rank": range(1, rows + 1),
            "status": "done",
            "reason": None,
            "verdict": np.where(dice > 0.8, "accept", np.where(dice < 0.6, "reject", "review")),
            "predicted_dice": dice,
            "interval_low": dice - 0.1,
            "interval_high": np.minimum(dice + 0.1, 1),
            "failure_probability": 1 - dice,
            "expected_gain": (1 - dice) / 4,
            "known": True,
            "judged_mask": "own",
            "lesion_volume_ml": rng.lognormal(1, 1, rows),
            "brain_volume_ml": rng.normal(1100, 80, rows),
            "unfamiliarity": rng.random(rows),
            "pairwise_dice": rng.random(rows),
            "warnings": "",
            "site": np.where(np.arange(rows) % 3 == 0, "A<i>", "B"),
            "scanner": "Skyra",
            "acquired": [f"2021-{n % 12 + 1:02d}-03T10:00:00" for n in range(rows)],
        }
    )
    table["scan"] = table["participant_id"] + "_" + table["session_id"]
    table["report"] = table["scan"] + "_report.html"
    table["thumbnail"] = "thumbnails/" + table["scan"] + ".png"
    if rows > 10:
        scores = ["verdict", "predicted_dice", "interval_low", "interval_high", "failure_probability", "expected_gain"]
        table[scores] = table[scores].astype(object).mask(table["rank"] <= 2, None)
        table.loc[:1, ["status", "reason"]] = ["failed", "only 3 slices"]
        table.loc[1, ["scan", "reason", "report", "thumbnail"]] = [HOSTILE, HOSTILE, "javascript:alert(1)", None]
        table.loc[5, ["warnings", "known", "report"]] = [FORMULA, False, "a b/ü?#.html"]
        table.loc[6, "warnings"] = HOSTILE
    return table.infer_objects()


def written(folder: Path, table: pd.DataFrame, cutoffs: pd.DataFrame = CUTOFFS, facts: dict[str, Any] = FACTS) -> Path:
    (folder / "thumbnails").mkdir(exist_ok=True)
    for path in table.get("thumbnail", pd.Series(dtype=object)).dropna():
        (folder / path).write_bytes(PIXEL)
    output = folder / "group.html"
    write_group_report(table, cutoffs, facts, folder, output)
    return output


class Page(HTMLParser):
    """Tags, attributes and the contents of script and style elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if self.cdata_elem:
            self.contents.append((tag, attributes, data))
        else:
            self.text += data

    @property
    def study(self) -> dict[str, Any]:
        found = "".join(data for _, attributes, data in self.contents if attributes.get("id") == "study")
        return json.loads(found)

    @property
    def policy(self) -> str:
        return next(a["content"] or "" for _, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")


def test_hostile_texts_stay_texts_and_come_back(tmp_path: Path) -> None:
    html = written(tmp_path, study()).read_text(encoding="utf-8")
    page = Page(html)
    assert "<img src=x" not in html
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i")]
    assert page.study["table"]["scan"][1] == HOSTILE
    assert page.study["table"]["warnings"][5] == FORMULA
    assert "Study of <b>two</b> sites" in page.text


def test_line_ends_of_javascript_are_escaped(tmp_path: Path) -> None:
    table = study(3).assign(warnings="a\u2028b\u2029c")
    html = written(tmp_path, table).read_text(encoding="utf-8")
    assert "\\u2028" in html
    assert not re.search("[\u2028\u2029]", html.split('id="study"')[1].split("</script>")[0])
    assert Page(html).study["table"]["warnings"][0] == "a\u2028b\u2029c"


def test_nothing_is_fetched_and_only_the_page_s_own_code_may_run(tmp_path: Path) -> None:
    page = Page(written(tmp_path, study()).read_text(encoding="utf-8"))
    addresses = [a.get("src") or a.get("href") for tag, a in page.tags if tag in ("img", "script", "link", "iframe", "a")]
    assert {address for address in addresses if address} == {"#list"}
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy
    for tag, attributes, content in page.contents:
        checksum = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert attributes.get("id") == "study" or f"'sha256-{checksum}'" in page.policy, tag
    assert not [a for _, a in page.tags if "style" in a or any(name.startswith("on") for name in a)]


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.html", "//host/x", "", None, float("nan"), "a\0b"])
def test_links_lead_down_from_the_report_only(path: object) -> None:
    assert cohort_page._relative(path) is None


def test_links_are_quoted() -> None:
    assert cohort_page._relative("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    assert cohort_page._relative("a b/ü?#.html") == "./a%20b/%C3%BC%3F%23.html"
    assert cohort_page._relative('"><script>') == "./%22%3E%3Cscript%3E"


def test_the_first_thumbnails_stand_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_page, "EMBEDDED", 3)
    table = study(5)
    output = written(tmp_path, table)
    (tmp_path / "thumbnails" / "sub-00_ses-2.png").write_bytes(b"<svg>")
    (tmp_path / "thumbnails" / "sub-01_ses-1.png").unlink()
    write_group_report(table, CUTOFFS, FACTS, tmp_path, output)
    images = Page(output.read_text(encoding="utf-8")).study["images"]
    assert images[0] == "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert images[1:3] == [None, None]
    assert images[3] == "./thumbnails/sub-01_ses-2.png"


def test_failed_scans_come_first_and_gaps_are_null(tmp_path: Path) -> None:
    table = study(20)
    table.loc[9, ["status", "verdict", "predicted_dice"]] = ["failed", None, np.inf]
    found = Page(written(tmp_path, table).read_text(encoding="utf-8")).study
    assert found["state"][:4] == ["failed", "failed", "failed", "reject"]
    assert found["table"]["rank"][:4] == [1, 2, 10, 3]
    assert found["table"]["predicted_dice"][2] is None
    assert found["table"]["expected_gain"][0] is None


def test_numbers_that_can_be_drawn_have_fitting_axes() -> None:
    table = pd.DataFrame(
        {"entropy_sum": [-5.0, 4e4], "lesion_volume_ml": [0.0, 40.0], "predicted_dice": [0.2, 0.9], "known": True}
    ).assign(empty=np.nan, rank=1, same=3.0, scan="a")
    found = measures(table, 0.75)
    assert list(found) == ["predicted_dice", "lesion_volume_ml", "entropy_sum", "same"]
    assert found["predicted_dice"]["mark"] == 0.75
    assert found["predicted_dice"]["scale"]["domain"] == [0, 1]
    assert found["lesion_volume_ml"]["axis"]["values"] == [0, 1, 3, 10, 30]
    low, high = found["same"]["scale"]["domain"]
    assert low < 3 < high


BARE = ["participant_id", "scan", "rank", "status", "verdict", "predicted_dice", "lesion_volume_ml"]
STUDIES: dict[str, Callable[[], pd.DataFrame]] = {
    "empty": lambda: study(5).iloc[:0],
    "no columns": lambda: pd.DataFrame({"scan": []}),
    "one": lambda: study(1),
    "all failed": lambda: study().head(2),
    "no metadata": lambda: study(8)[BARE],
    "odd": lambda: study(4).assign(
        site=["a\udce9", None, 3, "B"], known=[None, True, False, np.nan], more=[None, 2.5, 3, None]
    ),
    "flat": lambda: study(8).assign(predicted_dice=0.5, lesion_volume_ml=0.0, acquired="no date"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_unusual_studies_have_a_page(name: str, tmp_path: Path) -> None:
    table = STUDIES[name]()
    html = written(tmp_path, table, CUTOFFS.iloc[:0], {}).read_text(encoding="utf-8")
    assert Page(html).study["count"] == len(table)
    assert "Research use only; not a medical device." in html
    assert ("no scans in this study" in html) == (len(table) == 0)


def test_warnings_are_said(tmp_path: Path) -> None:
    text = Page(written(tmp_path, study()).read_text(encoding="utf-8")).text
    assert "rest on simulated scans" in text
    assert "same settings" in text
    assert "1 scan is unlike" in text
    assert "expected numbers" in text
    plain = {
        **FACTS,
        "calibration": {"source": "30 people of this site", "n": 30, "simulated": False},
        "settings_differ": False,
    }
    text = Page(written(tmp_path, study(3), facts=plain).read_text(encoding="utf-8")).text
    assert "simulated" not in text
    assert "30 people of this site" in text


# ---- In a browser ----

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    for name in ("sub-01_ses-1", "sub-01_ses-2"):
        (folder / f"{name}_report.html").write_text("<title>one scan</title>", encoding="utf-8")
    return written(folder, study())


Opened = Callable[..., Any]


def ready(page: Any) -> Any:
    page.wait_for_selector("body[data-ready=all]")
    return page


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way needs eval in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(condition)


def spot(page: Any, plot: str, row: int) -> tuple[float, float]:
    """Where the dot of a row lies on the screen."""
    script = """([key, row]) => {
      const plot = plots.get(key), frame = plot.target.querySelector('canvas').getBoundingClientRect();
      const [x, y] = places(plot).spots[row], [left, top] = corner(plot.view);
      return [frame.left + left + x, frame.top + top + y];
    }"""
    return tuple(page.evaluate(script, [plot, row]))


def test_a_search_filters_and_one_hit_lights_up_everywhere(output: Path, opened: Opened) -> None:
    page = ready(opened(output))
    assert page.inner_text("#count") == "40 scans"
    page.fill("#search", "sub-07")
    assert page.inner_text("#count") == "2 of 40 scans"
    page.fill("#search", "sub-07 ses-2")
    until(page, "document.querySelector('[data-plot=strip-predicted_dice]').dataset.lit === 'sub-07_ses-2'")
    until(page, "[...visible].every((plot) => plot.figure.dataset.lit === 'sub-07_ses-2')")
    assert page.inner_text("tr[aria-current] .name") == "sub-07_ses-2"
    assert page.evaluate("plots.get('strip-unfamiliarity').view.data('lit').length") == 1
    page.fill("#search", "nobody")
    assert page.is_visible("#nothing")
    page.keyboard.press("Escape")
    assert page.inner_text("#count") == "40 scans"


def test_a_dot_and_a_row_light_up_each_other_and_hostile_texts_do_nothing(output: Path, opened: Opened) -> None:
    page = ready(opened(output))
    page.mouse.move(*spot(page, "strip-predicted_dice", 9))
    until(page, "document.body.dataset.lit === 'sub-04_ses-2'")
    until(page, "plots.get('strip-lesion_volume_ml').figure.dataset.lit === 'sub-04_ses-2'")
    page.wait_for_selector("tr.lit[data-row='9']")
    assert page.inner_text("#tip strong") == "sub-04_ses-2"
    page.locator("#worklist").hover()
    assert page.evaluate("document.body.dataset.lit") == ""
    page.mouse.move(*spot(page, "strip-predicted_dice", 6))
    page.wait_for_selector("#tip:visible")
    assert page.locator("#body tr[data-row='1'] .name").inner_text() == HOSTILE
    assert page.locator("#body tr[data-row='1'] .name").get_attribute("href") == "./javascript%3Aalert%281%29"
    assert page.locator("img:not([src^='data:'])").count() == 0
    page.hover("tr[data-row='6']")
    until(page, "plots.get('strip-predicted_dice').figure.dataset.lit === 'sub-03_ses-1'")


def test_a_brushed_subset_is_listed_and_saved_without_formulas(output: Path, opened: Opened, tmp_path: Path) -> None:
    page = ready(opened(output))
    (left, y), (right, _) = (spot(page, "strip-predicted_dice", row) for row in (5, 8))
    page.mouse.move(left - 2, y)
    page.mouse.down()
    page.mouse.move(right + 2, y + 3, steps=4)
    page.mouse.up()
    until(page, "document.body.dataset.shown === '4'")
    assert "Predicted Dice: " in page.inner_text("#chips")
    lines = saved(page, "#export-tsv", tmp_path).split("\n")
    cells = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:-1]]
    assert [row["rank"] for row in cells] == ["6", "7", "8", "9"]
    assert cells[0]["warnings"] == "'" + FORMULA.replace("\t", " ")
    assert cells[1]["warnings"] == HOSTILE
    assert cells[0]["known"] == "false"
    assert cells[2]["reason"] == "n/a"
    assert float(cells[0]["predicted_dice"]) == pytest.approx(study()["predicted_dice"][5], rel=1e-5)
    query = json.loads(saved(page, "#export-bids", tmp_path))
    assert query == {"flair": {"subject": ["02", "03", "04"], "session": ["2", "1"]}}
    assert "2 scans not in the list" in page.inner_text("#bids-note")
    page.mouse.click((left + right) / 2, y)
    until(page, "document.body.dataset.shown === '40'")
    assert page.evaluate("plots.get('strip-predicted_dice').view.data('brush_store').length") == 0
    texts = ["=1+1", "+cmd", "-cmd", "@x", "\tx", "\rx", "-0.5", "+3", "-1e-3", "1e5", "a=b", "-", "", None, False, -0.25]
    neutral = ["'=1+1", "'+cmd", "'-cmd", "'@x", "' x", "' x", "-0.5", "+3", "-1e-3", "1e5", "a=b", "'-", "n/a", "n/a"]
    assert page.evaluate("(texts) => texts.map(tsvCell)", texts) == [*neutral, "false", "-0.25"]


def saved(page: Any, button: str, folder: Path) -> str:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(folder / "saved")
    return (folder / "saved").read_text(encoding="utf-8")


def test_filters_order_and_cutoffs(output: Path, opened: Opened) -> None:
    page = opened(output)
    table = study()
    page.click("[data-verdict=review]")
    assert int(page.evaluate("document.body.dataset.shown")) == (table["verdict"] == "review").sum()
    assert page.get_attribute("[data-verdict=review]", "aria-pressed") == "true"
    page.select_option("[data-filter=site]", "A<i>")
    assert (
        int(page.evaluate("document.body.dataset.shown")) == ((table["verdict"] == "review") & (table["site"] == "A<i>")).sum()
    )
    page.click("#clear")
    page.select_option("[data-filter=known]", "false")
    assert page.inner_text("#count") == "1 of 40 scans"
    page.click("#clear")
    page.click("[data-first='12']")
    assert page.inner_text("#count") == "12 of 40 scans"
    page.click("#clear")
    page.click("th[data-column=predicted_dice] button")
    page.click("th[data-column=predicted_dice] button")
    assert page.get_attribute("th[data-column=predicted_dice]", "aria-sort") == "descending"
    assert page.locator("#body tr[data-row]").first.get_attribute("data-row") == "39"
    page.click("#list summary")
    page.fill("#range-low", "0.89")
    page.keyboard.press("Tab")
    assert int(page.evaluate("document.body.dataset.shown")) == (table["predicted_dice"].astype(float) >= 0.89).sum()


def test_other_limits_are_tried_and_listed(opened: Opened, tmp_path: Path) -> None:
    table = study()
    dice = table["predicted_dice"].astype(float).to_numpy()
    limits = {
        "dices": [0.7, 0.75],
        "levels": [0.01, 0.05],
        "confidence": 0.95,
        "min_dice": 0.75,
        # The two scans that failed were never tested.
        "from_level": [[None if not d > low else 1 - int(d > low + 0.1) for d in dice] for low in (0.75, 0.8)],
        "most_bad": [[1, 3], [0, 2]],
    }
    page = ready(
        opened(
            written(
                tmp_path,
                table.iloc[::-1],
                facts={**FACTS, "other_limits": {**limits, "from_level": [levels[::-1] for levels in limits["from_level"]]}},
            )
        )
    )
    page.click("#limits summary")
    wide = int((dice > 0.8).sum())
    assert page.inner_text("#limit-result") == f"{wide} masks are accepted. At most 2 of them ({round(200 / wide)} %) are bad."
    page.click("#limit-show")
    assert page.inner_text("#count") == f"{wide} of 40 scans"
    page.focus("#limit-level")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#count") == f"{int((dice > 0.9).sum())} of 40 scans"
    page.focus("#limit-dice")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#limit-dice-value") == "0.70"
    assert page.inner_text("#count") == f"{int((dice > 0.85).sum())} of 40 scans"
    page.keyboard.press("Escape")
    page.click("#clear")
    assert page.inner_text("#count") == "40 scans"


def test_the_keyboard_is_enough(output: Path, opened: Opened) -> None:
    page = opened(output)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for key in "jjjk":
        page.keyboard.press(key)
    assert page.evaluate("document.body.dataset.lit") == study()["scan"][1]
    assert page.evaluate("document.activeElement.dataset.row") == "1"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.body.dataset.lit") == "sub-01_ses-1"
    with page.context.expect_page() as other:
        page.keyboard.press("Enter")
    other.value.wait_for_load_state()
    assert other.value.title() == "one scan"
    page.bring_to_front()
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.input_value("#search") == "jk"
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
    page.click("th[data-column=rank] button")
    page.keyboard.press("k")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.dataset.row") == "0"


def test_dark_colours_follow_the_system_and_the_button(output: Path, opened: Opened) -> None:
    page = ready(opened(output, color_scheme="dark"))
    ink = "plots.get('strip-predicted_dice').view.signal('ink')"
    assert page.evaluate("document.body.dataset.theme") == "dark"
    assert page.evaluate(ink) == "#e8ebf1"
    page.click("#theme")
    assert page.evaluate(ink) == "#1c2330"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 248)"


def test_unusual_studies_open_without_complaint(opened: Opened, tmp_path: Path) -> None:
    page = opened(written(tmp_path, STUDIES["empty"](), CUTOFFS.iloc[:0], {}))
    for name in ("one", "all failed", "no metadata", "flat"):
        table = STUDIES[name]()
        page.goto(written(tmp_path, table, CUTOFFS.iloc[:0], {}).as_uri())
        ready(page)
        assert page.locator("#body tr[data-row]").count() == len(table)
        assert page.is_visible("#plots") == (name != "all failed")
        assert page.is_visible("#drift") == (name == "flat")


@pytest.mark.slow
def test_five_thousand_scans_stay_usable(opened: Opened, tmp_path: Path) -> None:
    page = opened(written(tmp_path, study(5000)))
    page.wait_for_selector("body[data-ready=all]", timeout=120_000)
    assert page.locator("#body tr[data-row]").count() < 40
    page.keyboard.press("j")
    page.keyboard.press("End")
    page.evaluate("scrollBox.scrollTop = scrollBox.scrollHeight")
    page.wait_for_selector("tr[data-row='4999']")
    until(page, "document.querySelector('tr[data-row=\"4999\"] img').naturalWidth === 1")
    page.fill("#search", "sub-1234 ses-1")
    until(page, "plots.get('strip-predicted_dice').figure.dataset.lit === 'sub-1234_ses-1'")
