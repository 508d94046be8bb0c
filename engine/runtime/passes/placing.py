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
    forms = {verdict.object: written_as(spec, ObjectKey.parse(verdict.object)) for verdict in failed if verdict.object}
    try:
        places = await renderer.places(tree, render_spec(spec), {name for names in forms.values() for name in names})
    except ObjectMissingError:
        return list(failed)  # what is lost is fetched again by the next build
    told = []
    for verdict in failed:
        names = forms[verdict.object] if verdict.object else ()
        place = next((places[name] for name in names if name in places), None)
        message = f"{verdict.message} (in {place})" if place else verdict.message
        told.append(msgspec.structs.replace(verdict, message=message))
    return told
