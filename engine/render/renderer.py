"""Renders targets: one build for all whose inputs are equal, then for each what it alone adds."""

import contextlib
import logging
import re
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render import kustomize, landlock
from tidelog.engine.render.diagnose import Field, diagnose, places_of_fields, places_of_variable
from tidelog.engine.render.errors import ReadEntry, RenderError, SubstitutionError, YamlError
from tidelog.engine.render.handing import require_open_patches
from tidelog.engine.render.jobs import Finish, Run
from tidelog.engine.render.landlock import Reach
from tidelog.engine.render.mentions import Called, Mentions, mentions
from tidelog.engine.render.origins import marked, origins, traced
from tidelog.engine.render.pool import Workers
from tidelog.engine.render.postbuild import Settings
from tidelog.engine.render.scratch import Scratch, make_private
from tidelog.engine.render.spec import CommonMetadata, PostBuild, RenderSpec, build_inputs
from tidelog.engine.render.substitution import VERSION as SUBSTITUTION_VERSION
from tidelog.engine.render.suspects import suspects
from tidelog.engine.render.walk import Walk, is_unchanged, walk, whole_tree
from tidelog.engine.secrecy.handed import Handed, Marks
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary.render import Tool
from tidelog.storage.trees import Trees

_log = logging.getLogger("tidelog.engine")
_UNFENCED: Final = (
    "this kernel has no Landlock (Linux 5.13 and later have it, unless it is switched off): nothing keeps kustomize "
    "within its checkout but our look at the files before, so remote bases, generators, transformers and validators "
    "are refused"
)
_named = re.compile(r"(?P<kind>[^\s/:]+)/(?:[^\s/]+/)?(?P<name>[^\s/]+?)[:,]?\s")
_misnamed = re.compile(r"(?P<kind>[^\s/:]+)/(?:[^\s/]+/)?(?P<name>[^/]+?): ")
"""What an error about an object begins with: `Kind/namespace/name`; a name that is none may have spaces."""

SAID_MAX: Final = 400
"""Characters of kustomize's own words, beside those that name file and line."""
PLACES_S: Final = 60.0
"""For finding where objects are written: they are refused already, and who wrote them waits for the reason."""
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Output of past builds that is kept for other targets with equal inputs."""


class Limits(msgspec.Struct, frozen=True):
    """What one render may take."""

    time_s: float = 300.0
    """For the build, and again for what follows it; a target's `spec.timeout` where that is shorter."""
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = 64 * 1024 * 1024


class Build(msgspec.Struct, frozen=True):
    """What kustomize made of a tree, before what a target adds."""

    text: str
    tree: str
    key: Digest
    """Of all that went in: equal keys, equal text. Of a build with remote bases too, though it promises nothing."""
    walk: Walk
    read_set: tuple[ReadEntry, ...]
    toolchain: tuple[Tool, ...]


class Rendering(msgspec.Struct, frozen=True):
    """A target's objects, and what they were made of."""

    objects: tuple[KubeObject, ...]
    """In kustomize's order."""
    read_set: tuple[ReadEntry, ...]
    toolchain: tuple[Tool, ...]
    remote_bases: tuple[str, ...]
    """Bases that were fetched: not empty, and the result may differ though the read-set is the same."""
    secret: frozenset[ObjectKey]
    """Secrets, objects that the value of a secret variable went into, and Kustomizations that patch Secrets."""
    secret_values: tuple[str, ...] = ()
    """What substitution made of secret variables."""
    handed: Mapping[ObjectKey, Marks] = {}
    """Of each Kustomization among the secret objects: the fields of its spec that secret values went into."""
    warnings: tuple[str, ...] = ()
    """What was left out silently, as Flux does, and is likely a mistake."""


