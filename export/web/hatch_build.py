"""Refuses to make a wheel without the page."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMAND = "npm ci --prefix export/web --ignore-scripts && npm run build --prefix export/web"


class PageHook(BuildHookInterface):
    """Looks for the page before the wheel is filled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raise an error where the page was not built; an editable install finds it later."""
        if version == "standard" and not Path(self.root, "dist", "index.html").is_file():
            raise RuntimeError(f"the page is not built yet; in the folder of segjax: {COMMAND}")
