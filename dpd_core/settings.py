"""The machinery of settings: one class a stage, each field declared once.

A field carries its help, limits, choices and unit, and says whether it names a path. The command
line's flags, the app's form labels, the limits for strangers and the documentation are all made
from that one declaration; pydantic checks every value against it. The classes themselves are in
:mod:`dpd_core.config`.
"""

from __future__ import annotations

import csv
import difflib
import io
import shlex
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from dpd_core.errors import ConfigError

PathKind = Literal["folder", "file", "model", "output"]
"""What a setting that may be a path names: data to read (a folder or an archive), a file to read,
a model (a folder or a file), or a folder to write."""

AUTO = "auto"
"""What stands on the command line for ``None``, a value that is left to the strategy."""

_SHOWN = 80
"""Characters of a refused value that its message repeats."""


@dataclass(frozen=True)
class Setting:
    """What a settings class declares of one of its fields.

    Attributes:
        name: Its name; ``--some-name`` on the command line is ``some_name`` here.
        kind: Its type without ``None``: ``bool``, ``int``, ``float``, ``str`` or ``tuple``.
        optional: Whether it may be ``None``, for which people write :data:`AUTO`.
        default: Default value.
        help: One sentence for a person.
        low, high: Inclusive limits of a number, or ``None``.
        choices: Allowed words; empty: any.
        unit: Unit of a number, e.g. ``"px"``.
        advanced: Whether it stands behind the others in the help and in a form's fold.
        once: Whether it is meant for a single run: the next one begins with the default again.
        path: What it names, if it may be a path.
        hub: Whether it may be a Hub id.
        words: Values of a path that stand for something we know, and are no path.
        repeated: Whether the command line gives it once a part, because its parts hold commas.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    unit: str
    advanced: bool
    once: bool
    path: PathKind | None
    hub: bool
    words: tuple[str, ...]
    repeated: bool

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def limits(self) -> str:
        """``at least 1 and at most 9`` or a part of it; empty without limits."""
        parts = [f"at least {self.low:g}" if self.low is not None else ""]
        parts += [f"at most {self.high:g}" if self.high is not None else ""]
        return " and ".join(filter(None, parts))


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
    advanced: bool = False,
    once: bool = False,
    path: PathKind | None = None,
    hub: bool = False,
    words: tuple[str, ...] = (),
    repeated: bool = False,
) -> Any:
    """Declare a field of a settings class; :class:`Setting` says what the arguments mean."""
    return Field(
        default,
        description=help,
        ge=low,
        le=high,
        json_schema_extra={
            "low": low,
            "high": high,
            "choices": list(choices),
            "unit": unit,
            "advanced": advanced,
            "once": once,
            "path": path,
            "hub": hub,
            "words": list(words),
            "repeated": repeated,
        },
    )


class StageConfig(BaseModel):
    """What all settings share: checking, and reading from and writing to plain dicts.

    Raises:
        ConfigError: an unknown name, or a value of the wrong type or out of its limits.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            _refuse(type(self), error.errors(include_url=False))

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: Any) -> Any:
        """A text of the command line or of a form brought to what pydantic reads."""
        known = settings_of(cls)[info.field_name]
        if isinstance(value, bool) and known.kind is not bool:
            raise PydanticCustomError("type", "a truth value is no value of this setting")
        if isinstance(value, str) and known.kind is tuple:
            # An empty text, as a form's empty field gives it, is no part and not one empty part.
            # A part with a comma in it is quoted, as in CSV.
            try:
                parts = next(csv.reader([value], skipinitialspace=True), [])
            except csv.Error:
                raise PydanticCustomError("type", "not a list") from None
            return tuple(part.strip() for part in parts if part.strip())
        return None if known.optional and value in ("", AUTO) else value

    @field_validator("*", mode="after")
    @classmethod
    def _choose(cls, value: Any, info: Any) -> Any:
        choices = settings_of(cls)[info.field_name].choices
        if choices and value is not None and value not in choices:
            raise PydanticCustomError("choices", "not one of the choices")
        return value

    def to_dict(self) -> dict[str, Any]:
        """All values as plain JSON-able types."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; what is missing has its default."""
        return cls(**values)

    def replace(self, **values: Any) -> Self:
        """A copy with some values changed, checked again."""
        return type(self)(**{**self.to_dict(), **values})

    def lasting(self) -> Self:
        """A copy without what was meant for a single run; what a next run begins with."""
        known = settings_of(type(self)).values()
        return self.replace(**{setting.name: setting.default for setting in known if setting.once})


