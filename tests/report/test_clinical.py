"""What pages that radiologists read share."""

from segjax.report import clinical
from segjax.report.patient_facts import Table
from segjax.report.patient_texts import language_of


def test_nothing_is_warned_of_where_nothing_casts_doubt():
    assert clinical.warnings((), language_of("en")) == ""


def test_warnings_and_cells_are_text_never_html():
    assert "<li>&lt;b&gt;</li>" in clinical.warnings(("<b>",), language_of("fr"))
    assert "<th>&lt;b&gt;</th>" in clinical.table(Table(("<b>",), (("1",),)))


def test_a_table_takes_rows_that_are_made_elsewhere():
    html = clinical.table(Table(("a",), (("1",),)), [clinical.row(("2",), ' id="x"')])
    assert html.endswith('<tbody><tr id="x"><td>2</td></tr></tbody></table></div>')


def test_the_banner_says_what_the_page_is_not():
    assert "Not for diagnosis." in clinical.banner(language_of("en"))
