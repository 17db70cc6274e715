"""The desk as a person uses it: a real browser, a real server, the keyboard."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command import veridice
from desk_study import SHAPE, Client, affine, served, served_apart, without_judge, write_scan, write_study

from veridice.cohort.ratings import read_rating
from veridice.imaging.volume import Geometry

ORIENTATIONS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a link in a fresh profile; what the page complains of, or its policy blocks, fails the test."""
    troubles: list[str] = []
    contexts = []

    def opened(client: Client, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 820}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
        page.goto(client.link)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    known = ("Failed to load resource", "ERR_CONNECTION", "does not appear to be NIFTI")
    assert not [text for text in troubles if not any(words in text for words in known)]


def current(page: Any) -> str:
    return str(page.evaluate("document.body.dataset.scan"))


def rate(page: Any, key: str) -> None:
    """One rating by keyboard; waits for the next scan, or for the end."""
    scan = current(page)
    page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_function("old => document.body.dataset.scan !== old || document.body.dataset.finished", arg=scan)


def drawing(page: Any) -> np.ndarray:
    """What is drawn, in RAS order (x, y, z)."""
    packed = page.evaluate(
        """() => { const { nv } = veridice.viewer;
          return [nv.back.dims.slice(1), Array.from(nv.drawBitmap, (value) => value & 4 ? 1 : 0)]; }"""
    )
    return np.reshape(packed[1], packed[0], order="F").astype(bool)


def test_twelve_scans_by_keyboard_alone_and_the_group_sees_them(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    study = write_study(tmp_path / "study")
    with served(study, raters="ANNA") as desk:
        page = open_page(desk["ANNA"])
        assert "token" not in page.url
        seen = []
        for number in range(12):
            seen.append(current(page))
            if number == 0:
                page.keyboard.press("Shift+Digit2")
                page.keyboard.press("c")
                page.keyboard.type("two words")
                page.keyboard.press("Escape")
            rate(page, "123"[number % 3])
        assert seen == [f"sub-{n:03d}" for n in reversed(range(12))]
        page.wait_for_selector("dialog[open]")  # the progress that is shown at the end
        page.keyboard.press("Escape")
        page.keyboard.press("u")
        page.wait_for_function("() => document.getElementById('saved').textContent.includes('taken back')")
        page.wait_for_function("() => !document.querySelector('#rating [aria-checked=true]')")
        page.evaluate("delete document.body.dataset.finished")
        rate(page, "1")
        assert desk["ANNA"].get("/api/progress")["done"] == 12
        assert desk["ANNA"].ask("POST", "/api/export", {})[1]["ratings"] == 12
    first = json.loads((study / "sub-011" / "anat" / "sub-011_rating.json").read_text())
    assert (first["Rating"], first["Reasons"], first["Comment"]) == ("accept", ["false lesions"], "two words")
    done = veridice("run", study.parents[1], study, "group")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in (study / "veridice.tsv").read_text().splitlines()]
    ratings = {row[rows[0].index("scan")]: row[rows[0].index("rating")] for row in rows[1:]}
    assert ratings["sub-011"] == "accept"
    assert ratings["sub-010"] == "needs edit"


def test_skipped_scans_come_again_at_the_end(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 2), raters="ANNA") as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("n")
        page.wait_for_function("() => document.body.dataset.scan === 'sub-000'")
        rate(page, "1")
        assert current(page) == "sub-001"
        rate(page, "1")
        assert desk["ANNA"].get("/api/progress") | {"standing": None, "pace": 0} == {
            "done": 2,
            "left": 0,
            "standing": None,
            "pace": 0,
        }


def test_a_text_of_the_study_stays_a_text(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1)) as desk:
        page = open_page(desk["ANNA"])
        page.click("#verdict summary")
        assert "<img src=x" in page.inner_text("#verdict")
        assert page.locator("#verdict img").count() == 0


@pytest.mark.slow
def test_a_killed_desk_is_waited_for_and_nothing_is_lost(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    study = write_study(tmp_path / "study", 3)
    with served_apart(study) as desk:
        port = desk["ANNA"].host.rpartition(":")[2]
        page = open_page(desk["ANNA"])
        os.kill(desk.process.pid, signal.SIGKILL)
        desk.process.wait()
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        page.wait_for_selector("#saved.trouble")
        assert current(page) == "sub-002"
    with served(study, "--port", port) as desk:
        page.wait_for_function("() => document.body.dataset.scan === 'sub-001'")
        assert desk["ANNA"].get("/api/scans/sub-002")["mine"]["rating"] == "reject"


def test_what_was_not_sent_is_there_after_the_browser_was_closed(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1)) as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("2")
        page.keyboard.press("c")
        page.keyboard.type("half a sen")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.input_value("#comment") == "half a sen"
        assert page.locator("#rating [aria-checked=true]").inner_text().startswith("Needs edit")


