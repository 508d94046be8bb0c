import base64
from typing import Any

import msgspec
import pytest
import trustme

from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.postbuild import Finished, Settings, finish
from tidelog.events.names import ObjectKey

SETTINGS = Settings("apps", "flux-system")
OWNER = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}


def text_of(*objects: dict[str, Any]) -> str:
    return "---\n".join(msgspec.json.encode(found).decode() + "\n" for found in objects)


def configmap(name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}


def with_variables(text: str, variables: dict[str, str], **more: Any) -> Finished:
    return finish(text, msgspec.structs.replace(SETTINGS, variables=variables, **more))


def test_every_object_says_whose_it_is() -> None:
    found = finish(text_of(configmap("a", metadata={"labels": {"x": "y"}}), configmap("b")), SETTINGS).objects

    assert [one["metadata"]["labels"] for one in found] == [{"x": "y", **OWNER}, OWNER]


def test_common_metadata_wins_and_is_not_substituted() -> None:
    text = text_of(configmap("a", metadata={"labels": {"team": "old"}}, data={"x": "${v}"}))
    (found,) = with_variables(text, {"v": "new"}, labels={"team": "${v}"}, annotations={"note": "$$"}).objects

    assert found["metadata"]["labels"] == {"team": "${v}", **OWNER}
    assert found["metadata"]["annotations"] == {"note": "$$"}
    assert found["data"] == {"x": "new"}


def test_lists_are_flattened_in_place() -> None:
    text = text_of(configmap("a"), {"apiVersion": "v1", "kind": "List", "items": [configmap("b"), configmap("c")]})

    assert [one["metadata"]["name"] for one in finish(text, SETTINGS).objects] == ["a", "b", "c"]


def pod(containers: list[Any]) -> dict[str, Any]:
    return {"containers": containers}


@pytest.mark.parametrize(
    ("api_version", "kind", "path"),
    [
        ("v1", "Pod", "spec"),
        ("apps/v1", "Deployment", "spec.template.spec"), ("batch/v1", "Job", "spec.template.spec"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template.spec"), ("apps/v1", "DaemonSet", "spec.template.spec"),
    ],
)  # fmt: skip
def test_ports_get_their_protocol(api_version: str, kind: str, path: str) -> None:
    inner: Any = pod([{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2, "protocol": "UDP"}]}])
    for field in reversed(path.split(".")):
        inner = {field: inner}
    text = text_of({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **inner})
    found: Any = finish(text, SETTINGS).objects[0]
    for field in path.split("."):
        found = found[field]

    assert [port["protocol"] for port in found["containers"][0]["ports"]] == ["TCP", "UDP"]


def test_normal_form() -> None:
    objects = (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 1}]},
            "status": {},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "creationTimestamp": None},
            "data": {"a": "b2xk", "b": "a2VwdA=="},
            "stringData": {"a": "new"},
        },
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "c"},
            "status": {"x": 1},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "r", "creationTimestamp": None},
        },
    )
    service, secret, crd, role = finish(text_of(*objects), SETTINGS).objects

    assert service["spec"] == {"ports": [{"port": 1, "protocol": "TCP"}]}
    assert "status" not in service
    assert secret["data"] == {"a": base64.b64encode(b"new").decode(), "b": "a2VwdA=="}
    assert "stringData" not in secret
    assert "creationTimestamp" not in secret["metadata"]
    assert crd["status"] == {"x": 1}
    assert role["metadata"]["creationTimestamp"] is None, "roles are left as they are"


@pytest.mark.parametrize(
    "fields",
    [
        {"stringData": "token"},
        {"stringData": ["token"]},
        {"stringData": {"a": 1}},
        {"stringData": {"a": True}},
        {"stringData": {"a": {"b": "c"}}},
        {"stringData": {"a": "b"}, "data": ["c"]},
        {"stringData": {"a": "b"}, "data": "c"},
    ],
    ids=str,
)
def test_a_malformed_secret_is_left_for_the_server_to_refuse(fields: dict[str, Any]) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **fields}
    found = finish(text_of(secret), SETTINGS).objects[0]
    assert {**found, "metadata": secret["metadata"]} == secret


@pytest.mark.parametrize("fields", [{"stringData": {}}, {"stringData": None}, {"stringData": {"a": None}}], ids=str)
def test_a_secret_without_texts_is_one_without_data(fields: dict[str, Any]) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    found = finish(text_of(secret | fields), SETTINGS).objects[0]
    assert {**found, "metadata": secret["metadata"]} == secret


CERTIFICATE = trustme.CA().cert_pem.bytes()


