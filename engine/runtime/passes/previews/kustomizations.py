"""Previews of Kustomizations."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.meta import KUSTOMIZE_GROUP
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.paths import root_path
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.errors import PreviewError, RefusedError
from tidelog.engine.runtime.leads import Beside
from tidelog.engine.runtime.memory import newest_of
from tidelog.engine.runtime.passes.moves import Moves
from tidelog.engine.runtime.passes.placing import placed
from tidelog.engine.runtime.passes.previews.common import Once, Preview, Previews, values_of
from tidelog.engine.runtime.rendered import render_spec, sealed
from tidelog.engine.runtime.requests import told
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.scope import in_its_place
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import (
    DeclaredKustomization,
    is_kustomization,
    read_declared,
    source_of,
)
from tidelog.engine.runtime.wishes import TreeOf, Wishes
from tidelog.engine.sources.directory import DirectoryTree
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections.desired import objects_cluster
from tidelog.storage.trees import Trees


class KustomizationPreviews(Previews):
    """Makes previews of Kustomizations."""

    async def of_source(self, target: StreamName) -> Preview:
        """What would become of a target now: by its source's last revision, or the moment that it is pinned to.

        Raises:
            PreviewError: when there is nothing to plan with.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        source = self._facts.desired.get(self._source_of(declared))
        if source is None or source.revision is None or source.tree is None:
            ref = declared.spec.source_ref
            raise PreviewError(f"{ref.kind} {ref.name} has no artifact yet: there is nothing to plan with")
        row = self._facts.desired.get(target)
        if row is not None and row.pinned is not None and row.pinned.left == source.revision:
            return await self.of_moment(target, row.pinned.position)
        return await self._of_tree(declared, self._artifacts, source.tree, source.revision)

    async def of_directory(self, target: StreamName, directory: Path) -> Preview:
        """What would become of a target if its source had the files of a directory.

        Raises:
            PreviewError: when there is nothing to plan with.
            DirectoryError, FetchError: when the directory cannot be taken as a tree.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        ignore = await self._ignore_of(declared)
        tree = await anyio.to_thread.run_sync(DirectoryTree.of, directory, ignore)
        path = declared.spec.path or "./"
        entry = tree.entry(tree.root, root_path(path))
        if entry is None or entry.kind != "tree":
            shown = values_of(declared).filter(path)
            raise PreviewError(
                f"there is no directory {shown} in {directory}, and {told(target)} is built from that: "
                "name the root of the repository"
            )
        return await self._of_tree(declared, tree, tree.root, Revision(f"local@sha1:{tree.root}"))

    async def of_moment(self, target: StreamName, position: int) -> Preview:
        """What would become of a target if it were to want what it wanted at a position of the log.

        Raises:
            RefusedError: when it wanted nothing then.
            PreviewError: when what it wanted cannot be read any more.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        rendered = await self._renderings.at(target, position)
        if rendered is None or not rendered.wanted:
            raise RefusedError(f"{told(target)} wanted nothing at position {position}: give a later moment")
        revision = rendered.revision or Revision("")
        async with self._renderer(self._artifacts) as renderer:
            moves = await self._moves(declared, renderer, partial(newest_of, self._facts))
            return await self._planned(
                self._situation(declared), declared, rendered, revision, values_of(declared), moves=moves
            )

    async def share_source(self, one: StreamName, other: StreamName) -> bool:
        """Whether two targets are built from the same source."""
        found = [read_declared(await self._live(each, "v1"), self._alias) for each in (one, other)]
        sources = {source_of(each) for each in found if is_kustomization(each)}
        return len(sources) == 1

    # The way of a pass.

    async def _of_tree(self, declared: DeclaredKustomization, trees: Trees, tree: str, revision: Revision) -> Preview:
        secrets = values_of(declared)
        spec = declared.spec
        try:
            variables = await read_variables(Once(self._cluster), declared, self._keys.key)
            secrets.add(variables.secret_values)
            async with self._renderer(trees) as renderer:
                rendering = await renderer.render(
                    tree,
                    render_spec(spec),
                    declared.key,
                    variables.values,
                    variables.secret_names,
                    variables.handed,
                    time_s=spec.effective_timeout.seconds,
                )
                rendering = await in_its_place(rendering, self._there.cluster)
                made = sealed(rendering, await self._sealer(key.id for key in rendering.secret), secrets)
                moves = await self._moves(declared, renderer, self._trees_of(declared, trees, tree, revision))
                preview = await self._planned(
                    self._situation(declared), declared, made.set, revision, secrets, moves=moves
                )
                if not preview.failed:
                    return preview
                failed = await placed(renderer, tree, spec, preview.failed)
        except (RenderError, StageError) as error:
            raise PreviewError(secrets.filter(str(error))) from None
        return msgspec.structs.replace(preview, failed=tuple(failed))

    # What it takes.

    async def _moves(self, own: DeclaredKustomization, renderer: Renderer, tree_of: TreeOf) -> Moves:
        """What is known of objects that come to a target, or go from it, in what its source would be."""

        async def variables_of(target: DeclaredKustomization) -> Variables:
            return await read_variables(Once(self._cluster), target, self._keys.key)

        wishes = Wishes(
            self._facts,
            self._alias,
            self._settings,
            self._renderings,
            renderer,
            variables_of,
            tree_of,
            self._cluster,
        )
        targets = await self._others(own)

        async def beside(some: Mapping[StreamName, DeclaredKustomization]) -> Beside:
            return Beside({stream: one for stream, one in some.items() if self._is_beside(own, one)})

        return Moves(wishes, lambda: targets, beside, self._there.cluster, self._cluster, self._settings, own)

    def _is_beside(self, own: DeclaredKustomization, other: DeclaredKustomization) -> bool:
        """Whether another target is applied to the same cluster: by the same kubeconfig, or as the log knows."""
        mine, its = own.spec.kube_config, other.spec.kube_config
        if mine is None or its is None:
            return mine is its
        known = objects_cluster(other.stream, self._facts.desired.get(other.stream))
        return other.key.namespace == own.key.namespace and (mine == its or known == self._there.alias)

    async def _others(self, own: DeclaredKustomization) -> dict[StreamName, DeclaredKustomization]:
        """The other targets that the daemon looks after."""
        kind = await self._cluster.kind(f"{KUSTOMIZE_GROUP}/v1", "Kustomization")
        namespace = self._settings.watched_namespace
        listing = await self._cluster.list(kind, namespace=namespace, labels=self._settings.watch_label_selector)
        found = (read_declared(live, self._alias) for live in listing.items)
        return {
            target.stream: target
            for target in found
            if isinstance(target.spec, KustomizationSpec) and target.stream != own.stream
        }

    def _trees_of(self, own: DeclaredKustomization, trees: Trees, tree: str, revision: Revision) -> TreeOf:
        """What other targets would be built from: who has the same source, from the same tree."""

        def tree_of(source: StreamName) -> tuple[Revision, str] | None:
            if source == self._source_of(own):
                return revision, tree
            return newest_of(self._facts, source) if trees is self._artifacts else None

        return tree_of

    async def _declared(self, target: StreamName) -> DeclaredKustomization:
        declared = read_declared(await self._live(target, "v1"), self._alias)
        if not is_kustomization(declared):
            raise PreviewError(f"{told(target)} is no Kustomization")
        await self._prepared(declared, self._kustomization)
        return declared

    def _source_of(self, declared: DeclaredKustomization) -> StreamName:
        return source_of(declared).stream(self._alias)

    async def _ignore_of(self, declared: DeclaredKustomization) -> str | None:
        """The ignore rules of the target's source, where it has some."""
        key = source_of(declared)
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None
        ignore = live["spec"].get("ignore")
        return ignore if isinstance(ignore, str) else None
