"""The report in a real browser: one session, one page of measured, estimated and published runs."""

import shutil
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import analyse, load_runs
from codejoule.report import write_report
from codejoule.tracking import write_power_parquet, write_windows_parquet
from tests.analysis.simulated import write_run, write_sweep
from tests.report.test_report import log_answers

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SHOWN = "#pareto .mark"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium here: `make browser` installs it (Debian: apt-get install chromium)",
)


HOSTILE = "</script><img src=x onerror='window.hit=1'><script>window.hit=1</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory, with_database):
    """Two engines and three quantizations with power, answers and a prediction; an estimated and a
    published kind."""
    folder = with_database(tmp_path_factory.mktemp("report"))
    store = write_sweep(folder, folder)
    rng = np.random.default_rng(1)
    for quant in ("none", "gptq4"):
        write_run(
            store, folder, quant=quant, batch=8, engine="continuous",
            energy_j=np.exp(rng.normal(3, 0.5, 60)), passed=rng.random(60) < 0.5,
        )  # fmt: skip
    client = MlflowClient(store.uri)
    measured = load_runs(store.uri, store.experiment).frame
    for n, run_id in enumerate(measured["run_id"]):
        power, windows = folder / "power.parquet", folder / "windows.parquet"
        samples = [
            SimpleNamespace(time_s=0.1 * i, device="gpu:0", power_w=100.0 + i % 7)
            for i in range(300)
        ]
        write_power_parquet(samples, power)
        opened = [
            SimpleNamespace(start_s=5.0 + 4 * w, latency_s=4.0, energy_j=412.0) for w in range(5)
        ]
        write_windows_parquet(opened, windows)
        for path in (power, windows):
            client.log_artifact(run_id, str(path))
        log_answers(store, folder, run_id, 60, program=lambda i, n=n: f"{HOSTILE} {i} {n // 2}")
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
    assert page.locator("#shown").inner_text() == "5 of 5 configurations"
    assert page.locator("#x-count").inner_text() == "60 of 60 tasks"
    assert page.locator("#power .area").count() == 5
    tick(page, "engine", "continuous")
    assert page.locator(SHOWN).count() == 3
    assert page.locator("#power .area").count() == 3
    assert page.locator("#rows tbody td:nth-child(3)").first.inner_text().endswith("of 3")
    tick(page, "quant", "gptq4")
    assert page.locator("#shown").inner_text() == "2 of 5 configurations"
    tick(page, "batch", "b1")
    assert page.locator(SHOWN).count() == 0
    assert "Nothing to draw" in page.locator("#pareto").inner_text()
    assert page.locator("#explorer-empty").is_visible()
    assert page.locator("#rows tbody tr").first.is_hidden()


def test_first_axis_is_energy_per_correct_program(page):
    assert page.locator("#axis option:checked").inner_text() == "J per correct program"
    assert "J per correct program" in page.locator("#pareto").text_content()


