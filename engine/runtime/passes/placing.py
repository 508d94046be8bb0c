"""In which file and line an object is written that a verdict is about."""

from collections.abc import Sequence

import msgspec

from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.rendered import render_spec, written_as
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import Verdict
from tidelog.storage.artifacts.errors import ObjectMissingError


async def placed(renderer: Renderer, tree: str, spec: KustomizationSpec, failed: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts with the file and line where their objects are written, where that can be told."""
    keys = [ObjectKey.parse(verdict.object) for verdict in failed if verdict.object]
    try:
        places = await _places(renderer, tree, spec, keys)
    except ObjectMissingError:
        return list(failed)  # what is lost is fetched again by the next build
    told = []
    for verdict in failed:
        place = places.get(ObjectKey.parse(verdict.object)) if verdict.object else None
        message = f"{verdict.message} (in {place})" if place else verdict.message
        told.append(msgspec.structs.replace(verdict, message=message))
    return told


async def _places(
    renderer: Renderer, tree: str, spec: KustomizationSpec, keys: Sequence[ObjectKey]
) -> dict[ObjectKey, str]:
    """By the names in the files; of those that only the build gives their names, as the build tells it."""
    forms = {key: written_as(spec, key) for key in keys}
    found = await renderer.places(tree, render_spec(spec), {name for names in forms.values() for name in names})
    places = {key: found[name] for key, names in forms.items() for name in names if name in found}
    rest = {(key.kind, key.name): key for key in keys if key not in places}
    if rest:
        made = await renderer.origins(tree, render_spec(spec), rest)
        places |= {rest[called]: place for called, place in made.items()}
    return places
