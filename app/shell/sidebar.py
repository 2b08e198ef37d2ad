"""The sidebar: project, hardware and the running job, beside every tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.server import documents
from app.server.jobs import JobView
from app.server.limits import folder_size
from app.server.workspaces import Workspace
from app.shell import projects, view
from app.ui.context import Context
from app.ui.form import StageForm
from app.ui.html import HTML
from app.ui.messages import escaped, message, notice
from dpd_core.config import ProjectConfig
from dpd_core.errors import DPDError, ProjectError
from dpd_core.project import Project

_THEME = """() => {
  const dark = document.body.classList.toggle('dark');
  localStorage.setItem('dpd-theme', dark ? 'dark' : 'light');
}"""
AT_FIRST = """() => {
  if (innerWidth < 900) document.querySelector('#sidebar.open .toggle-button')?.click();
  const kept = localStorage.getItem('dpd-theme');
  if (kept && !new URLSearchParams(location.search).has('__theme'))
    document.body.classList.toggle('dark', kept === 'dark');
}"""
"""What a page just loaded does: in a narrow window the sidebar gives its room to the tabs, and the
theme is the one chosen before."""


class Sidebar:
    """Build inside the Blocks with :meth:`build`, wire with :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        with gr.Sidebar(width=300, elem_id="sidebar"):
            with gr.Row(elem_id="brand-row"):
                HTML("<h1 class='brand'>DPD Studio</h1>", elem_id="brand")
                self.theme = gr.Button("◐ Theme", size="sm", elem_id="theme", min_width=0)
            self.project = gr.Dropdown(label="Project", choices=[], elem_id="project")
            with gr.Row(elem_id="project-buttons"):
                self.new = gr.Button("New", size="sm", elem_id="project-new", min_width=0)
                self.duplicate = gr.Button(
                    "Duplicate", size="sm", elem_id="project-duplicate", min_width=0
                )
                self.rename = gr.Button("Rename", size="sm", elem_id="project-rename", min_width=0)
                self.delete = gr.Button("Delete", size="sm", elem_id="project-delete", min_width=0)
            self._build_project_forms()
            self.stages = HTML(elem_id="stage-list", html_template=view.STAGE_LIST_TEMPLATE)
            self._build_jobs()
            HTML(
                {"link": f"{self.ctx.settings.prefix}{documents.PATH}/"},
                elem_id="documentation",
                html_template="<p class='small'><a href='{{value.link}}' target='_blank'>"
                "Documentation</a> of the stages, data, hosting and the API</p>",
            )
            self.hardware = HTML(
                elem_id="hardware",
                html_template="<p class='small'><b>Computes on</b> {{value}}</p>",
            )
            with gr.Accordion("Model and device", open=False, elem_id="project-settings"):
                self.settings = StageForm(
                    self.ctx,
                    "project",
                    shown=["model", "device", "dtype", "seed", "image_size"],
                )
                self.settings.build()
                self.apply = gr.Button(
                    "Apply", size="sm", variant="primary", elem_id="project-apply"
                )

    def _build_project_forms(self) -> None:
        with gr.Group(visible=False) as self.form:
            # A text box and not a state: what is to be done comes with the request, so that a
            # server that has forgotten the session does nothing else instead.
            self.action = gr.Textbox(visible="hidden", elem_id="project-action")
            self.name = gr.Textbox(
                label="Name of the new project", max_length=60, elem_id="project-name"
            )
            with gr.Row():
                self.confirm = gr.Button(
                    "Create", variant="primary", size="sm", min_width=0, elem_id="project-confirm"
                )
                self.cancel = gr.Button("Cancel", size="sm", min_width=0, elem_id="project-cancel")
        with gr.Group(visible=False) as self.delete_form:
            self.delete_name = gr.Textbox(
                label="Name of the project to delete",
                max_length=60,
                elem_id="project-delete-name",
            )
            with gr.Row():
                self.delete_confirm = gr.Button(
                    "Delete",
                    variant="stop",
                    size="sm",
                    min_width=0,
                    elem_id="project-delete-confirm",
                )
                self.delete_cancel = gr.Button(
                    "Cancel", size="sm", min_width=0, elem_id="project-delete-cancel"
                )
        self.undelete = gr.Button(
            "Undo", size="sm", visible=False, elem_id="project-undelete", min_width=0
        )

    def _build_jobs(self) -> None:
        self.job = HTML(elem_id="job", html_template=view.JOB_TEMPLATE)
        with gr.Row(elem_id="job-buttons"):
            self.pause = gr.Button(
                "Pause", size="sm", visible=False, elem_id="job-pause", min_width=0
            )
            self.resume = gr.Button(
                "Resume", size="sm", visible=False, elem_id="job-resume", min_width=0
            )
            self.stop = gr.Button(
                "Stop", size="sm", variant="stop", visible=False, elem_id="job-stop", min_width=0
            )
        with gr.Accordion("Command line", open=False, elem_id="job-command-fold"):
            self.command = gr.Code(
                label="Does the same as the button",
                language="shell",
                lines=3,
                interactive=False,
                wrap_lines=True,
                elem_id="job-command",
            )
        with gr.Accordion("Recent jobs", open=False, elem_id="job-recent-fold"):
            self.recent = HTML(elem_id="job-recent", html_template=view.RECENT_JOBS_TEMPLATE)

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        for button, act in (
            (self.pause, ctx.jobs.pause),
            (self.stop, ctx.jobs.stop),
            (self.resume, ctx.jobs.resume),
        ):
            ctx.on(button.click, self._steer(act), outputs=self.job_outputs)
        self.theme.click(None, js=_THEME, api_visibility="private")
        # Apart from the rest, because the first question imports torch.
        changed = ctx.revision["project"].change
        ctx.on(changed, projects.hardware, outputs=self.hardware, quiet=True)
        ctx.on(changed, self.settings.values, outputs=self.settings.components, quiet=True)
        ctx.on(self.apply.click, self._configure, inputs=self.settings.components)
        self._wire_projects()
        self.project.input(
            lambda session, name: {**(session or {}), "project": name},
            inputs=[ctx.session, self.project],
            outputs=ctx.session,
            api_visibility="private",
            queue=False,
        )

    def _wire_projects(self) -> None:
        ctx = self.ctx
        asked = [self.form, self.delete_form, self.action, self.name, self.confirm]
        for button, action in (
            (self.new, "new"),
            (self.duplicate, "duplicate"),
            (self.rename, "rename"),
        ):
            ctx.on(button.click, lambda project, action=action: ask(project, action), outputs=asked)
        ctx.on(
            self.delete.click,
            ask_for_deletion,
            outputs=[self.form, self.delete_form, self.delete_name],
        )
        gr.on(
            [self.cancel.click, self.delete_cancel.click],
            lambda: [gr.Group(visible=False)] * 2,
            outputs=[self.form, self.delete_form],
            api_visibility="private",
            queue=False,
        )
        named: tuple[tuple[list[Any], Any, list[Any]], ...] = (
            ([self.confirm.click, self.name.submit], self._change, [self.action, self.name]),
            ([self.delete_confirm.click], self._delete, [self.delete_name]),
            ([self.undelete.click], self._undelete, []),
        )
        for triggers, function, inputs in named:
            gr.on(
                triggers,
                function,
                inputs=[ctx.session, *inputs],
                outputs=[ctx.session, self.form, self.delete_form],
                api_visibility="private",
            )

    @property
    def shown(self) -> list[Any]:
        """Components that :meth:`show_project` fills."""
        return [self.project, self.undelete]

    @property
    def job_outputs(self) -> list[Any]:
        """Components that :meth:`show_job` fills."""
        return [
            self.stages,
            self.job,
            self.pause,
            self.resume,
            self.stop,
            self.command,
            self.recent,
        ]

    def show_job(self, project: Project) -> list[Any]:
        """The current job of a project, the buttons that make sense for it, and earlier ones."""
        recent = self.ctx.jobs.jobs(project, last=8)
        rows = view.recent_jobs(recent)
        job = self.ctx.jobs.current(project)
        now = next((run for run in recent if run.active and run.status != "queued"), None)
        at_work = now.stage if now is not None else ""
        stages = view.stage_list(project, at_work)
        if job is None:
            hidden = gr.Button(visible=False)
            return [stages, view.job(None), hidden, hidden, hidden, "", rows]
        again = job.status in ("paused", "stopped", "interrupted", "failed")
        return [
            stages,
            view.job(job),
            gr.Button(visible=job.status == "running" and not job.stopping),
            gr.Button("Try again" if job.status == "failed" else "Resume", visible=again),
            gr.Button(visible=job.active and not job.stopping),
            self.ctx.shown_command(project, job.command),
            rows,
        ]

    def show_project(self, session: dict[str, Any]) -> list[Any]:
        """The list of projects, and what can be brought back."""
        workspace = self.ctx.workspace(session)
        names, deleted = workspace.names(), workspace.deleted()
        undelete = gr.Button(
            f"Undo: bring back {deleted[0].name}" if deleted else "Undo", visible=bool(deleted)
        )
        try:
            self.ctx.project(session)
        except DPDError as error:
            gr.Warning(escaped(error))
            return [gr.Dropdown(choices=names, value=None), undelete]
        return [gr.Dropdown(choices=names, value=session["project"]), undelete]

    def _steer(self, act: Any) -> Any:
        def steer(project: Project) -> list[Any]:
            job: JobView | None = self.ctx.jobs.current(project)
            if job is not None:
                act(project, job.id)
            return self.show_job(project)

        return steer

    def _configure(self, project: Project, *values: Any) -> None:
        config = self.settings.config(project, *values)
        assert isinstance(config, ProjectConfig)
        self.ctx.limits.check_paths(project, "project", config)
        gr.Info(projects.configure(project, config))

    def _change(self, session: dict[str, Any], action: str, name: str) -> list[Any]:
        """Make, copy or rename a project, as asked for and confirmed."""
        workspace, limits = self._workspace(session), self.ctx.limits
        current = str(session.get("project", ""))
        try:
            if action in ("new", "duplicate"):
                limits.check_projects(len(workspace.names()))
            if action == "new":
                opened = workspace.create(name).name
            elif action == "duplicate":
                limits.check_quota(workspace.root, folder_size(workspace.open(current).root))
                opened = workspace.duplicate(current, name).name
            elif action == "rename":
                opened = workspace.rename(current, name).name
            else:
                raise ProjectError(
                    "it is not clear what is to be done.", fix="Press the button above again."
                )
        except DPDError as error:
            raise message(error) from error
        return self._opened(session, opened)

    def _delete(self, session: dict[str, Any], typed: str) -> list[Any]:
        """Put the open project into the trash, if its name was typed."""
        workspace = self._workspace(session)
        current = str(session.get("project", ""))
        try:
            if str(typed or "").strip() != current:
                raise ProjectError(
                    "that is not the name of the open project; nothing was deleted.",
                    where=current,
                    fix="Type its name to delete it.",
                )
            workspace.delete(current)
            opened = workspace.latest() or workspace.ensure_demo()
        except DPDError as error:
            raise message(error) from error
        notice(f"{current} was deleted. It can be brought back for a week.")
        return self._opened(session, opened)

    def _undelete(self, session: dict[str, Any]) -> list[Any]:
        """Bring back the project that was deleted last."""
        workspace = self._workspace(session)
        try:
            self.ctx.limits.check_projects(len(workspace.names()))
            opened = workspace.undelete().name
        except DPDError as error:
            raise message(error) from error
        return self._opened(session, opened)

    def _workspace(self, session: Any) -> Workspace:
        try:
            return self.ctx.workspace(session if isinstance(session, dict) else None)
        except DPDError as error:
            raise message(error) from error

    def _opened(self, session: dict[str, Any] | None, name: str) -> list[Any]:
        hidden = gr.Group(visible=False)
        return [{**(session or {}), "project": name}, hidden, hidden]


def ask(project: Project, action: str) -> list[Any]:
    """Show the form that asks for a name."""
    texts = {
        "new": ("Name of the new project", "", "Create"),
        "duplicate": (f"Name of the copy of {project.name}", f"{project.name} copy", "Duplicate"),
        "rename": (f"New name of {project.name}", project.name, "Rename"),
    }
    label, value, verb = texts[action]
    return [
        gr.Group(visible=True),
        gr.Group(visible=False),
        action,
        gr.Textbox(label=label, value=value),
        gr.Button(verb),
    ]


def ask_for_deletion(project: Project) -> list[Any]:
    """Show the form that asks for the name of what is to be deleted."""
    label = f"Type the name “{project.name}” to delete it"
    return [gr.Group(visible=False), gr.Group(visible=True), gr.Textbox(label=label, value="")]
