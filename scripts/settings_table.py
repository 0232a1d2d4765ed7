"""Write the table of settings in docs/operations.md anew, from service/settings.py.

python -m scripts.settings_table
"""

from pathlib import Path

from pydantic.fields import FieldInfo

from scripts.pages import with_part
from service.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "operations.md"
START, END = "<!-- settings: made by python -m scripts.settings_table -->\n", "<!-- end -->\n"

COMPUTED = {
    "models": "those shipped",
    "concurrency": "the cores there are",
    "provider": "`cuda` where there is one, else `cpu`",
    "batch": "1 on a CPU, else 16",
}
"""What is said of a default that depends on the machine or on other settings."""


def table() -> str:
    """Every setting with its default and what it does, as Markdown."""
    rows = [
        f"| `CARE_{name.upper()}` | {_default(name, field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return "| variable | default | |\n|---|---|---|\n" + "".join(rows)


def page(text: str) -> str:
    """The page with its table made anew."""
    return with_part(text, START, END, table())


def _default(name: str, field: FieldInfo) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    if field.default in (None, (), ""):
        return ""
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
