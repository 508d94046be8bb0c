"""What is left out of an artifact, held against Git's own reading of the same patterns."""

import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.servers.repositories import git
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.ignore import PATTERNS_MAX, Ignore, ignore_of


def rules(spec: str | None = None, **files: str) -> Ignore:
    """Rules of the tree's own file (`root`) and of those of directories, and of `spec.ignore`."""
    found = [("" if name == "root" else f"{name}/", text.encode()) for name, text in files.items()]
    return ignore_of(found, spec)


DEFAULTS = ["a.jpg", "d/a.png", "x.tar.gz", ".github/w.yaml", ".travis.yml", "d/.sops.yaml", "d/.flux.yaml", "a.zip"]


def test_without_patterns_the_defaults_hold() -> None:
    ignore = rules()
    assert not any(map(ignore.keeps, [*DEFAULTS, ".gitignore", "d/.gitattributes", ".gitmodules"]))
    assert all(map(ignore.keeps, ["a.yaml", ".sourceignore", "github/x", "d/Makefile"]))


VERSION_CONTROL = [".git/config", ".gitignore", ".gitmodules", ".gitattributes"]
EXTENSIONS = ["a.jpg", "a.jpeg", "a.gif", "a.png", "a.wmv", "a.flv", "a.tar.gz", "a.zip"]
CONTINUOUS_INTEGRATION = [
    ".github/workflows/ci.yaml",
    ".circleci/config.yml",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
]
EXTRA = [".goreleaser.yml", ".sops.yaml", ".flux.yaml"]


@pytest.mark.parametrize("name", VERSION_CONTROL)
@pytest.mark.parametrize("directory", ["", "deep/er/"])
def test_what_is_of_version_control_is_left_out_whatever_patterns_there_are(directory: str, name: str) -> None:
    assert not rules().keeps(directory + name)
    assert not rules(spec="x\n", root="y\n").keeps(directory + name)


@pytest.mark.parametrize("name", [*EXTENSIONS, *CONTINUOUS_INTEGRATION, *EXTRA])
@pytest.mark.parametrize("directory", ["", "deep/er/"])
def test_each_other_default_is_left_out_until_there_is_a_pattern(directory: str, name: str) -> None:
    assert not rules().keeps(directory + name)
    assert rules(spec="x\n").keeps(directory + name)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n   \n"])
def test_file_without_patterns_leaves_the_defaults(text: str) -> None:
    assert not rules(root=text).keeps("a.jpg")
    assert not rules(spec=text).keeps("a.jpg")


@pytest.mark.parametrize("ignore", [rules(root="x\n"), rules(spec="x"), rules(deep="x\n")])
def test_one_pattern_anywhere_takes_all_defaults_away_but_those_of_git(ignore: Ignore) -> None:
    assert all(map(ignore.keeps, DEFAULTS))
    assert not ignore.keeps(".gitignore")
    assert not ignore.keeps("d/.gitattributes")


def test_file_counts_below_its_directory_only() -> None:
    ignore = rules(apps="*.md\n/top\n")
    assert not ignore.keeps("apps/a.md")
    assert not ignore.keeps("apps/d/a.md")
    assert not ignore.keeps("apps/top")
    assert ignore.keeps("apps/d/top")
    assert ignore.keeps("a.md")
    assert ignore.keeps("apps2/a.md")


def test_deeper_file_wins_and_spec_wins_over_all() -> None:
    assert rules(root="*.md", docs="!*.md").keeps("docs/a.md")
    assert not rules(spec="*.md", root="!*.md", docs="!*.md").keeps("docs/a.md")
    assert rules(spec="!*.md", root="*.md", docs="*.md").keeps("docs/a.md")


def test_directory_below_an_excluded_one_can_be_brought_back() -> None:
    """As Flux has it; Git would not."""
    ignore = rules(spec="/*\n!/deploy/prod\n*.md\n")
    assert ignore.keeps("deploy/prod/a/b.yaml")
    assert not ignore.keeps("deploy/test/a.yaml")
    assert not ignore.keeps("deploy/prod/a.md")
    assert not ignore.keeps("a.yaml")


