"""The parts a report page is made of. All text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--page:#f5f6f8;--card:#fff;--line:#dfe3e8;
--good:#0f8a5f;--fair:#a86a00;--bad:#c0392b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--page:#12161c;--card:#1b212a;--line:#303946;
--good:#34d399;--fair:#fbbf24;--bad:#f87171}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,"Segoe UI",Roboto,Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 6px;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:40px 0 4px}
p{margin:6px 0;max-width:75ch}.soft,figcaption{color:var(--soft);font-size:.9rem}
.lead{font-size:1.15rem;font-weight:600;margin:14px 0 20px}
.row{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));margin-top:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;min-width:0}
.card h3{margin:0 0 6px;font-size:1rem}.card strong{display:block;margin-bottom:8px}.card p{font-size:.93rem}
.grade{display:inline-block;border:1px solid currentColor;border-radius:99px;padding:1px 10px;font-size:.8rem;
font-weight:600;float:right}
.skill,.yes{color:var(--good)}.trace{color:var(--fair)}.none,.no{color:var(--bad)}
svg{display:block;width:100%;height:auto}
.wide{overflow-x:auto;margin-top:12px;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line)}
td{white-space:nowrap}th{color:var(--soft);font-weight:600;vertical-align:bottom;min-width:5.5em}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}
details{margin-top:12px}summary{cursor:pointer;color:var(--soft)}
"""


def page_of(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def section(title: str, text: str, drawn: Iterable[str]) -> str:
    shown = "".join(map(figure, drawn))
    return f'<h2>{escape(title)}</h2><p class="soft">{escape(text)}</p><div class="row">{shown}</div>'


def figure(svg: str) -> str:
    return f'<div class="card">{svg}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """`rows` hold text that is escaped here, but for what `_judged` made."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


class _Html(str):
    """Text that is HTML already."""


def _cell(text: str) -> str:
    return text if isinstance(text, _Html) else escape(text)


def judged(text: str, good: bool) -> _Html:
    return _Html(f'<span class="{"yes" if good else "no"}">{escape(text)}</span>')


def more(title: str, parts: Iterable[str]) -> str:
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"
