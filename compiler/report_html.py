"""A report as one HTML page: no scripts, nothing from the network, names from the model only ever as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment

from .report_chart import Chart

if TYPE_CHECKING:
    from .report import Report

LONGEST = 200  # characters of a name that are shown

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>tamago report</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top;
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, monospace; }
svg { width: 100%; font-size: 12px; fill: currentColor; }
svg line { stroke: #8886; }
.size { color: #3b82f6; } .time { color: #f97316; }
polyline { fill: none; stroke: currentColor; stroke-width: 2; }
circle { fill: currentColor; }
</style></head><body>
<h1>tamago: {{ report.verdict }}</h1>
<p>{{ report.environment }}; {{ "%.1f"|format(report.seconds) }} s; search: {{ report.stop }}</p>
{% for note in report.notes %}<p>Note: {{ note|short }}</p>{% endfor %}
<table><tr><th></th><th class="n">original</th><th class="n">tamago</th></tr>
{% for what, before, after in report.rows() %}
<tr><td>{{ what|short }}</td><td class="n">{{ before }}</td><td class="n">{{ after }}</td></tr>{% endfor %}</table>
{% if chart %}<h2>What each bound buys</h2>
<svg viewBox="0 0 {{ chart.width }} {{ chart.height }}" role="img" aria-label="size and time by measured rise">
{% for y, label in chart.lines %}<line x1="{{ chart.left }}" x2="{{ chart.right }}" y1="{{ y }}" y2="{{ y }}"/>
<text x="{{ chart.left - 6 }}" y="{{ y + 4 }}" text-anchor="end">{{ label }}</text>{% endfor %}
{% for x, label in chart.ticks %}
<text x="{{ x }}" y="{{ chart.height - 22 }}" text-anchor="middle">{{ label }}</text>{% endfor %}
<text x="{{ chart.right }}" y="{{ chart.height - 4 }}" text-anchor="end">rise on samples that chose nothing</text>
{% for name, dots in chart.series %}
<polyline class="{{ name }}" points="{% for x, y, _ in dots %}{{ x }},{{ y }} {% endfor %}"/>
{% for x, y, told in dots %}
<circle class="{{ name }}" cx="{{ x }}" cy="{{ y }}" r="4"><title>{{ told }}</title></circle>{% endfor %}{% endfor %}
</svg>
<p>Parts of the original: {% for name, _ in chart.series %}<b class="{{ name }}">●</b> {{ name }} {% endfor %}</p>
<table><tr><th>bound</th><th class="n">measured rise</th><th class="n">at most (95 %)</th><th class="n">size</th>
<th class="n">time</th></tr>{% for p in report.front %}
<tr><td>{{ p.bound|short }}</td><td class="n">{{ "%+.4g"|format(p.rise) }}</td>
<td class="n">{{ "%.4g"|format(p.upper) }}</td>
<td class="n">{{ "%.3f"|format(p.size) }}</td>
<td class="n">{% if p.time is not none %}{{ "%.3f"|format(p.time) }}{% endif %}</td></tr>{% endfor %}</table>{% endif %}
{% if report.approximation %}<h2>Under the budget</h2>
{% for line in report.approximation.lines() + report.approximation.notes %}<p>{{ line|short }}</p>{% endfor %}
<table><tr><th>place</th><th>form</th><th class="n">predicted rise</th><th class="n">bytes</th>
<th class="n">ms</th></tr>
{% for a in report.approximation.choice %}<tr><td><code>{{ a.place|short }}</code></td>
<td>{{ a.method }}, {{ a.setting }}</td><td class="n">{{ "%.2e"|format(a.rise) }}</td>
<td class="n">{{ "{:,}".format(a.stored) }}</td>
<td class="n">{% if report.approximation.workloads %}{{ "%.4f"|format(a.cost) }}{% endif %}</td></tr>
{% else %}<tr><td>none</td></tr>{% endfor %}</table>{% endif %}
<h2>Rules in the result</h2>
<table><tr><th>rule</th><th class="n">nodes</th><th class="n">predicted saving, ms</th></tr>
{% for name, rule in found.rules.items() %}<tr><td><code>{{ name }}</code></td><td class="n">{{ rule.nodes }}</td>
<td class="n">{{ "%.4f"|format(rule.predicted_ms) }}</td></tr>{% else %}<tr><td>none</td></tr>{% endfor %}</table>
<h2>Operators</h2>
<table><tr><th>operator</th><th class="n">original</th><th class="n">tamago</th></tr>
{% for name in operators %}<tr><td><code>{{ name|short }}</code></td>
<td class="n">{{ report.before.operators.get(name, 0) }}</td>
<td class="n">{{ report.after.operators.get(name, 0) }}</td></tr>{% endfor %}</table>
<h2>Outputs checked</h2>
<table><tr><th>output</th><th class="n">largest relative error</th></tr>
{% for name, error in report.errors.items() %}<tr><td><code>{{ name|short }}</code></td>
<td class="n">{{ "%.2e"|format(error) }}</td></tr>{% else %}<tr><td>none</td></tr>{% endfor %}</table>
<h2>Refused</h2>
<table><tr><th>rule</th><th>reason</th><th class="n">places</th></tr>
{% for row in found.refused %}<tr><td><code>{{ row.rule }}</code></td><td>{{ row.reason|short }}</td>
<td class="n">{{ row.places }}</td></tr>{% endfor %}</table>
{% if report.command %}<p>Again: <code>{{ report.command }}</code></p>{% endif %}
</body></html>
"""


def to_html(report: Report) -> str:
    """The page; every value is escaped."""
    environment = Environment(autoescape=True)
    environment.filters["short"] = lambda text: str(text)[:LONGEST]
    operators = sorted({*report.before.operators, *report.after.operators})
    chart = Chart.of(report.front) if report.front else None
    found = report.to_dict()
    return environment.from_string(PAGE).render(report=report, found=found, operators=operators, chart=chart)