@pytest.mark.parametrize("width", [1400, 390])
def test_every_mark_has_its_name_beside_it_and_no_two_names_overlap(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    names = page.locator("#pareto text.label")
    assert sorted(names.all_text_contents()) == [
        "gptq4 b1 generate", "gptq4 b8 continuous", "gptq8 b1 generate", "none b1 generate",
        "none b8 continuous",
    ]  # fmt: skip
    boxes = [name.bounding_box() for name in names.all()]
    page.set_viewport_size({"width": 1200, "height": 900})
    for a, b in combinations(boxes, 2):
        assert (
            a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            or a["y"] + a["height"] <= b["y"] + 4 or b["y"] + b["height"] <= a["y"] + 4
        )  # fmt: skip
    assert all(b["x"] >= 0 and b["x"] + b["width"] <= width for b in boxes)


def test_shape_tells_the_engine_and_size_the_batch(page):
    shapes = {
        mark.get_attribute("aria-label").split(",")[0]: mark.locator("> :not(line):not(.halo)")
        for mark in page.locator(SHOWN).all()
    }
    drawn = {
        label: node.evaluate("n => [n.tagName, Math.round(n.getBBox().width)]")
        for label, node in shapes.items()
    }
    by_engine = {
        engine: {tag for label, (tag, _) in drawn.items() if engine in label}
        for engine in ("generate", "continuous")
    }
    assert all(len(tags) == 1 for tags in by_engine.values())
    assert by_engine["generate"] != by_engine["continuous"]
    widths = {b: {w for label, (_, w) in drawn.items() if f" {b} " in label} for b in ("b1", "b8")}
    assert max(widths["b1"]) < min(widths["b8"])


def test_power_begins_with_the_first_window_and_its_area_is_the_energy(page):
    strip = page.locator("#power .area").first
    assert "2,060 J in 20.0 s, 5 windows" in strip.get_attribute("aria-label")
    area, windows = strip.bounding_box(), page.locator("#power .window")
    assert windows.count() == 25
    assert windows.first.bounding_box()["x"] == pytest.approx(area["x"], abs=3)
    assert "differ by at most" in page.locator("#power-caption").inner_text()


def test_task_opens_its_prompt_programs_verdicts_and_test_output(page):
    page.locator("#x-text").fill("t31")
    page.get_by_role("button", name="t31").press("Enter")
    dialog = page.locator("#task")
    assert dialog.get_by_role("heading", level=2).inner_text() == "t31"
    assert dialog.locator("pre").first.text_content() == "Write it."
    programs = dialog.locator("section pre").all_text_contents()
    # Configurations that gave the same program stand together.
    assert sorted(programs[::2]) == [f"{HOSTILE} 31 {n}" for n in range(3)]
    assert all(f"AssertionError: {HOSTILE} 31" in said for said in programs[1::2])
    assert dialog.locator(".verdict").all_inner_texts() == ["fail"] * 3
    assert dialog.locator(".chips li").count() == 5
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "t31"


def test_programs_of_models_stay_text(page):
    for name in ("t0", "t31"):
        page.locator("#x-text").fill(name)
        page.get_by_role("button", name=name, exact=True).click()
        page.keyboard.press("Escape")
    assert page.locator("img").count() == 0
    assert page.evaluate("window.hit") is None
    # Nor would a script run that got in some other way.
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">')"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None


def test_tasks_are_filtered_and_sorted(page):
    page.locator("#x-domain").select_option("Time")
    assert page.locator("#x-count").inner_text() == "20 of 60 tasks"
    page.locator("#x-domain").select_option("")
    page.locator("#x-result").select_option("differs")
    shares = page.locator("#rows tbody td:nth-child(3)").all_inner_texts()
    assert shares
    assert set(shares) <= {f"{n} of 5" for n in range(1, 5)}
    page.locator("#x-result").select_option("")
    page.locator("#x-text").fill("t3")
    assert all(t.startswith("t3") for t in page.locator("#rows tbody th").all_inner_texts())

    def shown():
        cells = page.locator("#rows tbody tr td:nth-child(4)").all_inner_texts()
        return [float(cell.replace(",", "")) for cell in cells]

    page.get_by_role("button", name="energy [J]").first.click()
    assert shown() == sorted(shown(), reverse=True)
    page.locator("#rows").get_by_role("button", name="energy [J]").click()
    assert shown() == sorted(shown())
    assert page.locator("#rows th[aria-sort=ascending]").inner_text().startswith("energy")


def test_heading_sorts_a_table(page):
    table = page.locator("table.sortable").first
    cells = table.locator("tbody td:nth-child(3)")
    table.get_by_role("button", name="pass@1").click()
    rates = [float(text.split()[0]) for text in cells.all_inner_texts()]
    assert rates == sorted(rates, reverse=True)


def test_estimates_and_published_figures_are_labelled_and_stand_alone(page):
    for kind, sign in (("estimate", True), ("published", False)):
        option = page.locator("#group option", has_text=kind).first
        page.locator("#group").select_option(option.get_attribute("value"))
        assert f"({kind})" in page.locator("#pareto").text_content()
        (label,) = [m.get_attribute("aria-label") for m in page.locator(SHOWN).all()]
        assert kind in label
        assert ("~" in label) == sign


def test_mark_tells_its_figures_to_the_keyboard(page):
    mark = page.locator(SHOWN).first
    mark.focus()
    tip = page.locator("#pareto .tip")
    assert "pass@1" in tip.inner_text()
    assert " J " in tip.inner_text()
    page.locator("#axis").focus()
    assert tip.count() == 0


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def with_curves(tmp_path_factory, with_database):
    """Two quantizations at four batches beside the unquantized model, and published figures."""
    from codejoule.cli import main
    from codejoule.config.schema import TrackingConfig
    from codejoule.tracking import prepare_store

    folder = with_database(tmp_path_factory.mktemp("curves"))
    store = prepare_store(TrackingConfig(experiment="curves", dir=f"{folder}/mlruns"))
    ratios = {"none": (1, 1, 1, 1), "gptq4": (0.5, 0.6, 0.9, 1.3), "awq": (0.6, 0.6, 0.7, 0.8)}
    for quant, own in ratios.items():
        for batch, ratio in zip((1, 8, 32, 128), own, strict=True):
            write_run(
                store, folder, quant=quant, batch=batch, engine="vllm",
                energy_j=np.full(8, 10 * ratio / batch), passed=np.arange(8) < 5,
            )  # fmt: skip
    figures = folder / "figures.csv"
    figures.write_text(
        "model,card,engine,quantization,batch,energy_per_output_token_j,method,source\n"
        "Qwen/Qwen2.5-7B-Instruct,H100,vllm,none,8,0.4,wattmeter,An invented paper\n"
        "Qwen/Qwen2.5-7B-Instruct,H100,vllm,none,64,0.1,wattmeter,An invented paper\n"
        "Qwen/Qwen2.5-7B-Instruct,H100,vllm,hqq4,8,0.2,wattmeter,An invented paper\n"
        "Qwen/Qwen2.5-7B-Instruct,H100,vllm,hqq4,64,0.12,wattmeter,An invented paper\n"
    )
    where = [f"tracking.dir={folder}/mlruns", "tracking.experiment=curves"]
    assert main(["import-published", str(figures), *where]) == 0
    loaded = load_runs(store.uri, "curves")
    return write_report(analyse(loaded), loaded, folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_curve_of_quantization_is_drawn_and_stays_on_the_page(browser, with_curves, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(with_curves.as_uri())
    assert said == []
    assert page.locator("#curves .curve").count() == 2
    marks = page.locator("#curves .mark")
    assert marks.count() == 8
    told = [mark.get_attribute("aria-label") for mark in marks.all()]
    assert any(text.startswith("qwen_7b awq vllm, batch 1: 0.6") for text in told)
    legend = page.locator("#curves-legend").inner_text()
    assert "qwen_7b awq vllm: pays at every batch measured, 1 to 128" in legend
    assert "qwen_7b gptq4 vllm: pays up to batch 32, costs from 128 on: crosses at about" in legend
    svg = page.locator("#curves svg").bounding_box()
    for node in page.locator("#curves text, #curves .mark").all():
        box = node.bounding_box()
        assert box["x"] >= svg["x"] - 1
        assert box["x"] + box["width"] <= svg["x"] + svg["width"] + 1
    ticks = [node.bounding_box() for node in page.locator("#curves .tick").all()]
    for a, b in combinations(ticks, 2):
        assert (
            a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            or a["y"] + a["height"] <= b["y"] + 4 or b["y"] + b["height"] <= a["y"] + 4
        )  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_published_figures_are_labelled_and_have_their_prediction(browser, with_curves):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(with_curves.as_uri())
    article = page.locator("article.published")
    assert article.locator(".badge.published").inner_text() == "published"
    assert "published figures of An invented paper" in article.inner_text()
    heads = [head.strip() for head in article.locator("thead th").all_inner_texts()]
    assert "predicted J/token" in heads
    assert "error" in heads
    assert "the quantization hqq4 is none of" in page.locator("#doubts").inner_text()
    page.locator("#group").select_option("1")
    assert page.locator("#curves .curve").count() == 1
    assert "nothing is shown by them" in page.locator("#curves-caption").inner_text()
    page.close()
