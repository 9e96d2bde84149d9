"""Compiles `vdso_clocks.c`, the code put into skewed processes, to `vdso_clocks.bin`.

Run it as `python -m harness.worlds.os.vdso_build` after each change of the source. The
result is checked in, so that users need no compiler; where there is gcc, a test
compiles the source again and compares.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("vdso_clocks.c")
LINKER_SCRIPT = SOURCE.with_suffix(".ld")
IMAGE = SOURCE.with_suffix(".bin")

GCC = (
    "gcc",
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    # Go calls the vDSO without any promise about the state of vector registers.
    "-mgeneral-regs-only",
    "-march=x86-64",
)


def build(image: Path) -> None:
    """Compile and link into `image`.

    Raises:
        subprocess.CalledProcessError: gcc or ld failed; stderr has their message.
    """
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "vdso_clocks.o"
        subprocess.run([*GCC, "-c", str(SOURCE), "-o", str(compiled)], check=True)
        subprocess.run(
            ["ld", "-T", str(LINKER_SCRIPT), "-o", str(image), str(compiled)],
            check=True,
        )


if __name__ == "__main__":
    build(IMAGE)
    sys.stdout.write(f"{IMAGE.name}: {IMAGE.stat().st_size} bytes\n")
