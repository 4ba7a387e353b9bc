"""Let the reference read the docstrings as they are written, and the stubs of lazy_loader."""

import ast
import re
from pathlib import Path
from typing import Any

from griffe import Extension, Module, Object

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")


class Docstrings(Extension):
    """Show examples as code, roles as names, and what stubs re-export."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Read one docstring."""
        del kwargs
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(r"`\1`", text)

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Make public what a stub re-exports by ``import name as name``, in all packages."""
        stub = Path(str(pkg.filepath)).with_suffix(".pyi")
        if stub.exists():
            names = [
                alias.asname
                for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if alias.asname
            ]
            pkg.exports = [name for name in names if name in pkg.members]
        for member in pkg.modules.values():
            if not member.is_alias:
                self.on_package(pkg=member, **kwargs)