def test_comments_and_escapes_are_those_of_gitignore() -> None:
    ignore = rules(spec="# comment\n\\#file\n\\!file\nspace\\ \n")
    assert not ignore.keeps("#file")
    assert not ignore.keeps("!file")
    assert not ignore.keeps("space ")
    assert ignore.keeps("comment")


def test_two_asterisks_and_a_slash_at_the_end_are_read_as_flux_reads_them() -> None:
    ignore = rules(spec="c/**/\n")
    assert not ignore.keeps("c/a")
    assert not ignore.keeps("c/b/a")
    assert ignore.keeps("a")
    assert ignore.keeps("d/a")


def test_too_much_is_refused() -> None:
    with pytest.raises(FetchError, match="patterns to ignore"):
        rules(spec="x\n" * (PATTERNS_MAX + 1))
    with pytest.raises(FetchError, match=r"\.sourceignore has more than"):
        rules(root="x" * 2_000_000)


def any_pattern(random: Random) -> str:
    names = ["a", "b", "c", "*", "?", "a*", "*.md", "[ab]", "[!a]", "**"]
    parts = [random.choice(names) for _ in range(random.choice([1, 1, 1, 2, 3]))]
    begin, end = random.choice(["", "", "/"]), random.choice(["", "", "/"])
    return random.choice(["", "", "", "!"]) + begin + "/".join(parts) + end


def every_path() -> list[str]:
    names = ["a", "b", "c", "ab", "a.md"]
    return [*names, *(f"{x}/{y}" for x in names for y in names), *(f"{x}/b/{y}" for x in names for y in names)]


def paths(random: Random) -> list[str]:
    """Some files, of which none is another one's directory."""
    chosen = random.sample(every_path(), 25)
    return [path for path in chosen if not any(other.startswith(f"{path}/") for other in chosen)]


def to_git(pattern: str) -> str:
    """What says to Git what a pattern says to Flux.

    After a directory, `**/` at the end is all that is below it to Flux (go-git's matcher), as `**` is; to Git it would
    be only what is below a directory in it.
    """
    before = pattern.lstrip("!/").removesuffix("/**/")
    named = pattern.endswith("/**/") and any(part != "**" for part in before.split("/"))
    return pattern.removesuffix("/") if named else pattern


def ignored_by_git(at: Path, files: list[str]) -> set[str]:
    ran = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=at,
        input="\0".join(files),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in {0, 1}, ran.stderr
    return set(filter(None, ran.stdout.split("\0")))


@pytest.mark.slow
def test_patterns_are_read_as_git_reads_them(tmp_path: Path, seed: int) -> None:
    """Git looks at directories first, and at nothing below one that is left out: so the oracle asks for each."""
    random = Random(seed)
    git("init", "--quiet", at=tmp_path)
    left_out = 0
    for _ in range(60):
        patterns = [any_pattern(random) for _ in range(random.choice([1, 2, 3]))]
        (tmp_path / ".gitignore").write_text("\n".join(map(to_git, patterns)) + "\n")
        files = paths(random)
        for path in files:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("")
        ignore = rules(root="\n".join(patterns))
        has_negation = any(pattern.startswith("!") for pattern in patterns)
        found = ignored_by_git(tmp_path, files)
        ours = {path for path in files if not ignore.keeps(path)}
        left_out += len(found)
        if has_negation:
            # Only what Git leaves out with a whole directory may be brought back here.
            assert ours <= found, patterns
            differ = [path for path in found - ours if not any_directory_is_ignored(tmp_path, path)]
            # Or what a `!` brings back with its whole directory: to Git it would be the directory alone.
            brought_back = [to_git(pattern[1:]) for pattern in patterns if pattern.startswith("!")]
            (tmp_path / ".gitignore").write_text("\n".join(brought_back) + "\n")
            for path in differ:
                assert any_directory_is_ignored(tmp_path, path), (patterns, path)
        else:
            assert ours == found, patterns
        for path in files:
            (tmp_path / path).unlink()
        for directory in sorted((each for each in tmp_path.rglob("*") if each.is_dir()), reverse=True):
            if ".git" not in directory.parts:
                directory.rmdir()
    assert left_out


def any_directory_is_ignored(at: Path, path: str) -> bool:
    parts = path.split("/")[:-1]
    return bool(ignored_by_git(at, ["/".join(parts[: n + 1]) for n in range(len(parts))])) if parts else False
