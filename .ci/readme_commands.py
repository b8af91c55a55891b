"""Print the commands of the README's console blocks marked `ci`, one per line, in order."""

import re
from pathlib import Path

text = (Path(__file__).parent.parent / "README.md").read_text()
for block in re.findall(r"<!-- ci -->\n```console\n(.*?)```", text, re.S):
    for line in block.splitlines():
        if line.startswith("$ "):
            for command in line[2:].split("#")[0].split(" && "):
                print(command.strip())
