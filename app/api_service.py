"""What the public endpoints do: projects and stages as plain values."""

from __future__ import annotations

from typing import Any

from app.evaluate import service as evaluate
from app.export import service as export
from app.server.jobs import JobQueue
from app.server.limits import Limits
from app.server.pictures import ImageServer
from app.server.workspaces import Workspace
from app.shell.view import stage_list
from dpd_core import STAGES
from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import edit
from dpd_core.config import resolve
from dpd_core.dataset.index import load_index
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import load_prototypes
from dpd_core.synthesize.sets import DistilledSet, list_sets


def list_projects(workspace: Workspace) -> list[dict[str, Any]]:
    """Name and stages of each project."""
    return [_project(workspace.open(name)) for name in workspace.names()]


def create_project(workspace: Workspace, name: str, limits: Limits) -> dict[str, Any]:
    """Make an empty project.

    Raises:
        ProjectError: an unusable or taken name, or there is no place for more.
    """
    limits.check_projects(len(workspace.names()))
    return _project(workspace.create(str(name)))


def start_stage(
    project: Project, queue: JobQueue, stage: str, settings: dict[str, Any] | None, preset: str
) -> str:
    """Start a stage; returns the job id.

    Raises:
        ConfigError: unknown stage, preset or setting, or a bad value.
        ProjectError: a job of the project is waiting or at work, or a limit is reached.
    """
    if stage not in STAGES:
        raise ConfigError(
            f"unknown stage {stage!r}.", where="start_stage", fix=f"Stages: {', '.join(STAGES)}."
        )
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(
            "the settings are not an object.",
            where="start_stage",
            fix='Give values by name, like {"steps": 300}.',
        )
    config = resolve(stage, preset).replace(**(settings or {}))
    return queue.start(project, stage, config)


def job_status(project: Project, queue: JobQueue, job_id: str) -> dict[str, Any]:
    """How far a job is.

    Raises:
        ProjectError: no such job.
    """
    for job in queue.jobs(project, last=1000):
        if job.id == job_id:
            return {
                "stage": job.stage,
                "status": job.status,
                "done": job.done,
                "total": job.total,
                "eta": job.eta,
                "message": job.message,
                "error": job.error,
                "position": job.position,
            }
    raise ProjectError(f"there is no job {job_id!r}.", fix="Use what start_stage returned.")


def dataset_summary(project: Project) -> dict[str, Any]:
    """Classes and counts of the data set.

    Raises:
        StageMissing: there is none yet.
    """
    index = load_index(project)
    return {
        "classes": [
            {"name": name, "readable": info.readable, "train": info.train, "test": info.test}
            for name, info in index.classes.items()
        ],
        "refused": len(index.refused),
        "duplicates": len(index.duplicates),
        "source": index.source.get("kind"),
    }


def list_prototypes(project: Project, images: ImageServer) -> list[dict[str, Any]]:
    """All prototypes with their captions.

    Raises:
        StageMissing: there are none yet.
    """
    captions = current_captions(project)
    rows = []
    for class_name, prototypes in load_prototypes(project).items():
        for prototype in prototypes:
            caption = captions.get(class_name, {}).get(prototype.cluster_id)
            rows.append(
                {
                    "class": class_name,
                    "cluster": prototype.cluster_id,
                    "image": prototype.id,
                    "cluster_size": prototype.cluster_size,
                    "margin": prototype.margin,
                    "caption": caption.text if caption else None,
                    "author": caption.author if caption else None,
                    "version": caption.version if caption else 0,
                    "thumbnail": images.thumbnail(project, prototype.id),
                }
            )
    return rows


def set_caption(project: Project, class_name: str, cluster: int, text: str) -> dict[str, Any]:
    """Write a caption.

    Raises:
        StageMissing: there are no prototypes yet.
        CaptionError: no such prototype, or an unacceptable text.
    """
    caption = edit(project, class_name, cluster, text, source="API")
    return {"text": caption.text, "author": caption.author, "version": caption.version}


def list_distilled(project: Project, images: ImageServer) -> list[dict[str, Any]]:
    """All finished distilled sets with their images."""
    evaluated = evaluate.evaluated_sets(project)
    found = []
    for name in list_sets(project):
        distilled = DistilledSet.load(project, name)
        found.append(
            {
                "name": name,
                "strategy": distilled.manifest.strategy,
                "ipc": distilled.ipc,
                "evaluated": name in evaluated,
                "images": [
                    {
                        "class": record.class_name,
                        "slot": record.number,
                        "caption": record.caption,
                        "score": record.score,
                        "image": images.file(project, distilled.path(record)),
                    }
                    for record in distilled.slots
                ],
            }
        )
    return found


def evaluation_report(project: Project, set_name: str) -> dict[str, Any]:
    """The report of a set.

    Raises:
        ProjectError: it has not been evaluated.
    """
    return evaluate.reports(project, [set_name])[0].to_dict()


def export_link(project: Project, images: ImageServer, set_name: str) -> dict[str, Any]:
    """Link to the zip of a set.

    Raises:
        ProjectError: it has not been exported.
    """
    for finished in export.exports(project):
        if set_name in ("latest", finished.set_name):
            return {
                "set": finished.set_name,
                "size": finished.size,
                "link": images.file(project, finished.archive),
            }
    raise ProjectError(
        f"the set {set_name!r} has not been exported.", fix='Start the stage "export" first.'
    )


def _project(project: Project) -> dict[str, Any]:
    states = {row["stage"]: row["state"] for row in stage_list(project)}
    return {"name": project.name, "stages": states}