def test_tools_draw_through_slices_and_strokes_are_undone(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1)) as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("d")
        page.wait_for_function("() => veridice.brush.on")
        original = drawing(page)
        assert original.sum() == 19
        page.evaluate("veridice.brush.radius = 6")
        page.evaluate("veridice.viewer.nv.scene.crosshairPos = veridice.viewer.nv.vox2frac([6, 11, 7])")
        page.keyboard.press("Space")
        x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
        ball = ((x - 6) * 3.0) ** 2 + ((y - 11) * 4.0) ** 2 + ((z - 7) * 5.0) ** 2 <= 36
        assert np.array_equal(drawing(page), original | ball)
        page.keyboard.press("q")  # one slice
        page.keyboard.press("x")
        page.keyboard.press("Space")
        assert np.array_equal(drawing(page), original | (ball & (z != 7)))
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        assert np.array_equal(drawing(page), original)
        page.keyboard.press("l")  # off: the lesion under the crosshair; on: one that looks missed
        page.evaluate("veridice.viewer.nv.scene.crosshairPos = veridice.viewer.nv.vox2frac([4, 5, 3])")
        page.keyboard.press("Space")
        assert drawing(page).sum() == 1
        page.evaluate("veridice.viewer.nv.scene.crosshairPos = veridice.viewer.nv.vox2frac([2, 10, 6])")
        page.keyboard.press("Space")
        assert np.argwhere(drawing(page)).tolist() == [[2, 10, 6], [8, 9, 5]]
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        page.keyboard.press("q")
        page.keyboard.press("g")
        page.evaluate("veridice.viewer.nv.scene.crosshairPos = veridice.viewer.nv.vox2frac([8, 9, 5])")
        page.evaluate(
            "brush => { brush = veridice.brush; brush.begin(); brush.set(brush.index([8, 9, 5]), false); brush.up(); }"
        )
        assert drawing(page).sum() == 18
        page.keyboard.press("Space")
        assert np.array_equal(drawing(page), original)


def test_a_mouse_stroke_is_kept_as_a_draft_and_saved(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    study = write_study(tmp_path / "study", 1)
    with served(study) as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("v")  # axial
        page.keyboard.press("d")
        page.wait_for_function("() => veridice.brush.on")
        box = page.locator("#canvas").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 60, middle[1], steps=5)
        page.mouse.up()
        drawn = drawing(page)
        assert drawn.sum() > 19
        page.wait_for_function("() => document.getElementById('drawing').dataset.state === 'draft'")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.wait_for_function("() => veridice.brush.on")
        assert np.array_equal(drawing(page), drawn)
        page.keyboard.press("Control+s")
        page.wait_for_function("() => document.getElementById('drawing').dataset.state !== 'draft'")
    edited = nib.load(study / "sub-000" / "anat" / "sub-000_label-lesion_desc-edited_mask.nii.gz")
    assert np.array_equal(np.asarray(nib.as_closest_canonical(edited).dataobj) > 0, drawn)


def test_a_save_that_is_refused_keeps_the_drawing_open(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    root = tmp_path / "study"
    with served(write_study(root, 2), raters="ANNA", weights=without_judge(tmp_path / "weights")) as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("d")
        page.wait_for_function("() => veridice.brush.on")
        page.keyboard.press("Space")
        drawn = drawing(page)
        write_scan(root, "sub-001", 7)  # judged again meanwhile
        page.keyboard.press("Control+s")
        page.wait_for_selector("#saved.trouble")
        page.keyboard.press("n")
        page.wait_for_timeout(500)
        assert current(page) == "sub-001"
        assert page.evaluate("veridice.brush.on")
        assert np.array_equal(drawing(page), drawn)
        page.evaluate("() => veridice.brush.stop()")


def test_the_layer_of_the_corrected_mask_cannot_wipe_a_drawing(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1), raters="ANNA", weights=without_judge(tmp_path / "weights")) as desk:
        desk["ANNA"].draw("sub-000", np.zeros(SHAPE))
        page = open_page(desk["ANNA"])
        page.keyboard.press("d")
        page.wait_for_function("() => veridice.brush.on")
        page.keyboard.press("Space")
        drawn = drawing(page)
        assert drawn.any()
        assert page.locator("text=Corrected mask >> nth=0").is_disabled()
        page.keyboard.press("e")
        page.keyboard.press("m")
        assert np.array_equal(drawing(page), drawn)
        page.evaluate("() => veridice.brush.stop()")


