"""Objects become structs; what is wrong with one is said with its path, all of it, in plain words."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kinds.samples import (
    ACCEPTED,
    KIND_OF,
    REFUSED,
    SOURCE,
    TARGET,
    WHOLE_BUCKET,
    WHOLE_HELM_CHART,
    WHOLE_HELM_RELEASE,
    WHOLE_HELM_REPOSITORY,
    WHOLE_OCI,
    WHOLE_SOURCE,
    WHOLE_TARGET,
    Sample,
    changed,
)
from tidelog.engine.kinds.decode import InvalidObjectError, decode, encode, problems, unknown_fields
from tidelog.engine.kinds.gitrepository import GitReference, GitRepository
from tidelog.engine.kinds.kustomization import Kustomization
from tidelog.engine.kinds.meta import REQUESTED_AT
from tidelog.engine.objects.kube import KubeObject

WHOLE = (
    WHOLE_SOURCE,
    WHOLE_TARGET,
    WHOLE_OCI,
    WHOLE_BUCKET,
    WHOLE_HELM_REPOSITORY,
    WHOLE_HELM_CHART,
    WHOLE_HELM_RELEASE,
)


def ids(samples: list[Sample]) -> list[str]:
    return [f"{index} {sample.id}" for index, sample in enumerate(samples)]


@pytest.mark.parametrize("sample", ACCEPTED, ids=ids(ACCEPTED))
def test_what_flux_accepts_is_decoded_and_keeps_its_meaning(sample: Sample) -> None:
    kind = KIND_OF[sample.object["kind"]]
    read = decode(kind, sample.object)
    assert unknown_fields(kind, sample.object) == ()
    again = decode(kind, sample.object | {"spec": encode(read.spec)})
    assert again.spec == read.spec


@pytest.mark.parametrize("sample", REFUSED, ids=ids(REFUSED))
def test_what_flux_refuses_is_refused_with_its_path(sample: Sample) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        decode(KIND_OF[sample.object["kind"]], sample.object)
    assert [problem.path for problem in caught.value.problems][:1] == [sample.id]
    assert str(caught.value).startswith(f"{sample.id}: ")


@pytest.mark.parametrize("obj", WHOLE, ids=lambda obj: obj["kind"])
def test_every_field_of_a_spec_is_read_and_written(obj: KubeObject) -> None:
    kind = KIND_OF[obj["kind"]]
    read: Any = decode(kind, obj)
    written = encode(read.spec)
    # False is what these are without being given, but for this one.
    given = {name: value for name, value in obj["spec"].items() if value is not False or name == "persistentClient"}
    # `prune` has no default, and is written whatever it is; durations are written as Go does.
    given["prune"] = obj["spec"].get("prune")
    written.setdefault("prune", None)
    for name in ("interval", "timeout", "retryInterval"):
        given.pop(name, None)
        written.pop(name, None)
    assert written == given


def test_all_problems_are_told_at_once() -> None:
    obj = changed(changed(TARGET, "spec.interval", 5), "spec.dependsOn", [{"name": "a"}, {"name": None}, {}])
    assert [str(problem) for problem in problems(Kustomization, obj)] == [
        "spec.dependsOn[1].name: must be text, and is null",
        "spec.dependsOn[2].name: is required, and missing",
        "spec.interval: must be a duration such as 30s, 5m or 1h30m, and is a number",
    ]


@pytest.mark.parametrize("whole", [None, [], "text"])
def test_a_spec_that_is_none_is_told(whole: Any) -> None:
    with pytest.raises(InvalidObjectError, match=r"^spec: must be an object"):
        decode(GitRepository, changed(SOURCE, "spec", whole))


def test_an_object_without_a_spec_is_told() -> None:
    with pytest.raises(InvalidObjectError, match=r"^spec: is required, and missing$"):
        decode(GitRepository, changed(SOURCE, "spec", ...))


def test_a_password_in_an_address_is_not_told() -> None:
    with pytest.raises(InvalidObjectError) as caught:
        decode(GitRepository, changed(SOURCE, "spec.url", "ftp://me:hunter2@git.example.com/a"))
    assert "hunter2" not in str(caught.value)


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidObjectError) as caught:
        decode(GitRepository, changed(SOURCE, "spec.provider", "x" * 10_000))
    assert len(str(caught.value)) < 300


def test_fields_that_a_kind_does_not_have_are_listed_and_do_no_harm() -> None:
    obj = changed(TARGET, "spec.validation", "client")
    obj = changed(obj, "spec.dependsOn", [{"name": "a", "wait": True}])
    obj = changed(obj, "spec.postBuild", {"substitute": {"any": "name"}, "substituteAll": True})
    obj = changed(obj, "metadata.managedFields", [])
    decode(Kustomization, obj)
    assert sorted(unknown_fields(Kustomization, obj)) == [
        "spec.dependsOn[0].wait",
        "spec.postBuild.substituteAll",
        "spec.validation",
    ]


def test_what_the_code_takes_for_fields_that_are_not_given() -> None:
    source = decode(GitRepository, changed(SOURCE, "spec.ref", ...)).spec
    assert source.timeout.seconds == 60
    assert source.reference == GitReference(branch="master")
    assert source.effective_provider == "generic"
    assert source.ignore is None
    target = decode(Kustomization, changed(TARGET, "spec.timeout", ...)).spec
    assert target.effective_retry_interval == target.interval
    assert target.effective_deletion_policy == "MirrorPrune"
    checks = decode(Kustomization, WHOLE_TARGET).spec.health_checks
    assert [(check.kind, check.effective_api_version) for check in checks] == [
        ("Deployment", "apps/v1"),
        ("StatefulSet", "apps/v1"),
    ]


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"),
    [("10m", None, 570), ("45s", None, 30), ("1m", None, 30), ("10m", "2m", 120), ("10m", "5s", 30)],
)
def test_the_time_limit_of_a_target_leaves_30_s_of_the_interval_and_is_at_least_30_s(
    interval: str, timeout: str | None, seconds: int
) -> None:
    obj = changed(changed(TARGET, "spec.interval", interval), "spec.timeout", timeout or ...)
    assert decode(Kustomization, obj).spec.effective_timeout.seconds == seconds


def test_a_ref_of_all_fields_is_kept_whole() -> None:
    assert decode(GitRepository, WHOLE_SOURCE).spec.reference.name == "refs/pull/420/head"


def test_metadata_tells_what_steers_the_engine() -> None:
    obj = changed(SOURCE, "metadata", {"name": "a", "annotations": {REQUESTED_AT: "7"}, "deletionTimestamp": "now"})
    metadata = decode(GitRepository, obj).metadata
    assert (metadata.requested_at, metadata.deleting) == ("7", True)
    plain = decode(GitRepository, SOURCE).metadata
    assert (plain.requested_at, plain.deleting) == (None, False)


def test_a_source_reference_prints_as_messages_name_it() -> None:
    assert str(decode(Kustomization, TARGET).spec.source_ref) == "GitRepository/podinfo"
    assert str(decode(Kustomization, WHOLE_TARGET).spec.source_ref) == "OCIRepository/x/fleet"


def test_a_duration_that_the_api_takes_and_no_clock_can_hold_is_told() -> None:
    with pytest.raises(InvalidObjectError, match=r"^spec\.interval: '9999999999h' is too long"):
        decode(Kustomization, changed(TARGET, "spec.interval", "9999999999h"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below: list[tuple[str | int, ...]] = []
    if isinstance(value, dict):
        below = [place for key, element in value.items() for place in places(element, (*path, key))]
    elif isinstance(value, list):
        below = [place for index, element in enumerate(value) for place in places(element, (*path, index))]
    return [path, *below]


@given(st.sampled_from([WHOLE_SOURCE, WHOLE_TARGET]), st.data(), JSON)
def test_whatever_stands_in_a_field_is_read_or_told_with_its_path(
    obj: KubeObject, data: st.DataObject, value: object
) -> None:
    broken = copy.deepcopy(obj)
    *parents, last = data.draw(st.sampled_from(places(obj["spec"])[1:]))
    place = broken["spec"]
    for parent in parents:
        place = place[parent]
    place[last] = value
    kind = KIND_OF[obj["kind"]]
    unknown_fields(kind, broken)
    found = problems(kind, broken)
    assert all(problem.path.startswith("spec") for problem in found)
    if not found:
        decode(kind, broken)
