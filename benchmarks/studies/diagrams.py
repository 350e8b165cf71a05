"""Draw the diagrams of docs/: each `docs/pictures/NAME.mmd` as NAME.svg. It needs Node's npm, Chromium and playwright.

The SVG files are committed, so that GitHub and the site show them without JavaScript. Their background is white, for
pages of either colour.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

PICTURES = Path(__file__).parent.parent.parent / "docs" / "pictures"
MERMAID = "mermaid@12.3.0"
DRAW = """async ([source, name]) => {
    mermaid.initialize({
        startOnLoad: false, theme: "neutral", htmlLabels: false, fontFamily: "sans-serif", deterministicIds: true,
        flowchart: {htmlLabels: false},
    });
    return (await mermaid.render(name, source)).svg;
}"""


def main() -> None:
    """Draw every diagram again."""
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, MERMAID]
        subprocess.run(command, check=True, capture_output=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=f"{folder}/node_modules/mermaid/dist/mermaid.min.js")
        for source in sorted(PICTURES.glob("*.mmd")):
            drawn = page.evaluate(DRAW, [source.read_text(), source.stem])
            source.with_suffix(".svg").write_text(drawn.replace('style="', 'style="background: white; ', 1) + "\n")
        browser.close()


if __name__ == "__main__":
    main()
