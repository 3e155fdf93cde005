"""Errors in templates: converted to a TransferError whose details are for the log and not for the client."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from jinja2 import TemplateNotFound, TemplateSyntaxError, nodes

from bootfw.api import FileMissing, Finding, TransferError
from bootfw.backends.sandbox import Sandbox

_MESSAGE = "This file could not be made; the log of the server says why"
"""The message that a client gets, without internals of this host."""


def mistake(detail: str) -> TransferError:
    """Return the error for a file that can't be generated."""
    return TransferError(_MESSAGE, detail)


def source_finding(file: str, reason: str) -> Finding:
    """Return the finding of ``bootfw lint`` about a mistake in a template or host file.

    :param file: its path, followed by ``:LINE`` if known.
    """
    return Finding(file, "source", reason, "correct it; bootfw render shows what a client gets")


@contextmanager
def mistakes(template: str, directories: Sequence[Path]) -> Iterator[None]:
    """Convert any exception of *template* to a TransferError whose detail names the template and the line.

    :param directories: the directories of the templates.
    """
    try:
        yield
    except (FileMissing, TransferError):
        raise
    except TemplateNotFound as error:
        location = _location(error.__traceback__, directories) or f"{template}, named in the configuration"
        raise mistake(f"{location}: there is no template {error.name}") from error
    except TemplateSyntaxError as error:
        raise mistake(f"{error.name or template}:{error.lineno}: {error.message}") from error
    except UnicodeDecodeError as error:
        raise mistake(f"{template}: must be UTF-8") from error
    except RecursionError as error:
        raise mistake(f"{template}: it includes or calls itself without end") from error
    except Exception as error:
        # An expression may raise anything: 1 // 0, "a" + 1.
        where = _location(error.__traceback__, directories) or template
        raise mistake(f"{where}: {error or type(error).__name__}") from error


def template_findings(sandbox: Sandbox, root: Path, names: Iterable[str]) -> Iterator[Finding]:
    """Yield mistakes that do not depend on the client, in the templates *names* below *root* and in included ones."""
    pending, seen = sorted(names, reverse=True), set(names)
    while pending:
        name = pending.pop()
        try:
            with mistakes(name, [root]):
                sandbox.get_template(name)
                source = (root / name).read_text("utf-8")
                included = _included(sandbox.parse(source, name, str(root / name)))
        except OSError as error:
            yield source_finding(str(root / name), error.strerror or str(error))
            continue
        except TransferError as error:
            where, _, reason = (error.detail or str(error)).partition(": ")
            yield source_finding(str(root / where), reason)
            continue
        for line, other in included:
            if not os.path.isfile(root / other):
                yield source_finding(f"{root / name}:{line}", f"there is no template {other}")
            elif other not in seen:
                seen.add(other)
                pending.append(other)


def _included(template: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of the templates that *template* includes and that have to exist."""
    for node in template.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        target = getattr(node, "template", None)
        if isinstance(target, nodes.Const) and isinstance(target.value, str) and not getattr(node, "ignore_missing", 0):
            yield node.lineno, target.value


def _location(traceback: TracebackType | None, directories: Sequence[Path]) -> str:
    """Return the innermost template line of a traceback, such as ``boot.ipxe.j2:7``; "": there is none."""
    location = ""
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        for directory in directories:
            if file.is_relative_to(directory):
                location = f"{os.path.relpath(file, directory)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return location
