"""The trainings of a project as a table with buttons (``assets/app/run_table.js``).

The value is what :func:`app.train.view.run_rows` returns. Events: ``compare``, ``load`` and
``use``, each with ``{"run": id}``; ``compare`` also with ``on``.
"""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML

TEMPLATE = """<div class='run-table'>{{#if value.rows}}<div class='scroll'><table>
<thead><tr><th scope='col'>Overlay</th><th scope='col'>Run</th><th scope='col'>State</th>
<th scope='col'>Settings</th><th scope='col'>Diffusion</th><th scope='col'>Held-out</th>
<th scope='col'>Consistency</th>
<th scope='col'>Classifier</th><th scope='col'>Its best set</th>
<th scope='col'><span class='sr-only'>Actions</span></th></tr></thead>
<tbody>{{#each value.rows}}<tr data-run='{{this.id}}'>
<td><input type='checkbox' data-act='compare' aria-label='Overlay the curves of {{this.label}}'
 {{#if this.compared}}checked{{/if}} {{#if this.main}}disabled{{/if}}></td>
<td>{{this.label}}</td><td>{{this.state}}</td><td>{{this.settings}}</td>
<td class='number'>{{this.diffusion}}</td><td class='number'>{{this.held_out}}</td>
<td class='number'>{{this.consistency}}</td>
<td class='number'>{{this.accuracy}}</td><td class='number'>{{this.score}}</td>
<td>{{#if this.settings}}<button type='button' data-act='load'>Load settings</button>{{/if}}
{{#if this.used}}<span class='used'>used for synthesis</span>{{else}}{{#if this.finished}}<button
 type='button' data-act='use'>Use for synthesis</button>{{/if}}{{/if}}</td>
</tr>{{/each}}</tbody></table></div>
{{else}}<p class='empty'>No training yet.</p>{{/if}}</div>"""


def run_table(elem_id: str) -> HTML:
    """The component."""
    return HTML(
        {"rows": []},
        html_template=TEMPLATE,
        elem_id=elem_id,
        js_on_load=script("run_table.js"),
    )