class _Flight:
    """A build that is under way, and those who wait for it."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.build: Build | None = None
        self.error: RenderError | None = None


class Renderer:
    """Renders targets from trees.

    Args:
        trees: the store of the sources' files.
        limits: of one render.
        strict: whether a variable without value fails the render (contract KS-062).
        remote_bases: whether bases may be fetched (`--no-remote-bases`).
        workers: processes that run at a time.
        scratch: where checkouts go, the directory of temporary files if not given; a file system in memory serves well.
    """

    def __init__(
        self,
        trees: Trees,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        strict: bool = True,
        remote_bases: bool = True,
        workers: Workers | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._trees = trees
        self._limits = limits
        self._strict = strict
        self._remote_bases = remote_bases
        self._fenced = landlock.version() > 0
        self._workers = workers or Workers()
        self._scratch = Scratch(scratch)
        self._places = anyio.CapacityLimiter(self._workers.number)
        self._remote_places = anyio.CapacityLimiter(max(1, self._workers.number - 1))
        """Of builds that fetch: a remote that does not answer must not keep all workers from those that do not."""
        self._toolchain: tuple[Tool, ...] = ()
        self._asking = anyio.Lock()
        self._flights: dict[Digest, _Flight] = {}
        self._kept: OrderedDict[Digest, Build] = OrderedDict()
        self._kept_bytes = 0

    async def __aenter__(self) -> Self:
        if not self._fenced:
            _log.warning(_UNFENCED)
        await anyio.to_thread.run_sync(self._scratch.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._workers.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._scratch.close)

    def unchanged(self, tree: str, read_set: Sequence[ReadEntry]) -> bool:
        """Whether a render that read `read_set` would read the same from `tree`. Blocks; for worker threads."""
        return is_unchanged(self._trees, tree, read_set)

    async def toolchain(self) -> tuple[Tool, ...]:
        """The programs of a render, with their versions.

        Raises:
            RenderError: not final, when kustomize is missing.
        """
        if not self._toolchain:
            async with self._asking:  # after a start, many targets want it at once
                self._toolchain = self._toolchain or await self._ask_toolchain()
        return self._toolchain

    async def _ask_toolchain(self) -> tuple[Tool, ...]:
        kubectl = str(await anyio.to_thread.run_sync(kustomize.program))
        async with self._directory() as place:
            job = self._job(kustomize.version_command(kubectl), place, kubectl, remote=False)
            ran = await self._workers.run(job, time_s=self._limits.time_s)
        return kustomize.tool(ran.output), Tool("tidelog-substitution", SUBSTITUTION_VERSION)

    async def build(self, tree: str, spec: RenderSpec, *, time_s: float | None = None) -> Build:
        """Builds the objects of a tree, before what a target adds. Targets with equal inputs share a build.

        Args:
            tree: the source's.
            spec: of the target.
            time_s: what it may take, within the limits.

        Raises:
            RenderError: with what it read, when it cannot be built.
        """
        toolchain = await self.toolchain()
        found = await anyio.to_thread.run_sync(lambda: walk(self._trees, tree, spec, fenced=self._fenced))
        if found.remote_bases:
            return await self._build_impure(tree, spec, found, toolchain, time_s)
        key = self._key(found, spec, toolchain)
        while True:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return msgspec.structs.replace(kept, tree=tree)
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, tree, found, toolchain, time_s)
            await flight.ended.wait()
            if flight.error is not None:
                raise _copy(flight.error)
            if flight.build is not None:
                return msgspec.structs.replace(flight.build, tree=tree)
            # Its leader was cancelled: the next who asks leads.

    async def build_files(
        self, files: Mapping[str, bytes], secrets: SecretValues, *, time_s: float | None = None
    ) -> str:
        """Builds a directory of a few files, one of which is its kustomization: what a post-renderer is asked.

        Args:
            files: their content, by name.
            secrets: what may be secret in them, and an error must not quote.
            time_s: what it may take, within the limits.

        Raises:
            RenderError: when it cannot be built.
        """
        kubectl = str(await anyio.to_thread.run_sync(kustomize.program))
        async with self._places, self._directory() as place:
            checkout = place / "tree"
            await anyio.to_thread.run_sync(_write, files, checkout)
            job = self._job(kustomize.build_command(kubectl, str(checkout)), place, kubectl, remote=False)
            ran = await self._workers.run(job, time_s=self._time(time_s))
            if ran.code:
                kustomize.require_explained(ran.code, ran.errors)
                said = await anyio.to_thread.run_sync(
                    lambda: kustomize.readable(ran.errors, str(checkout), secrets, remote=False)
                )
                raise RenderError(f"post-renderer failed: {said}")
            return kustomize.text(ran.output)

    async def render(
        self,
        tree: str,
        spec: RenderSpec,
        owner: ObjectKey,
        variables: Mapping[str, str] | None = None,
        secret_variables: frozenset[str] = frozenset(),
        handed: Handed = Handed(),  # noqa: B008 - frozen
        *,
        time_s: float | None = None,
    ) -> Rendering:
        """Renders a target.

        Args:
            tree: the source's.
            spec: of the target.
            owner: the target, whose name goes on the objects.
            variables: of `spec.postBuild.substituteFrom`, in its order; those of `substitute` are added here.
            secret_variables: those of `variables` that come from a Secret.
            handed: what in the spec itself is secret.
            time_s: what the build may take, and what follows it, within the limits.

        Raises:
            RenderError: with what it read, when it cannot be rendered.
        """
        if handed.values:
            await anyio.to_thread.run_sync(require_open_patches, spec.patches, handed.values)
        build = await self.build(tree, spec, time_s=time_s)
        settings = _settings(spec, owner, variables or {}, secret_variables, handed, strict=self._strict)
        try:
            finished = await self._workers.finish(Finish(build.text, settings), time_s=self._time(time_s))
        except SubstitutionError as error:
            raise await self._placed(error, build) from None
        except RenderError as error:
            raise await self._about(error, build, spec) from None
        return Rendering(
            objects=tuple(finished.objects),
            read_set=build.read_set,
            toolchain=build.toolchain,
            remote_bases=build.walk.remote_bases,
            secret=frozenset(finished.secret),
            secret_values=tuple(finished.secret_values),
            handed=dict(finished.handed),
            warnings=build.walk.warnings,
        )

    def _time(self, wanted: float | None) -> float:
        """What a build may take: workers are few, and who waits for one is not who wrote `spec.timeout`."""
        return self._limits.time_s if wanted is None else min(wanted, self._limits.time_s)

    async def places(self, tree: str, spec: RenderSpec, fields: Collection[Field]) -> dict[Field, str]:
        """Where fields of objects of a target are written, as `file:line`; of those that can be found."""
        return await anyio.to_thread.run_sync(self._find, tree, spec, fields)

    async def mentions(self, tree: str, spec: RenderSpec, names: Collection[Called]) -> Mentions:
        """Which of some objects the files of a target may give, which cannot be built.

        Raises:
            ObjectMissingError: when something of the tree is not in the store.
        """
        return await anyio.to_thread.run_sync(mentions, self._trees, tree, spec, names)

    async def origins(self, tree: str, spec: RenderSpec, fields: Collection[Field]) -> dict[Field, str]:
        """The same by the names that the build gives the objects, for which it is made once more, or twice.

        Remote bases are fetched for it; of what comes from them, the address is told.
        """
        places: dict[Field, str] = {}
        with anyio.move_on_after(PLACES_S), contextlib.suppress(RenderError, YamlError):
            build = await self.build(tree, traced(spec))
            root = build.walk.root
            found = await anyio.to_thread.run_sync(origins, self._trees, tree, root, build.text, fields)
            places = found.places
            if found.unclear:
                unclear = [field for field, place in places.items() if place in found.unclear]
                text = await self._marked(build, found.unclear)
                again = await anyio.to_thread.run_sync(origins, self._trees, tree, root, text, unclear)
                places |= again.places
        return places

    async def _marked(self, build: Build, paths: Collection[str]) -> str:
        """What is built where the objects of some files are marked."""
        instead = await anyio.to_thread.run_sync(marked, self._trees, build.tree, paths)
        found, remote = build.walk, bool(build.walk.remote_bases)
        checkout = None if remote or build.read_set == whole_tree(build.tree) else found.checkout
        return (await self._kustomize(build.tree, found, checkout, None, remote=remote, instead=instead))[0] or ""

    def _find(self, tree: str, spec: RenderSpec, fields: Collection[Field]) -> dict[Field, str]:
        try:
            found = walk(self._trees, tree, spec)
        except RenderError:
            return {}
        return places_of_fields(self._trees, tree, found, fields)

    async def _about(self, error: RenderError, build: Build, spec: RenderSpec) -> RenderError:
        """An error that begins with an object's name, with the place where that is written."""
        places: dict[Field, str] = {}
        for field in _fields_named(error.message):
            if places:
                break
            places = await anyio.to_thread.run_sync(places_of_fields, self._trees, build.tree, build.walk, {field})
            places = places or await self.origins(build.tree, spec, {field})
        where = f" (in {next(iter(places.values()))})" if places else ""
        placed = RenderError(f"{error.message}{where}", reason=error.reason, final=error.final)
        placed.read_set = build.read_set
        return placed

    async def _placed(self, error: SubstitutionError, build: Build) -> RenderError:
        """A variable without value, with the files and lines that refer to it."""
        places = await anyio.to_thread.run_sync(places_of_variable, self._trees, build.tree, build.walk, error.variable)
        where = f" (in {', '.join(places)})" if places else ""
        placed = RenderError(
            f"{error.message}{where}; give it a value in spec.postBuild, "
            f"or a default as in ${{{error.variable}:-default}}"
        )
        placed.read_set = build.read_set
        return placed

    def _key(self, found: Walk, spec: RenderSpec, toolchain: Sequence[Tool]) -> Digest:
        return digest_of(
            msgspec.json.encode([found.read_set, found.root, found.file, build_inputs(spec).decode(), toolchain])
        )

    async def _lead(
        self, key: Digest, tree: str, found: Walk, toolchain: tuple[Tool, ...], time_s: float | None
    ) -> Build:
        flight = self._flights[key] = _Flight()
        try:
            flight.build = await self._build_pure(key, tree, found, toolchain, time_s)
            self._keep(flight.build)
            return flight.build
        except RenderError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.ended.set()

    def _keep(self, build: Build) -> None:
        size = len(build.text)
        if size > KEPT_BYTES // 2:
            return
        self._kept[build.key] = build
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.text)

    async def _build_pure(
        self, key: Digest, tree: str, found: Walk, toolchain: tuple[Tool, ...], time_s: float | None
    ) -> Build:
        """On the read-set alone; on the whole tree when that fails and nothing that the walk saw explains it."""
        said = ""
        if not found.whole:
            try:
                text, said = await self._kustomize(tree, found, found.checkout, time_s)
            except RenderError as error:
                # A limit was met: by a text that multiplies itself, as likely as not.
                reasons = await anyio.to_thread.run_sync(diagnose, self._trees, tree, found, "")
                raise _failed(reasons, error.message, found.read_set, final=error.final) if reasons else error from None
            if text is not None:
                return Build(text, tree, key, found, found.read_set, toolchain)
            reasons = await anyio.to_thread.run_sync(diagnose, self._trees, tree, found, said)
            if reasons:
                raise _failed(reasons, said, found.read_set)
        text, said = await self._kustomize(tree, found, None, time_s)
        if text is None:
            raise _failed((), said, whole_tree(tree))
        return Build(text, tree, key, found, whole_tree(tree), toolchain)

    async def _build_impure(
        self, tree: str, spec: RenderSpec, found: Walk, toolchain: tuple[Tool, ...], time_s: float | None
    ) -> Build:
        if not self._remote_bases:
            error = RenderError(f"remote bases are not allowed here, and the build has {', '.join(found.remote_bases)}")
            error.read_set = found.read_set
            raise error
        if not self._fenced:
            error = RenderError(
                "remote bases cannot be built here, for this kernel has no Landlock to keep them within the source; "
                f"the build has {', '.join(found.remote_bases)}"
            )
            error.read_set = found.read_set
            raise error
        text, said = await self._kustomize(tree, found, None, time_s, remote=True)
        if text is None:
            reasons = await anyio.to_thread.run_sync(diagnose, self._trees, tree, found, said)
            raise _failed(reasons, said, whole_tree(tree), final=bool(reasons))
        return Build(text, tree, self._key(found, spec, toolchain), found, whole_tree(tree), toolchain)

    async def _kustomize(
        self,
        tree: str,
        found: Walk,
        paths: Sequence[str] | None,
        time_s: float | None,
        *,
        remote: bool = False,
        instead: Mapping[str, bytes] = MappingProxyType({}),
    ) -> tuple[str | None, str]:
        """The output, or None and what kustomize said; some files are read as they are given here."""
        kubectl = str(await anyio.to_thread.run_sync(kustomize.program))
        # As many checkouts as workers: a thousand targets at once do not fill the disk.
        fetching = self._remote_places if remote else contextlib.nullcontext()
        async with fetching, self._places, self._directory() as place:
            checkout = place / "tree"
            await anyio.to_thread.run_sync(_check_out, self._trees, tree, found, paths, checkout, instead)
            job = self._job(kustomize.build_command(kubectl, str(checkout / found.root)), place, kubectl, remote=remote)
            ran = await self._workers.run(job, time_s=self._time(time_s))
            if ran.code:
                kustomize.require_explained(ran.code, ran.errors)
                return None, await anyio.to_thread.run_sync(self._said, tree, found, ran.errors, str(checkout), remote)
            return kustomize.text(ran.output), ""

    def _said(self, tree: str, found: Walk, errors: bytes, checkout: str, remote: bool) -> str:  # noqa: FBT001
        """What kustomize said, without secret values. Blocks."""
        return kustomize.readable(errors, checkout, suspects(self._trees, tree, found), remote=remote)

    def _job(self, command: tuple[str, ...], place: Path, kubectl: str, *, remote: bool) -> Run:
        system = kustomize.system(remote=remote)
        home = place / "home"
        reach = Reach(
            read=(str(place / "tree"), *system.read),
            execute=(kubectl, *system.execute),
            write=(str(home), "/dev/null"),
            network=remote,
        )
        return Run(
            command=command,
            directory=str(place),
            home=str(home),
            search=system.search,
            reach=reach,
            memory_bytes=self._limits.memory_bytes,
            output_bytes=self._limits.output_bytes,
        )

    @contextlib.asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        """A directory with `tree` and `home` in it, that is gone afterwards."""
        place = await anyio.to_thread.run_sync(self._scratch.make)
        try:
            yield place
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(shutil.rmtree, place, True)  # noqa: FBT003 - errors are ignored


