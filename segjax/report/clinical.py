"""What pages that radiologists read share: banner, warnings, tables of text, style."""

from collections.abc import Sequence
from html import escape

from segjax.report.patient_facts import Table
from segjax.report.patient_texts import Language

__all__ = ["STYLE", "banner", "row", "table", "warnings"]


def banner(language: Language) -> str:
    """Say that a page is not for diagnosis."""
    more = escape(language["not_for_diagnosis_more"])
    return f'<p class="banner"><b>{escape(language["not_for_diagnosis"])}</b> {more}</p>'


def warnings(texts: Sequence[str], language: Language) -> str:
    """Return a box of what casts doubt on the figures; nothing where nothing does."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<div class="warnings"><h2>{escape(language["warnings"])}</h2><ul>{items}</ul></div>'


def table(of: Table, rows: Sequence[str] | None = None) -> str:
    """Return a table of text.

    Args:
        of: Its headings and cells.
        rows: HTML of its rows; by default as :func:`row` makes it of the cells.

    Example:
        >>> table(Table(("", ""), (("a", "<"),)))
        '<div class="scroll"><table><tbody><tr><td>a</td><td>&lt;</td></tr></tbody></table></div>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in of.headings)
    head = f"<thead><tr>{head}</tr></thead>" if any(of.headings) else ""
    body = "".join(map(row, of.rows) if rows is None else rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def row(cells: Sequence[str], more: str = "") -> str:
    """Return a row of text; ``more`` are attributes in HTML, after a space."""
    return f"<tr{more}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


STYLE = """
.banner { border: 1px solid var(--line); border-left: 4px solid #D55E00; border-radius: 8px;
  background: var(--card); padding: 10px 14px; margin: 0 0 20px; }
.warnings { border: 1px solid var(--line); border-left: 4px solid #E69F00; border-radius: 8px;
  background: var(--card); padding: 10px 14px; margin: 0 0 20px; }
.warnings h2 { margin: 0 0 4px; font-size: 15px; }
.warnings ul { margin: 0; padding-left: 20px; }
.tiles b { white-space: nowrap; }
h1, figcaption, tbody:first-child td:nth-child(2) { overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; color: var(--faint); font-size: 13px;
  margin: 0 0 12px; }
.legend i { display: inline-block; width: 18px; height: 12px; margin-right: 6px;
  vertical-align: middle; }
figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  margin: 0 0 16px; padding: 12px; scroll-margin-top: 8px; }
figure img { padding: 0; border: 0; border-radius: 4px; margin: 0; background: #000; }
.pictures { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
.details { display: flex; flex-wrap: wrap; gap: 12px; flex: 1 1 200px; align-items: flex-start; }
figcaption { margin-top: 8px; font-size: 14px; }
a { color: inherit; text-decoration-color: var(--faint); text-underline-offset: 2px; }
tr:target td { background: color-mix(in srgb, #E69F00 22%, transparent); }
figure:target { border-color: #E69F00; }
td { font-variant-numeric: tabular-nums; }
td:nth-child(n+2) { white-space: nowrap; }
tbody:first-child td:nth-child(2) { white-space: normal; }
tbody:first-child td:first-child { white-space: nowrap; }
@media (max-width: 600px) { th, td { padding: 6px 8px; } figure { padding: 8px; } }
@page { size: A4; margin: 14mm 14mm 16mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --faint: #444; --line: #bbb; --card: #fff;
    --page: #fff; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 16pt; margin-bottom: 10px; }
  h2 { margin: 18px 0 8px; font-size: 12pt; }
  h2, h3 { break-after: avoid; }
  table { font-size: 8.5pt; }
  th, td { padding: 3px 6px; }
  th { white-space: normal; }
  .scroll { overflow: visible; }
  tr, figure, .tiles div, .banner, .warnings { break-inside: avoid; }
  thead { display: table-header-group; }
  .legend { break-after: avoid; }
  .slices { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
  .slices:has(figure:only-child) { display: block; }
  figure { padding: 6px; margin: 0; }
  .pictures, .details { gap: 4px; }
  .pictures > img { max-height: 62mm; width: auto; }
  .details { flex-basis: 25mm; }
  .details img { max-height: 30mm; width: auto; }
  .slices figure:only-child .pictures > img { max-height: 100mm; }
  .slices figure:only-child .details img { max-height: 70mm; }
  figcaption { font-size: 8pt; margin-top: 4px; }
  .tiles b { font-size: 13pt; }
  .tiles { flex-wrap: nowrap; gap: 6px; }
  .tiles div { padding: 6px 8px; }
  img { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  a { text-decoration: none; }
  summary { list-style: none; }
}
"""
"""CSS after that of all pages."""
