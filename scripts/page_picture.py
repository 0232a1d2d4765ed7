"""Draw docs/page.jpg: the page of a running service with the made-up film, as people see it.

python -m scripts.page_picture [--service http://localhost:3000] [--out docs/page.jpg]
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from scripts import made_up


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default="http://localhost:3000")
    parser.add_argument("--out", type=Path, default=Path("docs/page.jpg"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        made_up.write(Path(folder))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(options.service)
        page.set_input_files("input[type=file]", Path(folder, made_up.FILM))
        page.wait_for_selector("#answer:visible")
        page.wait_for_selector('#peak:not(:text-is("0 logits"))')
        page.wait_for_load_state("networkidle")
        page.screenshot(path=options.out, type="jpeg", quality=80)
        browser.close()


if __name__ == "__main__":
    main()
