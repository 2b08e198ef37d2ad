"""The sidebar: project, hardware and the running job, beside every tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import views
from app.context import Context, message
from app.jobs import JobView
from dpd_core.errors import DPDError
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project


class Sidebar:
    """Build inside the Blocks with :meth:`build`, wire with :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        with gr.Sidebar(width=300, elem_id="sidebar"):
            gr.HTML("<h1 class='brand'>DPD Studio</h1>", elem_id="brand")
            self.project = gr.Dropdown(label="Project", choices=[], elem_id="project")
            with gr.Row():
                self.new = gr.Button("New", size="sm", elem_id="project-new")
                self.duplicate = gr.Button("Duplicate", size="sm", elem_id="project-duplicate")
                self.rename = gr.Button("Rename", size="sm", elem_id="project-rename")
                self.delete = gr.Button("Delete", size="sm", elem_id="project-delete")
            with gr.Group(visible=False) as self.form:
                self.action = gr.State("")
                self.name = gr.Textbox(label="Name of the new project", max_length=60,
                                       elem_id="project-name")  # fmt: skip
                with gr.Row():
                    self.confirm = gr.Button("Create", variant="primary", size="sm",
                                             elem_id="project-confirm")  # fmt: skip
                    self.cancel = gr.Button("Cancel", size="sm", elem_id="project-cancel")
            self.stages = gr.HTML(elem_id="stage-list", html_template=views.STAGE_LIST_TEMPLATE)
            self.hardware = gr.HTML(elem_id="hardware", html_template="<p>{{value}}</p>")
            self.job = gr.HTML(elem_id="job", html_template=views.JOB_TEMPLATE)
            with gr.Row():
                self.pause = gr.Button("Pause", size="sm", visible=False, elem_id="job-pause")
                self.resume = gr.Button("Resume", size="sm", visible=False, elem_id="job-resume")
                self.stop = gr.Button("Stop", size="sm", variant="stop", visible=False,
                                      elem_id="job-stop")  # fmt: skip
            with gr.Accordion("Command line", open=False):
                self.command = gr.Code(label="Does the same", language="shell", lines=3,
                                       interactive=False, wrap_lines=True, elem_id="job-command"
                                       )  # fmt: skip

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        ctx.on(self.pause.click, self._steer(ctx.jobs.pause))
        ctx.on(self.stop.click, self._steer(ctx.jobs.stop))
        ctx.on(self.resume.click, self._steer(ctx.jobs.resume))
        ctx.on_pulse(self.show_job, outputs=self.job_outputs)
        asked = [self.form, self.action, self.name, self.confirm]
        for button, action in ((self.new, "new"), (self.duplicate, "duplicate"),
                               (self.rename, "rename"), (self.delete, "delete")):  # fmt: skip
            ctx.on(button.click, lambda project, action=action: ask(project, action), outputs=asked)
        self.cancel.click(lambda: gr.Group(visible=False), outputs=self.form,
                          api_visibility="private", queue=False)  # fmt: skip
        gr.on(
            [self.confirm.click, self.name.submit], self._change,
            inputs=[ctx.session, self.action, self.name], outputs=[ctx.session, self.form],
            api_visibility="private",
        )  # fmt: skip
        self.project.input(
            lambda session, name: {**session, "project": name},
            inputs=[ctx.session, self.project], outputs=ctx.session, api_visibility="private",
            queue=False,
        )  # fmt: skip

    @property
    def job_outputs(self) -> list[Any]:
        """Components that :meth:`show_job` fills."""
        return [self.job, self.pause, self.resume, self.stop, self.command]

    def show_job(self, project: Project) -> list[Any]:
        """The current job of a project and the buttons that make sense for it."""
        job = self.ctx.jobs.current(project)
        if job is None:
            hidden = gr.Button(visible=False)
            return [views.job(None), hidden, hidden, hidden, ""]
        return [
            views.job(job),
            gr.Button(visible=job.status == "running"),
            gr.Button(visible=job.status in ("paused", "stopped", "interrupted", "failed")),
            gr.Button(visible=job.active),
            job.command,
        ]

    def show_project(self, session: dict[str, Any]) -> list[Any]:
        """The list of projects, the stages of the open one, and its hardware."""
        names = self.ctx.workspace(session).names()
        project = self.ctx.project(session)
        return [
            gr.Dropdown(choices=names, value=session["project"]),
            views.stage_list(project),
            _hardware(project),
        ]

    def _steer(self, act: Any) -> Any:
        def steer(project: Project) -> None:
            job: JobView | None = self.ctx.jobs.current(project)
            if job is not None:
                act(project, job.id)

        return steer

    def _change(self, session: dict[str, Any], action: str, name: str) -> tuple[Any, Any]:
        """Do what was asked for and confirmed."""
        try:
            workspace, current = self.ctx.workspace(session), session["project"]
            if action == "new":
                opened = workspace.create(name).name
            elif action == "duplicate":
                opened = workspace.duplicate(current, name).name
            elif action == "rename":
                opened = workspace.rename(current, name).name
            else:
                workspace.delete(current)
                opened = (workspace.names() or [workspace.ensure_demo()])[0]
        except DPDError as error:
            raise message(error) from error
        return {**session, "project": opened}, gr.Group(visible=False)


def ask(project: Project, action: str) -> list[Any]:
    """Show the form that asks for a name or, before deleting, for confirmation."""
    texts = {
        "new": ("Name of the new project", "", "Create"),
        "duplicate": (f"Name of the copy of {project.name}", f"{project.name} copy", "Duplicate"),
        "rename": (f"New name of {project.name}", project.name, "Rename"),
        "delete": (f"Delete {project.name} and everything in it?", project.name, "Delete for good"),
    }
    label, value, verb = texts[action]
    deleting = action == "delete"
    return [
        gr.Group(visible=True), action,
        gr.Textbox(label=label, value=value, interactive=not deleting),
        gr.Button(verb, variant="stop" if deleting else "primary"),
    ]  # fmt: skip


def _hardware(project: Project) -> str:
    try:
        found = choose_hardware(project.config)
    except DPDError as error:
        return str(error)
    return f"{found.device}, {str(found.dtype).split('.')[1]}: {found.reason}."
