"""The page of a plan: whole, self-contained, accessible, safe against what is in names, and as exact as the plan."""

from __future__ import annotations

import base64
import itertools
import json
import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from pages import browse, parsed
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.pharmacology import FORMULARY
from planners import plan
from planners.report.html import Story, plan_page, tell
from planners.report.html.charts import span
from planners.report.html.drawing import _line
from planners.report.html.markup import embedded, escape, page, tag
from planners.report.html.pages import MOST_K, bootstrap_columns, script_data
from planners.report.html.ranking import lambda_frame
from planners.scoring import interval, paired_bootstrap, score

WORLD, RISK = AnalyticWorld(), AnalyticRisk()
MENU = FORMULARY.menu(["placebo", "dofetilide", "metoprolol", "atropine", "verapamil"])
EVIL = '"><script>document.title="pwned"</script><img src=x onerror="document.title=\'pwned\'">&amp;</title>'


def start(**who):
    return WORLD.initial(1, np.random.default_rng(3), **{"hr_bpm": 75.0, "qtcf_ms": 425.0, **who})


@lru_cache(maxsize=8)
def story(record: str = "somebody", k: int = 6, qtcf_ms: float = 425.0, steps: int = 3, noise: float = 0.005) -> Story:
    return tell(AnalyticWorld(noise_mv=noise), start(qtcf_ms=qtcf_ms), MENU, RISK, k=k, record=record, steps=steps,
                by_name=True, facts={"command": "ecg-gym report somebody"})  # fmt: skip


