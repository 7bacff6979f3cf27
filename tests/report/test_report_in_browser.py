"""The report in a real browser: one session, one page of measured, estimated and published runs."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import analyse, load_runs
from codejoule.report import write_report
from codejoule.tracking import write_power_parquet
from tests.analysis.simulated import write_run, write_sweep

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SHOWN = "#pareto .mark"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium here: `make browser` installs it (Debian: apt-get install chromium)",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory, with_database):
    """Three measured configurations with power and a prediction, an estimated and a published."""
    folder = with_database(tmp_path_factory.mktemp("report"))
    store = write_sweep(folder, folder)
    client = MlflowClient(store.uri)
    measured = load_runs(store.uri, store.experiment).frame
    for run_id in measured["run_id"]:
        power = folder / "power.parquet"
        samples = [
            SimpleNamespace(time_s=0.1 * i, device="gpu0", power_w=100.0 + i % 7)
            for i in range(300)
        ]
        write_power_parquet(samples, power)
        client.log_artifact(run_id, str(power))
        client.log_metric(run_id, "predicted_latency_s", 55.0)
    facts = {"passed": np.ones(12, dtype=bool), "energy_j": np.full(12, 9.0)}
    write_run(store, folder, quant="none", batch=8, tags={
        "codejoule.energy_source": "estimate", "codejoule.energy_scope": "cpu",
    }, **facts)  # fmt: skip
    published = write_run(store, folder, quant="awq", tags={
        "codejoule.energy_source": "published", "codejoule.published": "true",
    }, **facts)  # fmt: skip
    loaded = load_runs(store.uri, store.experiment)
    analysis = analyse(loaded)
    assert {g.group.published for g in analysis.groups} == {True, False}
    assert published in set(loaded.frame["run_id"])
    return write_report(analysis, loaded, folder / "out")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without Chromium's own sandbox, which starts neither as root nor in most containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(browser, report):
    """The page, and what it said and asked for while it loaded."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page, said, asked
    page.close()


@pytest.fixture
def page(opened):
    """The same page, fresh."""
    opened[0].reload()
    return opened[0]


def tick(page, facet, value):
    page.locator(f'input[data-facet="{facet}"][value="{value}"]').click()


def test_loads_without_errors_and_without_a_request(opened, report):
    page, said, asked = opened
    assert page.locator(SHOWN).count() == 5
    assert said == []
    assert set(asked) == {report.as_uri()}


def test_filters_change_what_is_shown(page):
    rows = "#rows tbody tr"
    assert page.locator("#shown").inner_text() == "5 of 5 configurations shown"
    assert page.locator("#x-count").inner_text().startswith("204 of 204")
    tick(page, "Energy", "published")
    assert page.locator(SHOWN).count() == 4
    tick(page, "Energy", "estimate")
    assert page.locator("#shown").inner_text() == "3 of 5 configurations shown"
    tick(page, "Quantization", "gptq4")
    assert page.locator(SHOWN).count() == 2
    assert page.locator("#power .line").count() == 2
    assert page.locator("#cumulative .line").count() == 2
    assert page.locator("#x-count").inner_text().startswith("120 of 204")
    tick(page, "Quantization", "gptq8")
    tick(page, "Quantization", "none")
    assert page.locator(SHOWN).count() == 0
    assert "Nothing to draw" in page.locator("#pareto").inner_text()
    assert page.locator("#explorer-empty").is_visible()
    assert page.locator(rows).first.is_hidden()


def test_explorer_filters_and_sorts(page):
    page.locator("#x-domain").select_option("Time")
    counted = int(page.locator("#x-count").inner_text().split()[0])
    assert 0 < counted < 204
    page.locator("#x-result").select_option("fail")
    failed = page.locator("#rows tbody tr td:last-child").all_inner_texts()
    assert failed
    assert set(failed) == {"no"}
    page.locator("#x-result").select_option("")
    page.locator("#x-text").fill("t3")
    assert all(t.startswith("t3") for t in page.locator("#rows tbody th").all_inner_texts())
    energies = "#rows tbody tr td:nth-child(4)"

    def shown():
        return [
            float(t.lstrip("~").replace(",", "")) for t in page.locator(energies).all_inner_texts()
        ]

    assert shown() == sorted(shown(), reverse=True)
    page.get_by_role("button", name="energy [J]").click()
    assert shown() == sorted(shown())
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("energy")


def test_estimates_and_published_figures_are_labelled(page):
    axis = page.locator("#pareto").text_content()
    assert "(estimate, published)" in axis or "(published, estimate)" in axis
    labels = [m.get_attribute("aria-label") for m in page.locator(SHOWN).all()]
    assert sum("estimate" in label and "~" in label for label in labels) == 1
    assert sum("published" in label for label in labels) == 1


def test_mark_tells_its_figures_to_the_keyboard(page):
    mark = page.locator(SHOWN).first
    mark.focus()
    tip = page.locator("#pareto .tip")
    assert "pass@1" in tip.inner_text()
    assert " J " in tip.inner_text()
    page.locator("#axis").focus()
    assert tip.count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_accessibility(page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    result = Axe().run(page).response
    page.emulate_media(color_scheme=None)
    serious = [
        (v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(result["passes"]) > 15


def test_page_is_as_wide_as_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    wide = page.evaluate("document.documentElement.scrollWidth")
    tables = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).length"
    )
    page.set_viewport_size({"width": 1200, "height": 900})
    assert wide == 390
    assert tables > 0


def test_print_opens_every_section_and_hides_the_controls(page):
    cell = page.locator("details.table:not([open]) td").first
    assert not cell.is_visible()
    page.emulate_media(media="print")
    box = cell.bounding_box()
    controls = page.locator("nav, #filters, .controls")
    hidden = not any(one.is_visible() for one in controls.all())
    page.emulate_media(media="screen")
    assert box is not None
    assert box["height"] > 0
    assert hidden