def test_a_scan_that_cannot_be_shown_does_not_block_the_others(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    root = tmp_path / "study"
    study = write_study(root, 3)
    (root / "sub-002" / "anat" / "sub-002_FLAIR.nii.gz").write_bytes(b"no image at all")
    with served(study, raters="ANNA") as desk:
        page = open_page(desk["ANNA"])
        if not page.evaluate("document.body.dataset.scan === 'sub-001'"):
            page.keyboard.press("n")
        page.wait_for_function("() => document.body.dataset.scan === 'sub-001'")
        rate(page, "1")
        rate(page, "1")
        assert desk["ANNA"].get("/api/progress")["done"] == 2


EACH_ONCE = {f"sub-{kind}{8 * order + (3 * order + 2 * (kind == 'o')) % 8:02d}" for order in range(6) for kind in "so"}
"""An eighth of them, in which every order of axes and every choice of turned ones is there, and each order is oblique too."""


EVERY_ONE = {f"sub-{kind}{number:02d}" for number in range(len(ORIENTATIONS)) for kind in "so"}


@pytest.mark.parametrize("names", [EACH_ONCE, pytest.param(EVERY_ONE, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_drawing_comes_back_where_it_was_in_every_orientation(
    tmp_path: Path, open_page: Callable[..., Any], names: set[str]
) -> None:
    """A mark at a place in millimetres, made in the browser, is found there in the file; and a mask is shown where it lies."""
    study = oriented(tmp_path / "study", names)
    with served(study, weights=without_judge(tmp_path / "weights")) as desk:
        page = open_page(desk["ANNA"], viewport={"width": 420, "height": 300})
        for name in sorted(names):
            check_a_drawing(page, study, name)


def oriented(root: Path, names: set[str]) -> Path:
    """A study with a scan in each of the 48 ways to lay a file, and each of them once more oblique; as far as asked for."""
    study = write_study(root, 0)
    for number, (order, signs) in enumerate(ORIENTATIONS):
        for turn, kind in ((0.0, "s"), (0.35, "o")):
            if (name := f"sub-{kind}{number:02d}") in names:
                write_scan(root, name, 0, Geometry(SHAPE, affine(order, signs, turn)))
    return study


def check_a_drawing(page: Any, study: Path, name: str) -> None:
    flair = nib.load(study.parents[1] / name / "anat" / f"{name}_FLAIR.nii.gz")
    marked = page.evaluate(
        """async ([name, mm]) => {
          await veridice.open(name);
          await veridice.startDrawing();
          const { viewer, brush } = veridice, { nv } = viewer;
          const shown = [];
          const [, nx, ny] = viewer.images.flair.dimsRAS;
          nv.drawBitmap.forEach((value, index) => {
            const voxel = [index % nx, Math.floor(index / nx) % ny, Math.floor(index / (nx * ny))];
            if (value & 4) shown.push(Array.from(nv.frac2mm(nv.vox2frac(voxel), 0, true)).slice(0, 3));
          });
          brush.begin();
          nv.drawBitmap.forEach((value, index) => brush.set(index, false));
          const voxel = Array.from(nv.frac2vox(nv.mm2frac(mm, 0, true)));
          brush.set(brush.index(voxel), true);
          brush.up();
          await veridice.saveDrawing();
          return shown;
        }""",
        [name, (flair.affine @ [2, 11, 7, 1])[:3].tolist()],
    )
    mask = nib.load(study / name / "anat" / f"{name}_label-lesion_mask.nii.gz")
    there = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj)))
    assert np.allclose(sorted(marked), sorted(there.tolist()), atol=0.02), name
    edited = nib.load(study / name / "anat" / f"{name}_label-lesion_desc-edited_mask.nii.gz")
    assert np.allclose(edited.affine, flair.affine, atol=1e-4)
    assert np.argwhere(np.asarray(edited.dataobj)).tolist() == [[2, 11, 7]], name


def test_the_mask_is_seen_as_a_coloured_line_and_as_an_area(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1)) as desk:
        page = open_page(desk["ANNA"])
        page.keyboard.press("v")
        page.keyboard.press("k")
        counts = [orange(page)]
        page.keyboard.press("s")
        counts.append(orange(page))
        page.keyboard.press("m")
        counts.append(orange(page))
        assert counts[1] > 2 * counts[0] > 100
        assert counts[2] == 0


