"""In which file and line an object is written that a verdict is about."""

from collections.abc import Collection, Sequence
from typing import TypeAlias

import msgspec

from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.rendered import render_spec, written_as
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import Verdict
from tidelog.storage.artifacts.errors import ObjectMissingError

_Field: TypeAlias = tuple[ObjectKey, str]
"""An object, and the path of a field of it."""


async def placed(renderer: Renderer, tree: str, spec: KustomizationSpec, failed: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts with the file and line where their objects are written, where that can be told."""
    asked = {verdict: (ObjectKey.parse(verdict.object), verdict.path) for verdict in failed if verdict.object}
    try:
        places = await _places(renderer, tree, spec, set(asked.values()))
    except ObjectMissingError:
        return list(failed)  # what is lost is fetched again by the next build
    told = []
    for verdict in failed:
        place = places.get(asked[verdict]) if verdict in asked else None
        message = f"{verdict.message} (in {place})" if place else verdict.message
        told.append(msgspec.structs.replace(verdict, message=message))
    return told


async def _places(
    renderer: Renderer, tree: str, spec: KustomizationSpec, fields: Collection[_Field]
) -> dict[_Field, str]:
    """By the names in the files; of objects that only the build gives their names, as the build tells it."""
    forms = {field: [(*name, field[1]) for name in written_as(spec, field[0])] for field in fields}
    found = await renderer.places(tree, render_spec(spec), {form for some in forms.values() for form in some})
    places = {field: found[form] for field, some in forms.items() for form in some if form in found}
    rest = {field: (field[0].kind, field[0].name, field[1]) for field in fields if field not in places}
    if rest:
        made = await renderer.origins(tree, render_spec(spec), set(rest.values()))
        places |= {field: made[form] for field, form in rest.items() if form in made}
    return places
