"""The captions as they stand: what the later stages read, and the identity of it."""

from __future__ import annotations

from dpd_core import storage
from dpd_core.captions.log import replay
from dpd_core.captions.records import Caption
from dpd_core.errors import StageMissing
from dpd_core.project import Project
from dpd_core.prototypes.files import list_prototypes, load_members


def current_captions(project: Project) -> dict[str, dict[int, Caption]]:
    """The captions of the current prototypes: by class name, by cluster number.

    A prototype that has none yet is not in it; a caption whose image is no longer a prototype is
    neither (it comes back if the image becomes one again).

    Raises:
        StageMissing: there are no prototypes.
    """
    state = replay(project)
    captions: dict[str, dict[int, Caption]] = {}
    for prototype in list_prototypes(project):
        clusters = captions.setdefault(prototype.class_name, {})
        if prototype.key in state.captions:
            clusters[prototype.cluster_id] = state.captions[prototype.key]
    return captions


def training_captions(project: Project) -> dict[str, str]:
    """The caption of every clustered train image, by image id: its cluster's, or for an outlier
    the nearest cluster's.

    Raises:
        StageMissing: prototypes or captions are not there yet.
    """
    captions = current_captions(project)
    texts = {}
    for image_id, member in load_members(project).items():
        caption = captions.get(member.class_name, {}).get(member.cluster_id)
        if caption is None:
            raise StageMissing(
                f"cluster {member.cluster_id} of the class {member.class_name!r} has no caption "
                "yet.",
                where=project.root,
                fix=f"Run `python -m dpd_core captions --project {project.root}` first.",
            )
        texts[image_id] = caption.text
    return texts


def captions_digest(project: Project) -> str:
    """Identity of all current captions' texts; another one means that images made from them are
    out of date."""
    captions = current_captions(project)
    texts = {
        name: {str(k): caption.text for k, caption in c.items()} for name, c in captions.items()
    }
    return storage.digest(texts)