# --- markup ---------------------------------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not_escaped_twice() -> None:
    assert tag("p", "<b>", tag("b", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<b>&amp;</b></p>'
    assert escape(None) == ""
    assert tag("input", type="range") == '<input type="range">'
    with pytest.raises(ValueError, match="class"):
        tag("p", onclick="x()")


def test_data_cannot_break_out_of_their_script_element() -> None:
    text = embedded({"name": "</script><!--&", "nan": float("nan")})
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {"name": "</script><!--&", "nan": None}


def test_a_path_ends_where_its_trace_ends() -> None:
    trace = np.array([0.0, 1.05, -1.1, 0.5, 10.05])
    d = _line(trace, 10.05, 100.0, 0.25)
    x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)l", d).groups())
    moves = [float(n) for n in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", d.partition("l")[2])]
    xs, ys = x + np.cumsum(moves[::2]), y + np.cumsum(moves[1::2])
    np.testing.assert_allclose(xs, 10.05 + 0.25 * np.arange(1, 5), atol=0.011)
    np.testing.assert_allclose(ys, 100 - 10 * trace[1:], atol=0.011)


# --- the whole page -------------------------------------------------------------------------------------------------


def test_the_page_holds_every_part_and_says_research_only() -> None:
    document = parsed(plan_page(story()))
    assert document.all("title")[0].text == "Plan for somebody"
    headings = [h.text for h in document.all("h2")]
    assert headings == ["The strip before", "Ranking", "What each may lead to", "And then? Branches over the hours",
                        "Not allowed, and why", "To repeat this"]  # fmt: skip
    assert "Research only, never bedside." in document.text
    rows = document.id("ranking").all("tbody")[0].all("tr")
    ranked = [c.treatment for c in story().plan.candidates]
    assert [row.all("th")[0].text for row in rows] == [str(t) for t in ranked]
    assert len(document.all("li", class_="card")) == len(ranked)
    facts = document.id("repeat").text
    for word in ("ecg-gym report somebody", "analytic", "analytic-risk", *map(str, story().plan.seeds)):
        assert word in facts


def test_nothing_is_fetched_and_only_its_own_script_may_run() -> None:
    text = plan_page(story())
    document = parsed(text)
    assert not [e for e in document.all() if e.tag in ("link", "img", "iframe", "object", "base")]
    for element in document.all():
        for name, value in element.attributes.items():
            assert name not in ("src", "style", "action")
            assert not name.startswith("on")
            assert name != "href" or value.startswith("#")
    policy = next(m for m in document.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy.attributes["content"]
    assert "unsafe" not in policy.attributes["content"]
    assert len(text.encode()) < 5e6


def test_it_can_be_read_without_eyes_and_without_a_mouse() -> None:
    document = parsed(plan_page(story()))
    assert document.all("html")[0].attributes["lang"] == "en"
    levels = [int(e.tag[1]) for e in document.all() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for picture in document.all("svg"):
        hidden = picture.attributes.get("aria-hidden") == "true"
        named = any(not isinstance(c, str) and c.tag == "title" and c.text for c in picture.children)
        assert hidden or (named and picture.attributes["role"] == "img")
    labelled = {label.attributes.get("for") for label in document.all("label")}
    for control in document.all("input"):
        assert control.attributes["id"] in labelled or control.attributes.get("aria-label")
    ids = [e.attributes["id"] for e in document.all() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert {a.attributes["href"][1:] for a in document.all("a")} <= set(ids)
    for heading in document.all("th"):
        assert heading.attributes.get("scope") in ("row", "col")


def test_a_record_with_a_hostile_name_is_text() -> None:
    text = plan_page(replace(story(), plan=replace(story().plan, record=EVIL), facts={"command": EVIL}), notes=[EVIL])
    document = parsed(text)
    assert document.all("title")[0].text == f"Plan for {EVIL}"
    assert document.id("repeat").all("code")[0].text == EVIL
    assert not document.all("img")
    assert len(document.all("script")) == 2


def test_masked_treatments_come_with_sentence_and_citation() -> None:
    """Dofetilide is not started above a QTc of 440 ms: its label says so, and so does the page."""
    long = story(k=2, qtcf_ms=470.0, steps=1)
    table = parsed(plan_page(long)).id("masked")
    row = next(r for r in table.all("tr") if [c.text for c in r.all("code")] == ["dofetilide-qt"])
    assert "dofetilide 0.5 mg PO" in row.all("th")[0].text
    assert "QTc exceeds 440 ms" in row.text
    assert "Tikosyn" in row.text
    ranked = parsed(plan_page(long)).id("ranking").text
    assert "dofetilide" not in ranked
    allowed = parsed(plan_page(story()))
    assert "dofetilide" in allowed.id("ranking").text
    assert not [c for c in allowed.id("masked").all("code") if c.text == "dofetilide-qt"]


def test_branches_are_lines_over_the_hours_and_a_table_of_second_treatments() -> None:
    value = story()
    part = parsed(plan_page(value)).id("what-if")
    keys = [li.text.strip() for li in part.all("ul", class_="legend")[0].all("li")]
    assert keys == [str(b.course[0]) for b in value.lines]
    assert keys[-1] == str(WATCH)
    assert len(part.all("svg", class_="chart")) == 5
    rows = part.all("tbody")[0].all("tr")
    assert {r.all("th")[0].text for r in rows} == {str(c[0]) for c in (*value.pairs, *value.barred)}
    means = [branch.mean for course, branch in value.pairs.items() if course[0] == WATCH]
    bold = next(r for r in rows if r.all("th")[0].text == str(WATCH)).all("td", class_="least")
    assert f"{min(means):.3f}" in bold[0].text
    assert not parsed(plan_page(story(steps=1))).id("what-if").all("table")


def test_a_second_treatment_that_the_first_one_forbids_is_not_followed_and_it_says_why() -> None:
    value = story()
    by_drug = {tuple(t.doses[0].drug for t in course): result for course, result in value.barred.items()}
    result = by_drug["verapamil", "metoprolol"]
    assert result.futures == value.plan.k
    assert "can stop the heart" in result.reasons[0]
    assert "dofetilide" in {second for first, second in by_drug if first == "verapamil"}
    assert not set(value.pairs) & set(value.barred)
    part = parsed(plan_page(value)).id("what-if")
    assert len(part.all("td", class_="barred")) == len(value.barred)
    sentence = f"metoprolol 100 mg PO: {result.reasons[0]} (6 of 6 futures)"
    assert any(sentence in li.text for li in part.all("li"))


def test_futures_that_are_no_ecg_are_drawn_in_another_colour_and_break_nothing() -> None:
    broken = tell(AnalyticWorld(broken=("atropine",)), start(), MENU, RISK, k=3, steps=1, by_name=True)
    document = parsed(plan_page(broken))
    card = next(c for c in document.all("li", class_="card") if "atropine" in c.all("h3")[0].text)
    assert len(card.all("path", class_="raw")) == 3 * 3
    assert "3 of 3 futures not finite" in card.text
    words = [*document.id("content").text.split(), *(v for e in document.all() for v in e.attributes.values())]
    assert not [word for word in words if re.search(r"\bnan\b", word, re.IGNORECASE)]


def test_too_many_futures_are_refused_in_a_sentence() -> None:
    many = replace(story().plan, k=MOST_K + 1)
    with pytest.raises(ValueError, match=f"{MOST_K + 1}; expected at most {MOST_K}"):
        plan_page(replace(story(), plan=many))


def test_the_script_gets_the_columns_of_the_very_bootstrap() -> None:
    value = story().plan
    risks = np.array([c.risks for c in value.candidates])
    for risk_aversion in (0.0, 0.6, 3.0):
        samples = score(risks[:, bootstrap_columns(value)], risk_aversion)
        np.testing.assert_array_equal(samples, paired_bootstrap(risks, risk_aversion, value.seed))
    data = script_data(value)
    packed = np.frombuffer(base64.b64decode(data["columns"]), np.uint8)
    np.testing.assert_array_equal(packed.reshape(-1, value.k), bootstrap_columns(value))
    np.testing.assert_allclose(interval(samples[0]), np.quantile(samples[0], [0.025, 0.975]))


# --- in a real browser ----------------------------------------------------------------------------------------------


def table(text: str) -> list[tuple[str, ...]]:
    """Place, treatment, S, its interval, difference, its interval; row by row."""
    rows = parsed(text).id("ranking").all("tbody")[0].all("tr")
    names = ("s", "s-ci", "d", "d-ci")
    return [
        (r.all(class_="place")[0].text, r.all("th")[0].text, *(r.all(class_=n)[0].text for n in names)) for r in rows
    ]


def expected(value) -> list[tuple[str, ...]]:
    best, tied = value.best, value.tied
    rows = []
    for at, c in enumerate(value.candidates, start=1):
        place = f"{1 if c.tie == best.tie else at}{'=' if c.tie == best.tie and len(tied) > 1 else ''}"
        ends = [f"{a:.3f} to {b:.3f}" for a, b in (c.score_ci, c.difference_ci)]
        rest = ("best", "") if c is best else (f"{c.difference:+.3f}", ends[1])
        rows.append((place, str(c.treatment), f"{c.score:.3f}", ends[0], *rest))
    return rows


def test_a_range_has_air_and_a_least_width() -> None:
    assert span([], 0.5) == span([np.array([np.nan])], 0.5) == (0.0, 0.5)
    low, high = span([np.array([10.0, 20.0]), np.array([np.nan, 30.0])], 0.5)
    assert low < 10.0
    assert high > 30.0
    low, high = span([np.array([10.0])], 0.5)
    assert (low + high) / 2 == pytest.approx(10.0)
    assert high - low == pytest.approx(0.5)


def test_lines_over_lambda_span_the_chart(tmp_path) -> None:
    value = story()
    frame = lambda_frame(value.plan)
    chart = next(figure for figure in parsed(plan_page(value)).all("svg") if "against λ" in figure.text)
    starts = {
        tuple(map(float, re.match(r"M([\d.]+)[ ,]([\d.]+)", line.attributes["d"]).groups()))
        for line in chart.all("path") if line.attributes.get("class", "").startswith("line")
    }  # fmt: skip
    assert {x for x, _ in starts} == {frame.left}
    means = sorted(round(frame.at(0, c.mean)[1], 1) for c in value.plan.candidates)
    assert sorted(y for _, y in starts) == pytest.approx(sorted({*means}), abs=0.11)


@pytest.mark.slow
@pytest.mark.parametrize("risk_aversion", [0.0, 0.6, 4.5])
def test_the_browser_ranks_as_python_does(tmp_path, risk_aversion) -> None:
    value = story(noise=0.03)
    path = tmp_path / "page.html"
    path.write_text(plan_page(value))
    text, console = browse(path, f"#lambda={risk_aversion}")
    assert not console
    again = plan(AnalyticWorld(noise_mv=0.03), start(), MENU, RISK, k=6, risk_aversion=risk_aversion)
    assert table(text) == expected(again)
    document = parsed(text)
    assert document.all("body")[0].attributes["data-lambda"] == f"{risk_aversion:g}"
    cards = [c.all("h3")[0].text.partition(". ")[2] for c in document.all("li", class_="card")]
    assert cards == [str(c.treatment) for c in again.candidates]
    assert document.id("said").text.startswith(f"For lambda {risk_aversion:g}: {again.best.treatment}")


@pytest.mark.slow
def test_rows_change_places_with_lambda(tmp_path) -> None:
    """Two candidates by hand: S = 0.5 + 0.1 lambda and S = 0.4 + 0.2 lambda cross at lambda = 1."""
    value = story()
    safe, wild = (c for c in value.plan.candidates[:2])
    pair = (replace(safe, mean=0.5, sd=0.1, risks=(0.5,) * 6), replace(wild, mean=0.4, sd=0.2, risks=(0.4,) * 6))
    names = [str(c.treatment) for c in pair]
    path = tmp_path / "page.html"
    path.write_text(plan_page(replace(value, plan=replace(value.plan, candidates=pair, preferences=()))))
    order = {at: [row[1] for row in table(browse(path, f"#lambda={at}")[0])] for at in (0.9, 1.1)}
    assert order == {0.9: names[::-1], 1.1: names}


@pytest.mark.slow
def test_a_wrong_lambda_is_a_sentence_and_changes_nothing(tmp_path) -> None:
    path = tmp_path / "page.html"
    path.write_text(plan_page(story()))
    text, console = browse(path, "#lambda=lots")
    assert not console
    assert 'Lambda is "lots"; expected a number from 0 to 100' in parsed(text).id("said").text
    assert [row[1] for row in table(text)] == [str(c.treatment) for c in story().plan.candidates]


@pytest.mark.slow
def test_what_is_injected_does_not_run(tmp_path) -> None:
    path = tmp_path / "page.html"
    path.write_text(plan_page(replace(story(), plan=replace(story().plan, record=EVIL)), notes=[EVIL]))
    text, console = browse(path)
    assert not console
    assert parsed(text).all("title")[0].text == f"Plan for {EVIL}"
    hole = page("title", tag("p", "x")).replace("<p>x</p>", '<p>x</p><script>document.title="pwned"</script>')
    path.write_text(hole)
    text, console = browse(path)
    assert parsed(text).all("title")[0].text == "title", "the policy lets no other script run"
    assert any("Content Security Policy" in line for line in console), (
        "and the console, which is checked above, says so"
    )


@pytest.mark.slow
def test_it_draws_in_light_and_in_dark(tmp_path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "page.html"
    path.write_text(plan_page(story(k=3)))
    means = {}
    for name, words in (("light", ()), ("dark", ("--force-dark-mode", "--blink-settings=preferredColorScheme=0"))):
        picture = tmp_path / f"{name}.png"
        browse(path, "", "--window-size=1200,900", f"--screenshot={picture}", *words)
        means[name] = float(imread(picture)[..., :3].mean())
    assert means["light"] > 0.75
    assert means["dark"] < 0.35