@pytest.mark.parametrize(
    ("bundle", "kept"),
    [
        (base64.b64encode(CERTIFICATE).decode(), True),
        (base64.b64encode(b"a comment\n" + CERTIFICATE * 2).decode(), True),
        ("", True),
        ("Cg==", False),  # a line break, as generators of manifests write for one that is yet to come
        ("no base64", False),
        (base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode(), False),
    ],
)
def test_a_ca_bundle_without_a_certificate_is_left_out_of_a_definition(bundle: str, *, kept: bool) -> None:
    client = {"service": {"name": "s", "namespace": "n"}, "caBundle": bundle}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "c"},
        "spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": client}}},
    }
    (found,) = finish(text_of(definition), SETTINGS).objects

    expected = client if kept else {"service": client["service"]}
    assert found["spec"]["conversion"]["webhook"]["clientConfig"] == expected


def test_quotes_of_the_built_text_decide_what_becomes_a_number() -> None:
    text = 'apiVersion: v1\ndata:\n  a: ${n}\n  b: "${n}"\n  c: x${n}\nkind: ConfigMap\nmetadata:\n  name: a\n'

    assert with_variables(text, {"n": "1"}).objects[0]["data"] == {"a": 1, "b": "1", "c": "x1"}


def test_substitution_reaches_keys_and_names() -> None:
    text = "apiVersion: v1\ndata:\n  ${k}: v\nkind: ConfigMap\nmetadata:\n  name: ${n}\n"
    (found,) = with_variables(text, {"k": "key", "n": "name"}).objects

    assert (found["data"], found["metadata"]["name"]) == ({"key": "v"}, "name")


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize(("value", "expected"), [("disabled", "${v}"), ("Disabled", "1")])
def test_an_object_can_be_left_out(field: str, value: str, expected: str) -> None:
    metadata = {field: {"kustomize.toolkit.fluxcd.io/substitute": value}}
    text = text_of(configmap("a", metadata=metadata, data={"x": "${v}"}), configmap("b", data={"x": "${v}"}))
    one, other = with_variables(text, {"v": "1"}).objects

    assert one["data"] == {"x": expected}
    assert other["data"] == {"x": "1"}, "each object is substituted by itself"


def test_nothing_is_substituted_without_variables() -> None:
    assert finish(text_of(configmap("a", data={"x": "${v} $$"})), SETTINGS).objects[0]["data"] == {"x": "${v} $$"}


def test_secrets_and_objects_with_a_secret_value_are_marked() -> None:
    text = text_of(
        configmap("plain", data={"x": "${open}"}),
        configmap("tainted", metadata={"namespace": "n"}, data={"x": "${password}"}),
        configmap("length", data={"x": "${#password}"}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
    )
    found = with_variables(text, {"open": "1", "password": "hunter2"}, secret_variables=frozenset({"password"}))

    assert found.secret == [
        ObjectKey("", "ConfigMap", "n", "tainted"),
        ObjectKey("", "ConfigMap", "", "length"),
        ObjectKey("", "Secret", "", "s"),
    ]


def test_what_substitution_makes_of_secret_variables_is_told() -> None:
    text = text_of(configmap("a", data={"x": "${open^^} ${p^^}"}), configmap("b", data={"x": "${p:0:4}"}))
    found = with_variables(text, {"open": "o", "p": "hunter2"}, secret_variables=frozenset({"p"}))

    assert found.secret_values == ["HUNTER2", "hunt"]


@pytest.mark.parametrize(
    ("said", "field", "obj"),
    [
        (r"ConfigMap/\$\{p\}-x", "metadata.name", configmap("${p}-x")),
        (r"ConfigMap/\$\{o\}-\$\{p\^\^\}", "metadata.name", configmap("${o}-${p^^}")),
        (r"ConfigMap/\$\{no:-\$\{p\}\}/a", "metadata.namespace", configmap("a", metadata={"namespace": "${no:-${p}}"})),
        (r"\$\{p\}/a", "kind", {"apiVersion": "v1", "kind": "${p}", "metadata": {"name": "a"}}),
        (r"Widget/a", "apiVersion", {"apiVersion": "${p}/v1", "kind": "Widget", "metadata": {"name": "a"}}),
        (r"List", "metadata.name", {"apiVersion": "v1", "kind": "List", "items": [configmap("a"), configmap("${p}")]}),
    ],
)
def test_no_object_is_called_by_a_secret_value(said: str, field: str, obj: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match=f"^{said}: {field} is made with the secret variable 'p'") as caught:
        with_variables(text_of(obj), {"p": "hunter2", "o": "open"}, secret_variables=frozenset({"p"}))

    assert "hunter2" not in caught.value.message.lower()


def test_a_secret_value_that_brings_a_name_along_is_refused() -> None:
    text = "apiVersion: v1\nitems:\n- ${p}\n- {apiVersion: v1, kind: A, metadata: {name: b}}\nkind: List\n"
    value = "{apiVersion: v1, kind: A, metadata: {name: hunter2}}"
    with pytest.raises(RenderError, match="List: apiVersion is made with the secret variable 'p'"):
        with_variables(text, {"p": value}, secret_variables=frozenset({"p"}))


@pytest.mark.parametrize(
    "metadata", [{}, {"annotations": {"example.org/${p}": "1"}}, {"labels": {"${o}-${p}": "1"}}], ids=str
)
def test_no_field_is_called_by_a_secret_value(metadata: dict[str, Any]) -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", **metadata},
        "data": {"items": "b"} if metadata else {"${p}": "b"},
    }
    with pytest.raises(RenderError, match="the name of a field is made with the secret variable 'p'") as caught:
        with_variables(text_of(obj), {"p": "hunter2", "o": "open"}, secret_variables=frozenset({"p"}))
    assert "hunter2" not in str(caught.value)


