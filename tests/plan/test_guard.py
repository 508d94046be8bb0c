"""Which deletions look like an accident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.logs import digest, target
from tidelog.engine.plan.model import Action, Plan, Step
from tidelog.engine.verify.guard import Guard, Held, Owned, accident
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId

CRD = ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.com").id
CLAIM = ObjectKey("", "PersistentVolumeClaim", "shop", "data").id
VOLUME = ObjectKey("", "PersistentVolume", "", "data").id
NAMESPACE = ObjectKey("", "Namespace", "", "shop").id
OWN_NAMESPACE = ObjectKey("", "Namespace", "", "flux-system").id
LOOKALIKE = ObjectKey("example.com", "Namespace", "shop", "shop").id


def step(id: ObjectId, action: Action = "delete") -> Step:
    return Step(object=id, api_version="v1", action=action, uid="u")


def config_maps(count: int) -> list[ObjectId]:
    return [ObjectKey("", "ConfigMap", "shop", f"item-{number}").id for number in range(count)]


def plan(*prunes: Step, waves: tuple[tuple[Step, ...], ...] = ()) -> Plan:
    return Plan(
        id=PlanId("p"),
        run=RunId("r"),
        target=target("east", "shop"),
        revision=Revision("main"),
        set=digest("set"),
        waves=waves,
        prunes=prunes,
    )


def verdict(ids: list[ObjectId], guard: Guard = Guard(), **owned: object) -> Held | None:  # noqa: B008 - immutable
    whole: dict[str, object] = {"objects": 1_000, **owned}
    return accident(guard, plan(*map(step, ids)), Owned(**whole))  # type: ignore[arg-type]


@pytest.mark.parametrize("id", [CRD, CLAIM, VOLUME, NAMESPACE])
def test_the_loss_of_what_no_apply_brings_back_is_held(id: ObjectId) -> None:
    held = verdict([id])
    assert held is not None
    assert held.check == "prune-guard"
    assert ObjectKey.parse(id).name in held.why


def test_what_would_be_lost_with_a_target_is_held_unless_it_was_approved_before() -> None:
    child = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "infra").id
    held = verdict([child], lost={child: [NAMESPACE, CRD]}, asked_for=True)
    assert held is not None
    assert held.why == (
        "it deletes Kustomization/flux-system/infra and with it Namespace/shop, "
        "CustomResourceDefinition/widgets.example.com, which no other apply brings back"
    )
    assert verdict([child], lost={child: [NAMESPACE, CRD]}, allowed=[NAMESPACE, CRD]) is None
    held = verdict([child, CLAIM], lost={child: [NAMESPACE, CRD]}, allowed=[NAMESPACE])
    assert held is not None
    assert "PersistentVolumeClaim/shop/data, and Kustomization/" in held.why
    assert "Namespace" not in held.why
    assert verdict([child], Guard(destructive=True), lost={child: [NAMESPACE]}) is None
    assert verdict([child], Guard(destructive=True), lost={child: [OWN_NAMESPACE]}) is not None


def test_what_the_plan_keeps_in_a_namespace_that_it_deletes_is_said() -> None:
    (kept, other) = config_maps(2)
    elsewhere = ObjectKey("", "ConfigMap", "else", "x").id
    waves = ((step(kept, "unchanged"), step(elsewhere, "unchanged")),)
    held = accident(Guard(), plan(step(NAMESPACE), step(other), waves=waves), Owned(objects=10))
    assert held is not None
    assert held.why == (
        "it deletes Namespace/shop, which no other apply brings back; "
        "it keeps ConfigMap/shop/item-0, and what is in a namespace goes with it"
    )


def test_making_it_anew_is_a_loss_too() -> None:
    made_anew = plan(waves=((step(CLAIM, "recreate"),),))
    assert accident(Guard(), made_anew, Owned(objects=10)) is not None


@pytest.mark.parametrize("action", ["create", "update", "unchanged", "skip"])
def test_what_is_not_deleted_is_no_loss(action: Action) -> None:
    assert accident(Guard(), plan(step(NAMESPACE, "skip"), waves=((step(CLAIM, action),),)), Owned(objects=10)) is None


def test_another_kind_of_that_name_is_none_of_them() -> None:
    assert verdict([LOOKALIKE]) is None


def test_even_somebody_who_deletes_the_target_is_asked_about_such_losses() -> None:
    assert verdict([NAMESPACE], asked_for=True) is not None


def test_who_allows_such_losses_is_not_asked_but_for_the_engines_own_namespace() -> None:
    assert verdict([CRD, CLAIM, NAMESPACE], Guard(destructive=True)) is None
    assert verdict([OWN_NAMESPACE], Guard(destructive=True)) is not None
    assert verdict([NAMESPACE], Guard(destructive=True, namespace="shop")) is not None


def test_a_guard_that_is_switched_off_holds_nothing() -> None:
    assert verdict([OWN_NAMESPACE, *config_maps(500)], Guard(enabled=False), taken_over=True, objects=500) is None


def test_the_first_deletion_after_another_engine_was_in_charge_is_held_whatever_it_is() -> None:
    held = verdict(config_maps(1), taken_over=True)
    assert held is not None
    assert held.check == "taken-over"
    assert verdict(config_maps(1), taken_over=True, asked_for=True) is not None
    assert verdict([], taken_over=True) is None


@pytest.mark.parametrize(("count", "is_held"), [(19, False), (20, False), (21, True)])
def test_more_than_so_many_deletions_are_held(count: int, is_held: bool) -> None:
    assert (verdict(config_maps(count)) is not None) == is_held


@pytest.mark.parametrize(
    ("deleted", "objects", "is_held"),
    [
        (4, 4, False),  # of so few, most is soon gone on purpose
        (5, 10, False),  # half is not more than half
        (5, 9, True),
        (6, 11, True),
        (6, 12, False),
        (20, 1_000, False),
    ],
)
def test_more_than_half_of_a_target_is_held_from_five_objects_on(deleted: int, objects: int, is_held: bool) -> None:
    assert (verdict(config_maps(deleted), objects=objects) is not None) == is_held


@pytest.mark.parametrize(
    ("deleted", "below", "is_held"),
    [(1, 19, False), (1, 20, True), (2, 19, True), (2, 18, False)],
)
def test_what_another_target_owns_counts_with_it(deleted: int, below: int, is_held: bool) -> None:
    """A Kustomization that is pruned takes with it what it applied."""
    assert (verdict(config_maps(deleted), below=below) is not None) == is_held


def test_what_another_target_owns_is_said() -> None:
    held = verdict(config_maps(1), below=30)
    assert held is not None
    assert "with 30 that these own" in held.why


def test_who_deletes_the_target_itself_means_all_it_owns() -> None:
    assert verdict(config_maps(500), objects=500, asked_for=True) is None


def test_what_the_engine_deleted_with_the_target_is_counted_but_not_its_share() -> None:
    assert verdict(config_maps(20), objects=20, deleting=True) is None
    assert verdict(config_maps(21), objects=21, deleting=True) is not None
    assert verdict(config_maps(1), objects=1, deleting=True, below=20) is not None


def test_few_are_named_and_the_others_counted() -> None:
    held = verdict(config_maps(500))
    assert held is not None
    assert held.why == (
        "it deletes ConfigMap/shop/item-0, ConfigMap/shop/item-1, ConfigMap/shop/item-2, ConfigMap/shop/item-3, "
        "ConfigMap/shop/item-4 and 495 more: more than 20 objects"
    )


@given(deleted=st.integers(0, 60), objects=st.integers(0, 100), most=st.integers(0, 50), share=st.integers(0, 100))
def test_it_is_held_exactly_when_a_bound_is_passed(deleted: int, objects: int, most: int, share: int) -> None:
    objects = max(objects, deleted)
    guard = Guard(deletions_max=most, share_max=share)
    held = verdict(config_maps(deleted), guard, objects=objects)
    too_many = deleted > most
    too_large_a_share = deleted >= guard.share_from and deleted / max(objects, 1) > share / 100
    assert (held is not None) == (too_many or too_large_a_share)


def test_a_blast_radius_names_the_first_losses_and_counts_the_others() -> None:
    claims = [step(ObjectKey("", "PersistentVolumeClaim", "shop", f"data-{number}").id) for number in range(2_000)]
    radius = plan(*claims).blast_radius
    assert (radius.delete, len(radius.destructive), radius.destructive_more) == (2_000, 50, 1_950)
    assert radius.destructive[0] == claims[0].object
