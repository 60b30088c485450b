"""A report is one page that needs nothing else, says what the numbers say, and runs nothing that data say."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from helpers import law_data as draws_of
from reports import EVIL, KINDS, assessed, law_data
from rsgm.cli import main
from rsgm.data import DigitsData
from rsgm.distributions import RandomVonMisesFisherMixture
from rsgm.evaluation import audit, audit_evaluation
from rsgm.evaluation.curves import read_curves
from rsgm.manifolds import Euclidean, Product, SpecialOrthogonal, Sphere, Torus, from_lat_lon
from rsgm.report import Markup, Number, evaluation_page, page, table, write_report
from rsgm.report.views import views_of

VOID = {"meta", "img", "input", "br", "circle", "line", "ellipse"}


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.data[self.elements[-1][1].get("id", self.open[-1])] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def found(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp(kind)
    return assessed(KINDS[kind](folder), folder)


@pytest.fixture(scope="module")
def text(found):
    return evaluation_page(found)


def test_a_page_stands_alone(text):
    """Elements are closed; nothing is loaded, for nothing is named that could be, and the policy allows the script."""
    read = Page(text)
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag not in ("link", "iframe", "object", "form", "base")
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    (policy,) = (a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(read.data[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://", read.data["script"] + read.data["style"])
    assert len(text.encode()) < 3_000_000


def test_numbers_are_those_of_the_metrics(found, text):
    words = Page(text).text
    nll = found.metrics["nll"]
    assert f"{nll['mean']:.4f} ± {nll['standard_error']:.4f}".replace("-", "−") in words
    if found.metrics["normalisation"] is not None:
        assert f"{found.metrics['normalisation']:.4f} ± {found.metrics['normalisation_error']:.4f}" in words
    assert f"tested on {len(found.data.test.points):,} others" in words
    assert found.metrics["model"] in words
    for claim in audit_evaluation(found.model, found.data, found.found).findings["claims"]:
        assert " ".join(claim["text"].split()) in words
    for heading in ("What it says", "Numbers", "Figures", "Single points", "Where it comes from"):
        assert heading in words


def test_points_on_the_page_are_the_data(kind, found, text):
    store = json.loads(Page(text).data["points"])
    test, samples, train = store["sets"]
    assert [len(part["rows"]) for part in store["sets"]] == [
        len(found.data.test.points),
        200,
        len(found.data.train.points),
    ]
    columns = len(found.data.header)
    units = found.data.to_units(found.data.test.points)
    np.testing.assert_allclose([[float(x) for x in row[:columns]] for row in test["rows"]], units, rtol=2e-5, atol=1e-6)
    log_density = found.found.log_density.numpy()
    np.testing.assert_allclose([float(row[-2]) for row in test["rows"]], log_density, atol=1e-4)
    assert test["names"] == found.data.test_names()
    assert train["rows"][0][-1] == "not computed"
    assert samples["rows"][0][-1].endswith(" %")
    places = [np.array(part) for part in test["places"]]
    x = found.data.test.points
    if kind == "globe":
        assert np.abs(from_lat_lon(places[0]).numpy() - x.numpy()).max() < 1e-4
        assert store["views"][0]["density"]["columns"] == 2 * store["views"][0]["density"]["rows"] == 360
        coast = np.frombuffer(base64.b64decode(store["views"][0]["coast"]), "<i2").reshape(-1, 2)
        assert coast.shape == (5251, 2)
        assert (coast[:, 0] == 32767).sum() == 131
    elif kind == "given":
        assert [len(row) for row in test["rows"]] == [5] * len(x)
    elif kind == "angles":
        np.testing.assert_allclose(places[0], units, atol=0.011)
        assert "density" in store["views"][0]
    elif kind == "ball":
        length = np.linalg.norm(places[0], axis=1)
        trace = x.numpy().trace(axis1=1, axis2=2)
        np.testing.assert_allclose(np.cos(length), (trace - 1) / 2, atol=1e-3)
    elif kind == "pairs":
        assert [view["pair"] for view in store["views"]] == [[0, 1], [2, 3], [3, 4]]
        assert {view["part"] for view in store["views"]} == {0}
    else:
        assert [view["kind"] for view in store["views"]] == ["globe", "angles", "ball"]
        assert [view["part"] for view in store["views"]] == [0, 1, 2]
        assert not any("density" in view for view in store["views"])


def test_what_data_say_is_no_markup(kind, found, text):
    """Names of columns and files, in the tables, the settings and the points."""
    if kind not in ("angles", "given"):
        pytest.skip("its names are plain")
    assert EVIL not in text
    assert "<img src=x" not in text
    read = Page(text)
    # one of data, one of ours
    assert [attributes.get("type") for tag, attributes in read.elements if tag == "script"] == [
        "application/json",
        None,
    ]
    assert EVIL in read.text
    assert EVIL in json.loads(read.data["points"])["header"]
    if kind == "angles":
        assert "onerror" in read.text
        return
    # a name of a context, and a value
    worst = read.text.split("Worst explained")[1]
    assert worst.split("line")[0].count(EVIL) == 1
    store = json.loads(read.data["points"])
    for part in store["sets"]:
        assert {row[2] for row in part["rows"]} == {"plain", EVIL}
    given = [cells[0] for cells in found.data.decode_context(found.data.test.context)]
    assert [row[2] for row in store["sets"][0]["rows"]] == given
    assert "density" not in store["views"][0]


def test_worst_and_best_points_have_their_rows(found, text):
    order = found.found.log_density.argsort()
    names, read = found.data.test_names(), Page(text)
    worst, best = (read.text.split(f"{name} explained")[1].split("explained")[0] for name in ("Worst", "Best"))
    for part, rows in ((worst, order[:10]), (best, order.flip(0)[:10])):
        places = [part.index(f"{names[k]} ") for k in rows.tolist()]
        assert places == sorted(places)
        for k in rows.tolist():
            assert f"{float(found.found.log_density[k]):.4f}" in part


def test_nothing_is_computed_again(found, monkeypatch):
    def again(*args, **options):
        raise AssertionError("computed again")

    for name in ("likelihood", "sample", "draw", "log_prob"):
        monkeypatch.setattr(type(found.model), name, again)
    assert evaluation_page(found)


def test_curves_are_those_of_the_run(tmp_path):
    """Of all its event files; of a step that was repeated after a resumption, the last value; none without a run."""
    assert read_curves(tmp_path) == {}
    for first, shift in ((0, 0.0), (40, 100.0)):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{first}") as writer:
            for step in range(first, first + 60, 20):
                writer.add_scalar("train/loss", step + shift, step, walltime=1e9 + first)
            writer.add_scalar("other", 1.0, first)
    found = read_curves(tmp_path)
    assert list(found) == ["train/loss"]
    steps, values = found["train/loss"]
    assert steps.tolist() == [0, 20, 40, 60, 80]
    assert values.tolist() == [0, 20, 140, 160, 180]


# ---- what has no view


@pytest.mark.parametrize("manifold", [Euclidean(2), Torus(1), Sphere(3)], ids=str)
def test_without_views_there_is_no_script(manifold, tmp_path):
    found = assessed(law_data(manifold), tmp_path)
    text = evaluation_page(found)
    assert "<script" not in text
    assert "script-src" not in text
    assert "Worst explained" in Page(text).text


def test_a_product_has_the_views_of_its_factors():
    product = Product([Euclidean(2), Sphere(2), Torus(1), SpecialOrthogonal()])
    x = product.projx(torch.randn(5, *product.shape, dtype=torch.float64))
    assert [view.kind for view in views_of(product, [x, x[:2]], False, ())] == ["globe", "ball"]
    (view,) = views_of(Sphere(2), [torch.eye(3)], False, ())
    assert "coast" not in view.options[0]


def test_pictures_are_shown_as_pictures(tmp_path):
    found = assessed(DigitsData(), tmp_path)
    read = Page(evaluation_page(found))
    about = [attributes["alt"] for tag, attributes in read.elements if tag == "img"]
    assert [words for words in about if "explained test pictures" in words] == [
        "Worst explained test pictures, the first is the extreme",
        "Best explained test pictures, the first is the extreme",
    ]


# ---- tables and files


def test_cells_are_escaped_but_for_markup():
    text = table(["<b>", Number("n")], [[Markup("<i>x</i>"), Number("-1 & 2")], ["'\"", ""]])
    assert "<th>&lt;b&gt;</th>" in text
    assert "<td><i>x</i></td>" in text
    assert '<td class="number">-1 &amp; 2</td>' in text
    assert "<td>&#x27;&quot;</td>" in text


def test_data_do_not_end_their_element():
    text = page("</title><b>", "", {"x": "</script><script>alert(1)</script><!--"})
    assert text.count("<script") == text.count("</script") == 2
    assert "<b>" not in text
    assert json.loads(Page(text).data["points"])["x"] == "</script><script>alert(1)</script><!--"
    with pytest.raises(ValueError, match="not JSON compliant"):
        page("", "", {"x": float("nan")})


def test_no_report_is_overwritten(tmp_path):
    paths = [write_report(tmp_path, f"page {k}") for k in range(3)]
    assert [path.name for path in paths] == ["report.html", "report_1.html", "report_2.html"]
    assert [path.read_text() for path in paths] == ["page 0", "page 1", "page 2"]


def test_the_command_writes_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = KINDS["globe"](tmp_path)
    found = assessed(data, tmp_path)
    path = tmp_path / "model.ckpt"
    (tmp_path / "report.html").write_text("of before")
    assert main(["evaluate", f"--ckpt={path}", "--report"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report in {tmp_path / 'report_1.html'}"
    words = Page((tmp_path / "report_1.html").read_text()).text
    assert f"{found.metrics['nll']['mean']:.4f}".replace("-", "−") in words
    assert (tmp_path / "report.html").read_text() == "of before"
    assert (tmp_path / "metrics.json").exists()
    assert main(["evaluate", f"--ckpt={path}", "--report", "--samples=3", "--out=x.csv"]) == 1
    assert "--report is of an evaluation" in capsys.readouterr().err
    assert not Path("x.csv").exists()


def test_an_evaluation_is_audited_as_its_model(tmp_path):
    """The same numbers and sentences, where both draw as many samples."""
    data = draws_of(RandomVonMisesFisherMixture(), test_size=60)
    found = assessed(data, tmp_path)
    by_evaluation = audit_evaluation(found.model, data, found.found).findings
    by_audit = audit(found.model, data=data, samples=200).findings
    assert by_evaluation["nll"] == pytest.approx(by_audit["nll"])
    for name in ("kernel_density_nll", "excess_over_kernel_density", "sample_nll", "calibration", "integral"):
        assert by_evaluation[name] == pytest.approx(by_audit[name]), name
    assert by_evaluation["claims"] == by_audit["claims"]
    assert by_evaluation.keys() == by_audit.keys()
