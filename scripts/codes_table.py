"""Write the README's table of error codes anew, from service/batch/codes.py.

python -m scripts.codes_table
"""

import re
from pathlib import Path

from scripts.pages import with_part
from service.batch.codes import CODES

PAGE = Path(__file__).parent.parent / "README.md"
START, END = "<!-- codes: made by python -m scripts.codes_table -->\n", "<!-- end -->\n"


def table() -> str:
    """Every code with what it means and who can act, as Markdown."""
    rows = [
        f"| `{name}` | {code.status} | {_marked(code.means)} | {code.who.capitalize()}. "
        f"{_marked(code.act)} | {'yes' if code.again else ''} |\n"
        for name, code in CODES.items()
    ]
    head = "| `error_code` | `status` | what it means | who can act, and how | again? |\n"
    return head + "|---|---|---|---|---|\n" + "".join(rows)


def _marked(words: str) -> str:
    return re.sub(r"--[a-z]+", r"`\g<0>`", words)


def page(text: str) -> str:
    """The page with its table made anew."""
    return with_part(text, START, END, table())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