@cache
def settings_of(config: type[StageConfig]) -> dict[str, Setting]:
    """The declarations of a settings class by name, in their order."""
    return {name: _declared(name, field) for name, field in config.model_fields.items()}


def stage_name(config: type[StageConfig]) -> str:
    """The stage whose settings these are."""
    return config.__name__.removesuffix("Config").lower()


def suggestion(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'steps'? ``, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def joined(parts: Iterable[Any]) -> str:
    """Parts of a setting as people write them: with commas between them, and quoted where they
    have commas themselves."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(list(parts))
    return text.getvalue()


def command_words(stage: str, config: StageConfig, project: Path) -> list[str]:
    """The words of the command that runs a stage with these settings, without those that have
    their default values."""
    words = ["python", "-m", "dpd_core", stage, "--project", str(project)]
    for known in settings_of(type(config)).values():
        value = getattr(config, known.name)
        if value == known.default:
            continue
        if known.kind is bool:
            words.append(known.flag if value else f"--no-{known.flag[2:]}")
            continue
        if known.repeated:
            words += [word for part in value for word in (known.flag, part)]
            continue
        text = joined(value) if isinstance(value, tuple) else str(value)
        text = AUTO if value is None else text
        # argparse takes a word that begins with a dash for a flag.
        words += [f"{known.flag}={text}"] if text.startswith("-") else [known.flag, text]
    return words


def command_line(stage: str, config: StageConfig, project: Path) -> str:
    """The shell command that runs a stage with these settings."""
    return shlex.join(command_words(stage, config, project))


def _declared(name: str, field: FieldInfo) -> Setting:
    kind: Any = field.annotation
    optional = isinstance(kind, types.UnionType)
    if optional:
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
    extra: Any = field.json_schema_extra
    facts: Any = {key: tuple(v) if isinstance(v, list) else v for key, v in extra.items()}
    return Setting(
        name=name,
        kind=typing.get_origin(kind) or kind,
        optional=optional,
        default=field.default,
        help=field.description or "",
        **facts,
    )


def _refuse(config: type[StageConfig], errors: list[ErrorDetails]) -> NoReturn:
    """Say what pydantic has found: the unknown names, else the first bad value."""
    known, stage = settings_of(config), stage_name(config)
    unknown = sorted(str(error["loc"][0]) for error in errors if error["type"] == "extra_forbidden")
    if unknown:
        near = suggestion(unknown[0], known)
        raise ConfigError(
            f"unknown setting {', '.join(name[:_SHOWN] for name in unknown)}.",
            where=stage,
            fix=f"{near}Known settings: {', '.join(sorted(known))}.",
        ) from None
    error = errors[0]
    setting, value = known[str(error["loc"][0])], error["input"]
    if error["type"] == "choices":
        near = suggestion(str(value), setting.choices)
        fix = f"{near}Use one of {', '.join(setting.choices)}."
    elif error["type"] in ("greater_than_equal", "less_than_equal"):
        value, fix = float(value), f"Use {setting.limits}."  # a text, from the command line
    else:
        fix = f"A value of type {setting.kind.__name__} is needed."
    shown = f"{value:g}" if isinstance(value, int | float) else repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    raise ConfigError(f"got {shown}.", where=f"{stage}.{setting.name}", fix=fix) from None