def orange(page: Any) -> int:
    """Pixels of the canvas in the colour of the judged mask."""
    return int(
        page.evaluate(
            """() => { const { nv } = veridice.viewer, { gl } = nv; nv.drawScene();
              const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight], all = new Uint8Array(4 * w * h);
              gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, all);
              let n = 0; for (let i = 0; i < all.length; i += 4) n += all[i] > all[i + 2] + 50; return n; }"""
        )
    )


def test_layers_views_and_the_previous_visit_open(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 1, sessions=2)) as desk:
        page = open_page(desk["ANNA"])
        page.evaluate("veridice.open('sub-000_ses-2')")
        page.wait_for_function("() => document.body.dataset.scan === 'sub-000_ses-2'")
        for key, layer in (("t", "t1"), ("y", "probability"), ("i", "entropy")):
            page.keyboard.press(key)
            page.wait_for_function("layer => veridice.viewer.shown.has(layer)", arg=layer)
        assert page.evaluate("veridice.viewer.nv.volumes.length") == 4
        for view in ("axial", "coronal", "sagittal", "mosaic", "three planes"):
            page.keyboard.press("v")
            assert page.locator("#tools [aria-pressed=true]").inner_text() == view
        page.keyboard.press("z")
        page.wait_for_function("() => document.getElementById('before-name').textContent.includes('ses-1')")
        assert page.locator("#stage-before").is_visible()


def test_a_phone_and_a_screen_reader_get_everything(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 2)) as desk:
        page = open_page(desk["ANNA"], viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.tap("#rating [role=radio] >> nth=2")
        page.tap("text=Save and next")
        page.wait_for_function("() => document.body.dataset.scan === 'sub-000'")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, textarea, canvas')].filter((one) =>
              !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length).map((one) => one.outerHTML)"""
        )
        assert nameless == []


def test_text_stands_out_enough_to_be_read(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """WCAG AA: a contrast of 4.5 for text."""
    with served(write_study(tmp_path / "study", 3)) as desk:
        page = open_page(desk["ANNA"], reduced_motion="reduce")
        papers = set()
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRAST) == [], scheme
            papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(papers) == 2


CONTRAST = """() => {
  const linear = (v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const behind = (one) => { for (; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const low = [];
  for (const one of document.querySelectorAll('header *, nav *, aside *, .bar *')) {
    const texts = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!texts || !one.offsetParent || one.closest(':disabled')) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color).slice(0, 3)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${one.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def test_ten_thousand_rows_are_no_more_work_than_ten(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 2)) as desk:
        page = open_page(desk["ANNA"])
        page.evaluate(
            """() => veridice.list.set(Array.from({ length: 10000 }, (_, n) => ({ scan: `sub-x${n}`, status: 'done',
              verdict: 'review', predicted_dice: 0.5 })))"""
        )
        assert page.locator(".row").count() < 40
        page.evaluate("document.getElementById('rows').scrollTop = 9000 * 52")
        page.wait_for_selector("text=sub-x9003")
        page.fill("#find", "x777")
        page.wait_for_selector("text=sub-x7770")
        assert page.locator(".row").count() == 11


@pytest.mark.slow
def test_blind_raters_see_no_verdict_on_the_page(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    study = write_study(tmp_path / "study", 4)
    with served(study, "--blind", "--double", "1") as desk:
        pages = {rater: open_page(desk[rater]) for rater in ("ANNA", "BEN")}
        for rater, page in pages.items():
            for _ in range(4):
                shown = page.inner_text("#panel") + page.inner_text("#list")
                assert "Dice" not in shown.replace("Dice with the judged mask", "")
                assert "chance" not in shown.lower()
                rate(page, "1" if rater == "ANNA" or current(page) != "sub-003" else "3")
        assert desk["ANNA"].ask("POST", "/api/export", {})[1]["ratings"] == 8
    assert read_rating(study / "sub-003" / "anat" / "sub-003_rating.json").value == "reject"


def test_time_is_taken_from_the_first_picture(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with served(write_study(tmp_path / "study", 2)) as desk:
        page = open_page(desk["ANNA"])
        time.sleep(1)
        rate(page, "1")
        assert 1 <= desk["ANNA"].get("/api/progress")["pace"] < 60
