"""The report: one page that holds the answer, in a browser without a word on the console, sliders that cut as we do."""

import dataclasses
import html.parser
import json
import re
import shutil
import sys

import drawn
import jax
import numpy as np
import pytest

import ecjax as ec
from ecjax import report, runs
from ecjax.cli import main
from ecjax.cluster import recut
from ecjax.figures import save_figures
from ecjax.figures.weights import numbered_weights
from ecjax.report import page, parts
from ecjax.report.cuts import cuts_of
from ecjax.report.weights import _image as image_of
from ecjax.report.weights import matrix
from ecjax.road import cluster_numbers

SMALL = "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One finished toy run, of the size of the command line's tests."""
    folder = tmp_path_factory.mktemp("runs") / "<toy> & run"
    command = ["recover", "toy", *SMALL, "--out", str(folder), "--no-figures"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["/somewhere/__main__.py", *command])
        assert main(command) == 0
    return folder


@pytest.fixture
def run(folder):
    return ec.load_run(folder)


@pytest.fixture
def no_vega(monkeypatch):
    """The page without its 900 kB of script, which needs nothing that is optional."""
    monkeypatch.setattr(page, "_vega", lambda: "window.vegaEmbed = null")


class Outline(html.parser.HTMLParser):
    """What stands in a page, and whether tags that were opened are closed."""

    EMPTY = ("meta", "link", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.links = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            assert given["alt"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _about(text):
    return json.loads(re.search(r'<script type="application/json" id="about">(.*?)</script>', text, re.S)[1])


def test_the_page_is_whole_and_fetches_nothing(folder, no_vega):
    text = report.write_report(folder).read_text()
    outline = Outline(text)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert all(link.startswith(("#", "data:")) for link in outline.links), outline.links
    assert outline.tags.count("figure") == outline.tags.count("figcaption") > 4
    assert "<toy>" not in text  # the folder's name is escaped


def test_the_answer_comes_first(folder, run, no_vega):
    text = report.write_report(run).read_text()
    first = text[text.index("<h2>") : text.index("</section>")]
    for said in ("A 2-2-1 tanh network", "✓ certified", "Against the teacher", "2 of 2 neurons found"):
        assert said in first
    assert run.recovery.certificate.summary().split("(")[0].replace("'", "&#x27;") in first
    assert "<code>ecjax recover toy --d-in 2 --width 2" in text
    assert "packages.jax" in text
    assert "settings.cluster.gamma" in text


def test_every_weight_is_on_the_page(run, no_vega):
    text = report.write_report(run).read_text()
    for layer in run.recovery.network.layers:
        for number in np.concatenate([np.ravel(layer.w), np.ravel(layer.b)]):
            assert f">{number:.4g}<" in text


def test_sliders_ask_for_cuts_that_the_library_makes(run):
    clustering = run.recovery.clusterings[0]
    cuts = cuts_of(clustering)
    own = cuts.outcome[cuts.needed.index(clustering.needed)][cuts.betas.index(clustering.config.beta)]
    assert cuts.outcomes[own]["kept"] == clustering.node[clustering.kept].tolist()
    for i, j in ((0, 0), (-1, 3), (1, -1)):
        again = recut(clustering, gamma=cuts.needed[i] / clustering.n_students, beta=cuts.betas[j])
        assert cuts.outcomes[cuts.outcome[i][j]]["kept"] == again.node[again.kept].tolist()


def test_a_neuron_has_one_number_everywhere(run, tmp_path):
    """The clusters' numbers are rows of the network, whose weights are what the members of the cluster say."""
    recovery = run.recovery
    (numbers,) = cluster_numbers(recovery, run.x, 0)
    clustering = recovery.clusterings[0]
    assert sorted(numbers[numbers > 0]) == [1, 2]
    w = np.asarray(recovery.network.layers[0].w) @ np.linalg.pinv(recovery.scaling.x_map)
    for k in np.flatnonzero(numbers):
        member = clustering.neurons[clustering.reference[k], :-1]
        cosine = w[numbers[k] - 1] @ member / np.linalg.norm(w[numbers[k] - 1]) / np.linalg.norm(member)
        assert abs(cosine) > 0.999
    comparison = ec.compare(recovery, run.teacher, run.x)
    names, weights = numbered_weights(recovery.network, run.teacher, comparison)
    assert names == [1, 2]
    np.testing.assert_allclose(np.abs(weights["recovered"][:, :-1]), np.abs(recovery.network.layers[0].w), atol=1e-12)
    save_figures(tmp_path, recovery, run.x, run.teacher, comparison)  # these are drawn with the same numbers


def test_a_cluster_that_became_no_neuron_has_no_number(run):
    smaller = ec.network.take_neurons(run.recovery.network, np.array([0]), layer=0)
    recovery = dataclasses.replace(run.recovery, network=smaller)
    (numbers,) = cluster_numbers(recovery, run.x, 0)
    assert sorted(numbers[numbers > 0]) == [1]


def test_images_are_shown_as_images(run, no_vega, tmp_path):
    text = report.write_report(dataclasses.replace(run, config={**run.config, "image": [1, 2]}), tmp_path / "a.html")
    assert "weights into neuron 1" in text.read_text()


def test_what_is_no_number_is_none():
    assert page._json({"a": [1.5, float("nan"), (float("inf"),)], "b": "</script>"}) == (
        '{"a":[1.5,null,[null]],"b":"\\u003c/script>"}'
    )


def test_a_large_layer_is_left_to_its_file():
    assert "network.safetensors" in matrix("neuron", ["1"], ("x",), np.zeros((1, 30_000)))
    assert "<details>" in matrix("neuron", ["1"], tuple("x" * 50), np.zeros((1, 50)))


def test_colour_images_are_shown_in_their_colours():
    row = np.linspace(-1, 1, 12)
    shown = image_of(np.where(row > 0.9, np.nan, row), (3, 2, 2), 1.0, "RdBu_r")
    assert shown.startswith("data:image/png;base64,")


def test_learning_curves_are_drawn_where_training_has_epochs(run, no_vega, tmp_path):
    history = np.array([[1.0, 2.0, 3.0, 4.0], [0.1, 0.2, np.nan, 0.4]])
    (expansion,) = run.recovery.expansions
    failed = dataclasses.replace(expansion, history=history, loss=expansion.loss.at[1].set(np.nan))
    recovery = dataclasses.replace(run.recovery, expansions=(failed,))
    about = _about(report.write_report(dataclasses.replace(run, recovery=recovery), tmp_path / "a.html").read_text())
    lines = about["charts"]["history-1"]["layer"][0]["data"]["values"]
    assert len(lines) == 7  # one of eight is not there
    ends = about["charts"]["losses-1"]["layer"][0]["data"]["values"]
    assert [row["counts"] for row in ends].count("failed") == 1


def test_a_layer_of_several_activations_has_a_dendrogram_for_each(run, no_vega, tmp_path):
    kinds = ec.mixture(tanh=2, relu=2)
    students = drawn.students(4, (2, 4, 1), kinds, key=jax.random.key(0))
    w, b = (np.asarray(part) for part in (students.layers[0].w, students.layers[0].b))
    clustering = ec.cluster.cluster_layer(
        w, b, activation=kinds, counted=np.ones(4, bool), inputs=np.asarray(run.x),
        config=ec.ClusterConfig(gamma=0.5, beta=1.5),
    )  # fmt: skip
    network = ec.network.student(students, 0)
    linear = ec.Layer(drawn.on_device(np.ones((1, 2))), drawn.on_device(np.zeros(1)))
    recovery = dataclasses.replace(run.recovery, network=network, clusterings=(clustering,), linear=linear)
    path = report.write_report(dataclasses.replace(run, recovery=recovery, teacher=None), tmp_path / "a.html")
    about = _about(path.read_text())
    assert set(about["cuts"]) == {"1-1", "1-2"}
    assert "a linear map of the inputs is part of the answer" in path.read_text()
    numbers = cluster_numbers(recovery, run.x, 0)
    assert len(numbers) == 2
    assert set(numbers[0]) <= {0, 1, 2}
    assert set(numbers[1]) <= {0, 3, 4}
    alone = dataclasses.replace(recovery, network=ec.network.take_neurons(network, np.array([2, 3]), layer=0))
    assert not cluster_numbers(alone, run.x, 0)[0].any()  # no tanh is left


def test_what_is_not_certain_is_said(run, no_vega, tmp_path):
    doubtful = dataclasses.replace(run.recovery.certificate, doubts=("<nothing> is sure",))
    recovery = dataclasses.replace(
        run.recovery, certificate=doubtful, is_exact=False, advice="too few students", unidentified=("a <sign>",),
        errors=run.recovery.network, questions=7,
    )  # fmt: skip
    text = report.write_report(
        dataclasses.replace(run, recovery=recovery, teacher=None), tmp_path / "a.html"
    ).read_text()
    for said in ("! not certified", "&lt;nothing&gt; is sure", "too few students", "a &lt;sign&gt;", "± ", "not exact"):
        assert said in text
    assert "Against the teacher" not in text


def test_an_asked_run_shows_its_questions(key, no_vega, tmp_path):
    teacher = drawn.teacher(9, 3, 2, "tanh", key=key)
    asked = ec.Teacher(lambda x: np.asarray(drawn.answers(teacher, x)), fan_in=9)
    recovery = ec.recover(asked, activation="tanh", key=key)
    x = np.asarray(drawn.queries(50, 9, key=key))
    partial = runs.open_run(tmp_path / "asked", {})
    runs.save_recovery(partial, recovery, data=ec.Data.of(x, asked(x)))
    text = report.write_report(runs.close_run(partial)).read_text()
    about = _about(text)
    assert {"row-space-1", "sweep", "profiles-1", "dendrogram-1"} <= set(about["charts"])
    assert about["cuts"]["1"]["command"] == ""  # nothing that `ecjax cut` could cut again
    assert "Students" not in re.findall(r"<h2>(.*?)</h2>", text)


def test_long_tables_are_cut_short():
    text = parts.table(("a", "b"), [(i, None) for i in range(parts.MOST_ROWS + 5)])
    assert text.count("<tr>") == parts.MOST_ROWS + 1
    assert "of 205 rows" in text


def test_without_vega_the_message_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["report", str(folder)]) == 2
    assert 'pip install "ecjax[report]"' in " ".join(capsys.readouterr().err.split())


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    pytest.importorskip("vl_convert", reason="vl-convert-python has Vega-Lite")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on the path (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def written(folder, browser):
    assert main(["report", str(folder), "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


def _opened(browser, path, **how):
    page, said = browser.new_page(**how), []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else said.append(request.url),
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)
    return page, said


@pytest.mark.parametrize("how", ["light", "dark", "phone"])
def test_a_browser_draws_every_chart_and_says_nothing(browser, written, how):
    size = {"width": 390, "height": 800} if how == "phone" else {"width": 1100, "height": 900}
    page, said = _opened(browser, written, viewport=size, color_scheme="dark" if how == "dark" else "light")
    assert not said
    assert written.stat().st_size < 3e6
    charts = _about(written.read_text())["charts"]
    for name in charts:
        drawn = page.eval_on_selector(f"#{name} svg", "each => each.getBBox().width")
        assert drawn > 0.8 * min(size["width"], 62 * 16) - 60, name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing hangs over the edge
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink)]
    assert (bright[0] < bright[1]) == (how == "dark")
    page.close()


def test_sliders_recolour_the_clusters_and_count_them(browser, written):
    page, said = _opened(browser, written)
    count = lambda: page.inner_text("#count-1")
    blue = lambda: page.eval_on_selector_all('#dendrogram-1 line[stroke="#2b87b8"]', "each => each.length")
    assert count() == "2 clusters kept, the cut of the run"
    assert blue() > 0
    assert page.get_attribute("#gamma-1", "aria-valuetext") == "4 of 4"
    page.fill("#beta-1", "0")  # a tenth of a degree
    page.fill("#gamma-1", "0")
    cut = _about(written.read_text())["cuts"]["1"]
    kept = len(cut["outcomes"][cut["outcome"][0][0]]["kept"])
    assert count().startswith(f"{kept} cluster")
    assert "--gamma 0.5 --beta 0.00174533" in count()
    page.click("form.cut button")
    assert count() == "2 clusters kept, the cut of the run"
    assert not said
    page.close()


def test_on_paper_all_numbers_are_unfolded(browser, written):
    page, _ = _opened(browser, written)
    table = "figure details table"
    assert not page.is_visible(table)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.is_visible(table)
    assert not page.is_visible("nav")
    page.close()