def test_a_field_may_be_called_by_a_variable_that_is_not_secret_beside_a_value_that_is() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  ${open}: ${p}\n"
    found = with_variables(text, {"open": "key", "p": "hunter2"}, secret_variables=frozenset({"p"}))
    assert found.objects[0]["data"] == {"key": "hunter2"}
    assert found.secret == [ObjectKey("", "ConfigMap", "", "a")]


def test_an_object_may_be_called_by_a_variable_that_is_not_secret() -> None:
    text = text_of(configmap("${open}", data={"x": "${p}"}))
    found = with_variables(text, {"open": "a", "p": "hunter2"}, secret_variables=frozenset({"p"}))

    assert found.secret == [ObjectKey("", "ConfigMap", "", "a")]


@pytest.mark.parametrize(
    ("patch", "is_secret"),
    [
        ({"patch": "kind: Secret\nstringData: {a: b}\n"}, True),
        ({"patch": "- {op: add, path: /data/x, value: eA==}", "target": {"kind": "Secret"}}, True),
        ({"patch": "- {op: add, path: /data/x, value: eA==}", "target": {"kind": "Sec.*"}}, True),
        ({"patch": "- {op: add, path: /data/x, value: eA==}", "target": {"name": "x"}}, True),
        ({"patch": "- {op: add, path: /data/x, value: eA==}", "target": {"kind": "("}}, True),
        ({"patch": "- {op: add, path: /spec/replicas, value: 1}", "target": {"kind": "Deployment"}}, False),
        ({"patch": "kind: Deployment\nspec: {replicas: 1}\n"}, False),
        ("malformed", False),
        ({"patch": 1}, False),
    ],
)
def test_a_kustomization_that_patches_secrets_is_as_secret(patch: object, is_secret: bool) -> None:
    api_version = "kustomize.toolkit.fluxcd.io/v1"
    obj = {"apiVersion": api_version, "kind": "Kustomization", "metadata": {"name": "x"}, "spec": {"patches": [patch]}}

    assert bool(finish(text_of(obj), SETTINGS).secret) == is_secret


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"p": "hunter2: [", "x": "1"}, "apiVersion: v1\ndata:\n  a: ${p}\nkind: ConfigMap\nmetadata:\n  name: a\n"),
        ({"p": "hunter2"}, "apiVersion: v1\ndata:\n  ${p}: 1\n  hunter2: 2\nkind: ConfigMap\nmetadata:\n  name: a\n"),
        ({"p": "hunter2"}, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${p}${q}\n"),
        ({"p": "hunter2"}, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  labels:\n    ${p}: 1\n  name: a\n"),
    ],
)
def test_errors_name_the_object_and_no_value(variables: dict[str, str], text: str) -> None:
    with pytest.raises(RenderError) as caught:
        with_variables(text, variables, secret_variables=frozenset({"p"}))

    assert caught.value.message.startswith("ConfigMap/")
    assert "hunter2" not in caught.value.message
    assert caught.value.final


def test_a_variable_without_value_is_named_with_the_object_the_field_and_the_line() -> None:
    text = "apiVersion: v1\ndata:\n  host: ${domain}\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: shop\n"

    with pytest.raises(RenderError) as caught:
        with_variables(text, {"x": "1"})

    assert caught.value.message == (
        "ConfigMap/shop/a: post build failed, line 3 of the built object (host): "
        'variable not set (strict mode): "domain"'
    )


