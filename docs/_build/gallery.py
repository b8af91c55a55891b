"""The searches of the gallery, run by the command, and their reports as it writes them.

    python docs/_build/gallery.py [--state FOLDER] [limits] [part]

Each begins in an empty folder below `--state` (a temporary one by default); with one that is kept, a search that was stopped resumes. Some three minutes of two
cores for both. Writes docs/gallery/NAME.html and docs/gallery/NAME.png. The page of the default search comes from its benchmark
(`python -m benchmarks.default_search.run`).
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GALLERY = Path(__file__).parents[1] / "gallery"

TEACHER = """
from pathlib import Path
from nas_bo.architecture import Architecture, Node
from nas_bo.export import folder
from nas_bo.model import load_corpus, train

layer = Node({"mixer": Node({"kind": "attention", "heads": 4, "kv_group": 2}), "mlp": Node({"kind": "dense", "ratio": 3, "activation": "silu", "gated": True})})
arch = Architecture(Node({"width": 64, "layers": (layer,) * 4}), {})
made = train(arch, load_corpus(), 400_000)
folder.write(Path("teacher"), folder.files(made.model, arch, {"tokenizer": "bytes"}, ()))
"""

# name -> the program that comes first, and the command as it stands on the page
SEARCHES = {
    "limits": (
        "",
        "nas-bo search --max-parameters 60k --max-latency-ms 1 --objective bits_per_byte --objective kv_cache_bytes --objective latency_ms --trials 24 --budget 1e5",
    ),
    "part": (TEACHER, "nas-bo search --from teacher --target pi5 --objective bits_per_byte --objective decode_ms --trials 40"),
}


def run(name: str, folder: Path) -> None:
    """The search `name` in its folder; its page and picture into the gallery."""
    before, command = SEARCHES[name]
    folder.mkdir(parents=True, exist_ok=True)
    if before and not (folder / "teacher").exists():
        subprocess.run([sys.executable, "-c", before], cwd=folder, check=True)
    words = [sys.executable, "-m", "nas_bo", *shlex.split(command)[1:], "--mlflow", "none"]
    subprocess.run(words, cwd=folder, check=True)
    (page,) = folder.glob("nas-bo-out/*/front.html")
    GALLERY.mkdir(exist_ok=True)
    shutil.copy(page, GALLERY / f"{name}.html")
    shutil.copy(page.with_name("front.png"), GALLERY / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SEARCHES)}; both by default")
    parser.add_argument("--state", type=Path)
    given = parser.parse_args()
    if not set(given.names) <= set(SEARCHES):
        parser.error(f"there are {', '.join(SEARCHES)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or SEARCHES:
            run(name, (given.state or Path(folder)) / name)


if __name__ == "__main__":
    main()
