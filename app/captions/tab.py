"""The tab of the stage ``captions``: read, write, generate and try the prototypes' texts.

What is open, which page is shown and what is marked lives in one state a browser window; texts
being typed live in the browser (see :mod:`app.captions.editor`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from app.captions import service
from app.captions import view as views
from app.captions.bulk import ExchangePanel, ReplacePanel
from app.captions.editor import caption_editor
from app.captions.grid import caption_grid
from app.ui.assets import script
from app.ui.context import Context
from app.ui.form import StageForm
from app.ui.html import HTML, sent
from app.ui.messages import escaped, in_words
from dpd_core import storage
from dpd_core.captions.edits import history, redo, reset, undo
from dpd_core.captions.log import replay
from dpd_core.config import CaptionsConfig
from dpd_core.errors import CaptionConflict, CaptionError, DPDError, ModelError, StageMissing
from dpd_core.project import Project

KINDS = [
    ("All captions", "all"),
    ("With warnings", "warnings"),
    ("By the captioner", "machine"),
    ("By hand", "human"),
    ("Bulk or imported", "bulk"),
    ("Without a caption", "none"),
]
SCOPES = [("All", "all"), ("The class chosen below", "class"), ("The selected", "selected")]
CLOSED: dict[str, Any] = {"root": "", "page": 0, "selected": [], "open": None, "epoch": "0"}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden"}


class CaptionsTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        self.form = StageForm(
            ctx, "captions", shown=["mode", "template", "captioner"], hidden=["only", "rewrite"]
        )
        self.replace, self.exchange = ReplacePanel(ctx), ExchangePanel(ctx)

    def build(self) -> None:
        """Make the components."""
        self.state = gr.State(CLOSED)
        self.summary = HTML(elem_id="captions-summary", html_template=views.SUMMARY_TEMPLATE)
        with gr.Accordion("Write captions with the captioner", open=False, elem_id="captions-make"):
            self.form.build()
            with gr.Row():
                self.scope = gr.Radio(
                    SCOPES, value="all", label="Which captions", elem_id="captions-scope"
                )
                self.rewrite = gr.Checkbox(
                    label="Also write over captions by people",
                    elem_id="captions-rewrite",
                    info="Otherwise they are kept. Overwritten texts stay in the history.",
                )
            self.run = gr.Button("Write captions", variant="primary", elem_id="captions-run")
        with gr.Row(equal_height=True):
            self.search = gr.Textbox(
                "",
                label="Search",
                placeholder="words, class or file name",
                max_lines=1,
                elem_id="captions-search",
            )
            self.class_name = gr.Dropdown(
                [("All classes", "")], value="", label="Class", elem_id="captions-class"
            )
            self.kind = gr.Dropdown(KINDS, value="all", label="Show", elem_id="captions-kind")
        with gr.Row(elem_id="captions-steps"):
            self.undo = gr.Button(
                "Nothing to undo", size="sm", interactive=False, elem_id="captions-undo"
            )
            self.redo = gr.Button(
                "Nothing to redo", size="sm", interactive=False, elem_id="captions-redo"
            )
            self.select_all = gr.Button("Select all shown", size="sm", elem_id="captions-select")
            self.select_none = gr.Button("Select none", size="sm", elem_id="captions-unselect")
        with gr.Row(elem_id="captions-main"):
            with gr.Column(scale=3, min_width=320, elem_id="captions-list"):
                self.grid = caption_grid("captions-grid")
                with gr.Row(elem_id="captions-pages"):
                    self.previous = gr.Button(
                        "‹ Previous page", size="sm", elem_id="captions-previous"
                    )
                    self.pager = HTML(elem_id="captions-pager", html_template="<p>{{value}}</p>")
                    self.next = gr.Button("Next page ›", size="sm", elem_id="captions-next")
            with gr.Column(scale=2, min_width=340, elem_id="captions-side"):
                self._build_editor()
        self.replace.build()
        self.exchange.build()

    def _build_editor(self) -> None:
        self.editor = caption_editor("captions-editor")
        self.trial = HTML(
            elem_id="captions-trial", html_template=views.TRIAL_TEMPLATE, apply_default_css=False
        )
        self.tokens = HTML(
            elem_id="captions-tokens", html_template=views.TOKENS_TEMPLATE, apply_default_css=False
        )
        with gr.Group(visible=False) as self.open_only:
            self.strategy = gr.Dropdown(
                service.strategy_choices(),
                value="template",
                label="Try captions with",
                info="“Try this caption” samples images of the text in the box and of the text "
                "before, from the same noise.",
                elem_id="captions-strategy",
            )
        self.details = HTML(
            elem_id="captions-details",
            html_template=views.DETAILS_TEMPLATE,
            apply_default_css=False,
            js_on_load=script("caption_details.js"),
        )

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.form.wire()
        view = [self.state, self.search, self.class_name, self.kind, self.scope]
        show = [self.state, *self._shown]
        ctx.on_change(
            "captions",
            self.reset_state,
            inputs=[self.state, self.class_name],
            outputs=[self.state, self.class_name],
        )
        ctx.on_change("captions", self.refresh, inputs=view, outputs=self._shown)
        ctx.on_pulse("captions", self.show_trial, inputs=[self.state], outputs=[self.trial])
        # A text box's "input" leaves out what is pasted; nothing but the person changes this one.
        for trigger in (self.search.change, self.class_name.input, self.kind.input):
            ctx.on(
                trigger, self.filter, inputs=view, outputs=show, trigger_mode="always_last", **QUICK
            )
        ctx.on(self.scope.input, self.run_label, inputs=view, outputs=[self.run], **QUICK)
        ctx.on(self.previous.click, self._turn(-1), inputs=view, outputs=show, **QUICK)
        ctx.on(self.next.click, self._turn(1), inputs=view, outputs=show, **QUICK)
        marked = [
            ctx.on(self.select_all.click, self._select(True), inputs=view, outputs=show, **QUICK),
            ctx.on(self.select_none.click, self._select(False), inputs=view, outputs=show, **QUICK),
            ctx.on(
                self.grid.mark_cards,
                self.mark,
                inputs=view,
                outputs=[self.state, self.run],
                trigger_mode="always_last",
                **QUICK,
            ),
        ]
        for component in (self.grid, self.editor):
            ctx.on(component.open_card, self.open, inputs=view, outputs=show, **QUICK)
        ctx.on(self.editor.close_card, self.close, inputs=view, outputs=show, **QUICK)
        ctx.on(self.editor.save_caption, self.save, inputs=view, outputs=show, **QUICK)
        ctx.on(self.editor.give_back, self.give_back, inputs=view, outputs=show, **QUICK)
        ctx.on(
            self.editor.count_tokens,
            self.count,
            outputs=[self.tokens],
            trigger_mode="always_last",
            **QUICK,
        )
        ctx.on(
            self.editor.try_caption,
            self.try_caption,
            inputs=[self.strategy],
            outputs=[self.trial],
            **QUICK,
        )
        ctx.on(self.details.restore_entry, self.restore, inputs=view, outputs=show, **QUICK)
        ctx.on(self.undo.click, self._step(undo, "Undone"), inputs=view, outputs=show, **QUICK)
        ctx.on(self.redo.click, self._step(redo, "Redone"), inputs=view, outputs=show, **QUICK)
        ctx.on(
            self.run.click,
            self.start,
            inputs=[self.state, self.class_name, self.scope, self.rewrite, *self.form.components],
        )
        self.replace.wire([self.state, self.search, self.class_name, self.kind], marked)
        self.exchange.wire()

    @property
    def _shown(self) -> list[Any]:
        """What :meth:`_view` fills."""
        return [
            self.summary,
            self.grid,
            self.pager,
            self.previous,
            self.next,
            self.undo,
            self.redo,
            self.editor,
            self.details,
            self.open_only,
            self.trial,
            self.run,
        ]

    # What is shown.

    def refresh(self, project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
        """Everything, because something changed on disk."""
        return self._view(project, _of(project, state), *filters, passive=True)

    def reset_state(self, project: Project, state: dict[str, Any], class_name: str) -> list[Any]:
        """Forget page and marks of another project, and offer this one's classes."""
        items = _items(project)
        names = {item.prototype.class_name: item.readable for item in items}
        same = state["root"] == str(project.root)
        if same and state.get("classes") == list(names.items()):
            return [gr.skip(), gr.skip()]
        chosen = class_name if class_name in names else ""
        choices = [("All classes", ""), *((text, name) for name, text in names.items())]
        return [
            {**_of(project, state), "classes": list(names.items())},
            gr.Dropdown(choices=choices, value=chosen),
        ]

    def _view(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        *,
        note: dict[str, Any] | None = None,
        passive: bool = False,
    ) -> list[Any]:
        try:
            items = service.load_items(project)
        except StageMissing as error:
            return self._empty(in_words(error))
        names = {item.prototype.class_name for item in items}
        shown = service.Filter(search, class_name if class_name in names else "", kind).of(items)
        pages = views.pages(len(shown))
        page = min(state["page"], pages - 1)
        where = drafts_key(project)
        thumb, large = (
            _linker(link, project) for link in (self.ctx.images.thumbnail, self.ctx.images.large)
        )
        item = service.find_item(items, state["open"])
        steps = views.step_labels(replay(project))
        return [
            views.summary(items, service.later_stages(project)),
            views.grid(
                shown,
                page,
                state["selected"],
                state["open"],
                thumb,
                where,
                f"{where}/{state['epoch']}",
            ),
            f"{len(shown)} of {len(items)} captions, page {page + 1} of {pages}",
            gr.Button(interactive=page > 0),
            gr.Button(interactive=page + 1 < pages),
            gr.Button(steps[0] or "Nothing to undo", interactive=bool(steps[0])),
            gr.Button(steps[1] or "Nothing to redo", interactive=bool(steps[1])),
            views.editor(
                item, views.neighbours(shown, item), large, where, note=note, passive=passive
            ),
            self._details(project, item, thumb),
            gr.Group(visible=item is not None),
            self.show_trial(project, state),
            self.run_label(project, state, search, class_name, kind, scope),
        ]

    def _details(self, project: Project, item: service.Item | None, link: Any) -> dict[str, Any]:
        if item is None:
            return {"open": False}
        near = service.nearest(project, item.place)
        return views.details(history(project, *item.place), near, link)

    def _empty(self, message: str) -> list[Any]:
        off = gr.Button(interactive=False)
        grid = {"cards": [], "empty": "", "selected": [], "epoch": ""}
        closed = {"key": "", "project": "", "note": None}
        return [
            views.nothing_yet(message),
            grid,
            "",
            off,
            off,
            off,
            off,
            closed,
            {"open": False},
            gr.Group(visible=False),
            {"note": "", "rows": []},
            off,
        ]

    def show_trial(self, project: Project, state: dict[str, Any]) -> dict[str, Any]:
        """The newest try-out of the open caption."""
        place = state["open"] if state["root"] == str(project.root) else None
        found = service.last_trial(project, self.ctx.jobs, tuple(place)) if place else None
        return views.trial(
            found, lambda path: self.ctx.images.file(project, project.path(*Path(path).parts))
        )

    def run_label(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
    ) -> Any:
        """The run button says how many captions it writes."""
        items = _items(project)
        of_class = sum(item.prototype.class_name == class_name for item in items)
        counts = {"all": len(items), "selected": len(state["selected"]), "class": of_class}
        count = counts.get(scope, 0)
        return gr.Button(f"Write {count} caption{'s' * (count != 1)}", interactive=count > 0)

    # What people do.

    def filter(self, project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
        """Another filter shows its first page."""
        return self._go(project, {**_of(project, state), "page": 0}, *filters)

    def open(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Open a caption in the editor."""
        found = service.places([[sent(event, "class_name"), sent(event, "cluster")]])
        items = service.load_items(project)
        if not found or service.find_item(items, found[0]) is None:
            return [gr.skip()] * (1 + len(self._shown))  # gone; what the page shows is on its way
        state = {**_of(project, state), "open": list(found[0])}
        shown = [item.place for item in service.Filter(search, class_name, kind).of(items)]
        if found[0] in shown:
            state["page"] = shown.index(found[0]) // views.PAGE
        return self._go(project, state, search, class_name, kind, scope)

    def close(self, project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
        """Close the editor."""
        return self._go(project, {**_of(project, state), "open": None}, *filters)

    def mark(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Remember which cards are marked."""
        known = {item.place for item in _items(project)}
        marked = [
            list(place) for place in service.places(sent(event, "selected")) if place in known
        ]
        state = {**_of(project, state), "selected": marked}
        return [state, self.run_label(project, state, search, class_name, kind, scope)]

    def save(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Write what was typed, unless the caption has been changed meanwhile."""
        place, text, version = (sent(event, name) for name in ("place", "text", "version"))
        note = {"id": str(time.time_ns()), "key": sent(event, "key")}
        note |= {"kind": "good", "text": "Saved."}
        try:
            service.save(project, place, text, version)
        except CaptionConflict as error:
            note |= {"kind": "warn", "text": "Not saved."}
            gr.Warning(escaped(error))
        except CaptionError as error:
            note |= {"kind": "error", "text": f"Not saved: {in_words(error)}"}
        return self._go(project, _of(project, state), search, class_name, kind, scope, note=note)

    def restore(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Write an earlier text of the open caption again."""
        state = _of(project, state)
        item = service.find_item(service.load_items(project), state["open"])
        if item is not None:
            service.restore(project, item.place, sent(event, "entry"), item.version)
        return self._go(project, state, search, class_name, kind, scope)

    def give_back(
        self,
        project: Project,
        state: dict[str, Any],
        search: str,
        class_name: str,
        kind: str,
        scope: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Let the captioner's last text stand again."""
        for place in service.places([sent(event, "place")]):
            reset(project, *place)
        return self._go(project, _of(project, state), search, class_name, kind, scope)

    def count(self, project: Project, event: gr.EventData) -> dict[str, Any]:
        """Tokens of what is in the text box."""
        text = str(sent(event, "text") or "")[:20_000]
        try:
            return views.tokens(service.count_tokens(project, text))
        except ModelError as error:
            return views.tokens(None, in_words(error))

    def try_caption(self, project: Project, strategy: str, event: gr.EventData) -> dict[str, Any]:
        """Start a job that samples images of what is in the text box."""
        for place in service.places([sent(event, "place")]):
            config = service.trial(project, place, str(sent(event, "text") or ""), strategy)
            self.ctx.jobs.start(project, "preview", config)
            state = {**_of(project, CLOSED), "open": list(place)}
            return self.show_trial(project, state)
        return {"note": "", "rows": []}

    def start(
        self,
        project: Project,
        state: dict[str, Any],
        class_name: str,
        scope: str,
        rewrite: bool,
        *values: Any,
    ) -> None:
        """Run the stage for the chosen captions."""
        config = self.form.config(project, *values)
        assert isinstance(config, CaptionsConfig)
        selected = service.places(_of(project, state)["selected"])
        chosen = service.captioning(config, scope, class_name, selected, rewrite)
        self.ctx.jobs.start(project, "captions", chosen)
        gr.Info("Started; the sidebar shows how far it is.")

    def _go(self, project: Project, state: dict[str, Any], *filters: str, **more: Any) -> list[Any]:
        return [state, *self._view(project, state, *filters, **more)]

    def _turn(self, pages: int) -> Any:
        def turn(project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
            state = _of(project, state)
            shown = service.Filter(*filters[:3]).of(service.load_items(project))
            last = views.pages(len(shown)) - 1
            page = min(max(min(state["page"], last) + pages, 0), last)
            return self._go(project, {**state, "page": page}, *filters)

        return turn

    def _select(self, everything: bool) -> Any:
        def select(project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
            shown = service.Filter(*filters[:3]).of(service.load_items(project))
            selected = [list(item.place) for item in shown] if everything else []
            epoch = str(time.time_ns())
            state = {**_of(project, state), "selected": selected, "epoch": epoch}
            return self._go(project, state, *filters)

        return select

    def _step(self, act: Any, verb: str) -> Any:
        def step(project: Project, state: dict[str, Any], *filters: str) -> list[Any]:
            count = len(act(project))
            gr.Info(f"{verb}: {count} caption{'s' * (count != 1)} changed.")
            return self._go(project, _of(project, state), *filters)

        return step


def drafts_key(project: Project) -> str:
    """Under which the browser keeps a project's unsaved texts; says nothing of its folder."""
    return storage.digest("drafts", str(project.root))[:16]


def _of(project: Project, state: dict[str, Any]) -> dict[str, Any]:
    """The window's state, or a fresh one if it is another project's."""
    root = str(project.root)
    return state if state["root"] == root else {**CLOSED, "root": root}


def _items(project: Project) -> list[service.Item]:
    try:
        return service.load_items(project)
    except DPDError:
        return []


def _linker(link: Any, project: Project) -> Any:
    return lambda image_id: link(project, image_id)