def test_the_name_of_a_variable_is_checked_where_something_is_substituted() -> None:
    disabled = configmap("a", metadata={"labels": {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}})

    assert with_variables(text_of(disabled), {"not-a-name": "1"}).objects
    with pytest.raises(RenderError, match="'not-a-name' cannot be a variable's name"):
        with_variables(text_of(configmap("a")), {"not-a-name": "1"})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"kind": "A", "metadata": {"name": "x"}}, "A/x: no apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "x"}}, "no kind"),
        ({"apiVersion": "v1", "kind": "A", "metadata": {}}, r"A: no metadata\.name"),
        ({"apiVersion": "v1", "kind": "A"}, r"no metadata\.name"),
        ({"apiVersion": "v1", "kind": "A", "metadata": {"name": 1}}, r"A/1: metadata\.name is no text"),
        ({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x", "labels": {"a": 1}}}, "'a' is no text; put it"),
        ({"apiVersion": "v1", "kind": "List", "items": [1]}, "an item of the list is no object"),
    ],
)  # fmt: skip
def test_what_is_no_object_is_refused(found: dict[str, Any], said: str) -> None:
    with pytest.raises(RenderError, match=said):
        finish(text_of(found), SETTINGS)


def test_one_object_comes_once() -> None:
    text = "".join(text_of({"apiVersion": "v1", "kind": "List", "items": [configmap("a"), configmap("a")]}))

    with pytest.raises(RenderError, match="the same object comes twice"):
        finish(text, SETTINGS)


def test_a_kustomization_file_among_the_objects_is_not_applied() -> None:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "metadata": {"name": "x"},
    }
    flux = {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "x"}}

    assert [one["apiVersion"] for one in finish(text_of(kustomization, flux), SETTINGS).objects] == [
        "kustomize.toolkit.fluxcd.io/v1"
    ]


def test_an_encrypted_secret_is_refused_unless_it_says_otherwise() -> None:
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "sops": {"mac": "x"}}
    with pytest.raises(RenderError, match="Secret/s is SOPS encrypted"):
        finish(text_of(secret), SETTINGS)

    secret["metadata"]["annotations"] = {"kustomize.toolkit.fluxcd.io/decrypt": "Disabled"}
    assert len(finish(text_of(secret), SETTINGS).objects) == 1


def kustomization(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_it_is_told_which_fields_of_a_kustomization_secret_variables_went_into() -> None:
    patch = "- op: add\n  path: /data/x\n  value: ${p^^}-${o}\n"
    substitute = {"token": "a-${p}", "open": "${o}", "same": "hunter2", "length": "x${#p}", "a-b": "${no:-${q}}"}
    text = text_of(
        kustomization("child", path="./${o}", patches=[{"patch": patch}], postBuild={"substitute": substitute}),
        kustomization("open", path="./${o}"),
        configmap("c", data={"x": "${p}"}),
    )
    variables = {"p": "hunter2", "q": "v1.2", "o": "open"}
    found = with_variables(text, variables, secret_variables=frozenset({"p", "q"}))
    child = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "", "child")
    assert found.handed == [
        (
            child,
            {
                "spec.patches[0].patch": ["HUNTER2"],
                'spec.postBuild.substitute["a-b"]': ["v1.2"],
                "spec.postBuild.substitute.length": ["7"],
                "spec.postBuild.substitute.token": ["hunter2"],
            },
        )
    ]


def test_what_a_value_brings_into_a_kustomization_is_told_and_what_is_read_otherwise_as_a_whole() -> None:
    text = (
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: a\nspec:\n"
        "  postBuild:\n    substitute: ${map}\n  timeout: ${n}\n"
    )
    variables = {"map": "{token: hunter2, other: x}", "n": "0x10"}
    ((_, marks),) = with_variables(text, variables, secret_variables=frozenset(variables)).handed
    assert marks["spec.postBuild.substitute.token"] == ["hunter2"]
    assert marks["spec.postBuild.substitute.other"] == ["x"]
    assert marks["spec.timeout"] == ["16"]


def test_what_is_built_with_values_of_the_spec_is_secret() -> None:
    text = text_of(
        configmap("plain", data={"x": "1"}),
        configmap("hunter22", metadata={"namespace": "n"}, data={"x": "by hunter22"}),
        configmap("encoded", data={"x": "eGh1bnRlcjIyeQ=="}),
        configmap("hunter22-by-name", data={"x": "y"}),
        kustomization("child", images=[{"newTag": "hunter22-1"}], path="./x"),
    )
    found = finish(text, msgspec.structs.replace(SETTINGS, handed_values=("hunter22",)))
    assert [key.name for key in found.secret] == ["hunter22", "encoded", "child"]
    assert [marks for _, marks in found.handed] == [{"spec.images[0].newTag": ["hunter22"]}]


def test_a_common_label_with_a_secret_value_makes_all_secret() -> None:
    settings = msgspec.structs.replace(SETTINGS, annotations={"by": "hunter22"}, handed_values=("hunter22",))
    assert len(finish(text_of(configmap("a"), configmap("b")), settings).secret) == 2
