"""What `import melfast` offers: light to import, listed, and each name does its work in a line or two."""

import subprocess
import sys

import melfast

OFFERED = sorted(set(melfast.__all__) - {"__version__"})


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