def _fields_named(message: str) -> list[Field]:
    """The names that an error may begin with."""
    found = (pattern.match(message) for pattern in (_named, _misnamed))
    return list(dict.fromkeys((match["kind"], match["name"], "") for match in found if match is not None))


def _write(files: Mapping[str, bytes], into: Path) -> None:
    for name, content in files.items():
        file = into / name
        file.touch(mode=0o600)
        file.write_bytes(content)


def _check_out(
    trees: Trees, tree: str, found: Walk, paths: Sequence[str] | None, into: Path, instead: Mapping[str, bytes]
) -> None:
    """Writes what the build may read: no links, and the target's own kustomization file."""
    trees.checkout(tree, None if paths is None or "" in paths else paths, into)
    make_private(into)
    for path, content in {**instead, found.file: found.content}.items():
        file = into / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o600)


def _settings(
    spec: RenderSpec,
    owner: ObjectKey,
    variables: Mapping[str, str],
    secret: frozenset[str],
    handed: Handed,
    *,
    strict: bool,
) -> Settings:
    common = spec.common_metadata or CommonMetadata()
    own = spec.post_build.substitute.keys() if spec.post_build else frozenset()
    return Settings(
        owner_name=owner.name,
        owner_namespace=owner.namespace,
        labels=common.labels,
        annotations=common.annotations,
        variables=_variables(spec.post_build, variables),
        secret_variables=(secret - own) | (handed.variables & own) if spec.post_build else frozenset(),
        strict=strict,
        handed_values=handed.values,
    )


def _variables(post_build: PostBuild | None, variables: Mapping[str, str]) -> dict[str, str] | None:
    """Contract KS-058, KS-059, KS-061: the spec's own win, and values have no line breaks."""
    if post_build is None:
        return None
    merged = {name: value.replace("\n", "") for name, value in {**variables, **post_build.substitute}.items()}
    return merged if merged or post_build.substitute_strategy == "Always" else None


def _failed(reasons: Sequence[str], said: str, read_set: tuple[ReadEntry, ...], *, final: bool = True) -> RenderError:
    words = f"kustomize build failed: {'; '.join(reasons) or said}"
    if reasons and said:
        # It says where it was on the way first, and in the end what is wrong.
        told = said if len(said) <= SAID_MAX else f"…{said[-SAID_MAX:]}"
        words += f" (kustomize says: {told})"
    error = RenderError(words, final=final)
    error.read_set = read_set
    return error


def _copy(error: RenderError) -> RenderError:
    """For each who waits one of its own: an exception carries the traceback of one."""
    copied = RenderError(error.message, reason=error.reason, final=error.final)
    copied.read_set = error.read_set
    return copied
