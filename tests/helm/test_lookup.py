"""`lookup` answers as it does when helm asks the API server, and the process that renders reaches nothing else."""

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web

from tests.helm.charts import CASES, Files, below, head, packed, written
from tests.helm.conftest import Run
from tests.helm.test_rendering import job as job_of
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.errors import ClusterError, UnreachableError
from tidelog.engine.cluster.port import Cluster, Identity, Kind, Listing
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.jobs import Settings
from tidelog.engine.helm.lookup import LookupLimits, LookupProxy, LookupSource
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.spec import LookedUp, RenderedChart, RenderJob
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.documents import documents
from tidelog.engine.render.landlock import version as landlock_version
from tidelog.engine.secrecy.values import SecretValues

pytestmark = pytest.mark.timeout(900)  # the first build of the oracle

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PASSWORD = "kept-for-the-next-time"


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as opened:
        yield opened


@pytest.fixture
def there(kubernetes: Servers, namespace: str) -> str:
    """A namespace with a Secret and two Pods."""
    secret = {"metadata": {"name": "kept"}, "data": {"password": base64.b64encode(PASSWORD.encode()).decode()}}
    assert kubernetes.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret).status == 201
    for name in ("one", "two"):
        pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
        assert kubernetes.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod).status == 201
    return namespace


@pytest.fixture
def widgets(kubernetes: Servers, namespace: str) -> Iterator[str]:
    """The group of a custom kind with an object in the namespace."""
    group = f"{namespace}.example.org"
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    crd = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }
    assert kubernetes.request("POST", CRDS, crd).status == 201
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "size": 7}
    for _ in range(200):
        if kubernetes.request("POST", f"/apis/{group}/v1/namespaces/{namespace}/widgets", widget).status == 201:
            break
        anyio.run(anyio.sleep, 0.05)
    yield group
    kubernetes.request("DELETE", f"{CRDS}/widgets.{group}")


def chart(tmp_path: Path, template: str, name: str = "asks") -> Path:
    return written({"Chart.yaml": head(name), "templates/a.yaml": template}, tmp_path / name)


def data_of(value: Any) -> dict[str, str]:
    assert value is not None
    found: dict[str, str] = value["data"]
    return found


def as_helm(helm: Run, kubeconfig: Path, path: Path, namespace: str) -> subprocess.CompletedProcess[str]:
    return helm("template", "rel", str(path), "-n", namespace, "--dry-run=server", kubeconfig=kubeconfig)


def first(rendered: RenderedChart) -> dict[str, str]:
    return data_of(rendered.manifests[0].content)


TEMPLATE = """\
{{ $ns := .Release.Namespace }}
kind: ConfigMap
apiVersion: v1
metadata: {name: c}
data:
  object: {{ lookup "v1" "Secret" $ns "kept" | toJson | quote }}
  pods: {{ lookup "v1" "Pod" $ns "" | toJson | quote }}
  everywhere: |
    {{- range (lookup "v1" "Pod" "" "").items }}{{ if eq .metadata.namespace $ns }}
    {{ .apiVersion }} {{ .kind }} {{ .metadata.name }}{{ end }}{{ end }}
  kind: {{ (lookup "v1" "Pod" "" "").kind }}
  custom: {{ lookup "GROUP/v1" "Widget" $ns "w" | toJson | quote }}
  beta: {{ lookup "GROUP/v1beta1" "Widget" $ns "w" | toJson | quote }}
  customs: {{ lookup "GROUP/v1" "Widget" $ns "" | toJson | quote }}
  namespace: {{ lookup "v1" "Namespace" "" $ns | toJson | quote }}
  within: {{ lookup "v1" "Namespace" "ignored" $ns | toJson | quote }}
  role: {{ lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "system:basic-user" | toJson | quote }}
  absent: {{ lookup "v1" "Secret" $ns "nothing" | toJson | quote }}
  elsewhere: {{ lookup "v1" "Secret" "no-such-namespace" "nothing" | toJson | quote }}
  nowhere: {{ lookup "v1" "Secret" "" "kept" | toJson | quote }}
  unknown: {{ lookup "v1" "Nonesuch" $ns "a" | toJson | quote }}
  unnamed: {{ lookup "v1" "Nonesuch" $ns "" | toJson | quote }}
  odd: {{ lookup "v1" "Nonesuch" "" "" | toJson | quote }}
  empty: {{ len (lookup "v1" "ConfigMap" "no-such-namespace" "").items | quote }}
"""


async def test_lookup_finds_what_helm_finds(
    helm: Run, renderer: ChartRenderer, kubernetes: Servers, cluster: Cluster, there: str, widgets: str, tmp_path: Path
) -> None:
    path = chart(tmp_path, TEMPLATE.replace("GROUP", widgets))
    ran = as_helm(helm, kubernetes.kubeconfig, path, there)
    assert ran.returncode == 0, ran.stderr
    wanted = data_of(documents(ran.stdout)[0].value)
    rendered = await renderer.render(RenderJob(str(path), "rel", there), cluster=LookupSource(cluster))
    assert comparable(first(rendered)) == comparable(wanted)
    secret = kubernetes.request("GET", f"/api/v1/namespaces/{there}/secrets/kept").body["metadata"]["resourceVersion"]
    seen = {msgspec.structs.replace(read, version=""): read.version for read in rendered.looked_up}
    assert seen[LookedUp("v1", "Secret", there, "kept")] == secret
    assert seen[LookedUp("v1", "Secret", there, "nothing")] == ""
    assert seen[LookedUp("v1", "Pod", there)].startswith("sha256:")
    assert {LookedUp("v1"), LookedUp("v1", "Pod"), LookedUp("v1", "Namespace", name=there)} <= seen.keys()
    assert PASSWORD not in str(rendered.looked_up)


def comparable(data: dict[str, str]) -> dict[str, Any]:
    """Without the moment of the whole cluster that a list has, and the address of its server."""
    shown: dict[str, Any] = {}
    for name, text in data.items():
        value = json.loads(text) if text.startswith("{") else text
        if isinstance(value, dict) and "items" in value:
            value.pop("metadata", None)
            value.pop("serverAddressByClientCIDRs", None)
        shown[name] = value
    return shown


KEEPS = """\
{{ $old := lookup "v1" "Secret" .Release.Namespace "kept" }}
apiVersion: v1
kind: Secret
metadata: {name: kept}
data:
  password: {{ if $old }}{{ $old.data.password }}{{ else }}{{ randAlphaNum 20 | b64enc }}{{ end }}
"""


async def test_password_is_kept_and_is_known_to_be_secret(
    renderer: ChartRenderer, cluster: Cluster, kubernetes: Servers, namespace: str, tmp_path: Path
) -> None:
    job = RenderJob(str(chart(tmp_path, KEEPS)), "rel", namespace)
    source = LookupSource(cluster)
    made = [await renderer.render(job, cluster=source) for _ in range(2)]
    assert first(made[0]) != first(made[1])
    assert LookedUp("v1", "Secret", namespace, "kept") in made[0].looked_up
    manifest = made[0].manifests[0].content
    assert kubernetes.request("POST", f"/api/v1/namespaces/{namespace}/secrets", manifest).status == 201
    secrets = SecretValues()
    told: list[KubeObject] = []
    telling = msgspec.structs.replace(source, on_secret=told.append)
    again = await renderer.render(job, secrets, cluster=telling)
    assert [one["data"] for one in told] == [first(made[0])]
    assert first(again) == first(made[0])
    assert secrets.holds(again.manifests[0].text)
    assert again.looked_up != made[0].looked_up
    assert (await renderer.render(job, cluster=source)).looked_up == again.looked_up
    # Without a cluster, nothing is there, in the same process too.
    alone = await renderer.render(job)
    assert (first(alone) != first(again), alone.looked_up) == (True, ())


async def test_version_that_is_not_served_fails_as_with_helm(
    helm: Run, renderer: ChartRenderer, kubernetes: Servers, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    path = chart(tmp_path, 'a: {{ lookup "none.example.org/v1" "Thing" "" "" }}')
    ran = as_helm(helm, kubernetes.kubeconfig, path, namespace)
    with pytest.raises(ChartError) as caught:
        await renderer.render(RenderJob(str(path), "rel", namespace), cluster=LookupSource(cluster))
    assert "the server could not find the requested resource" in caught.value.message
    assert caught.value.message in ran.stderr
    assert not caught.value.final


@pytest.mark.parametrize("what", ['"v1" "Secret" .Release.Namespace "kept"', '"v1" "Node" "" ""'])
async def test_who_may_not_read_is_named_as_with_helm(
    what: str, helm: Run, renderer: ChartRenderer, kubernetes: Servers, cluster: Cluster, there: str, tmp_path: Path
) -> None:
    user = f"system:serviceaccount:{there}:default"
    path = chart(tmp_path, f"a: {{{{ lookup {what} }}}}")
    ran = as_helm(helm, kubernetes.kubeconfig_of(user), path, there)
    with pytest.raises(ChartError) as caught:
        await renderer.render(RenderJob(str(path), "rel", there), cluster=LookupSource(cluster, Identity(user)))
    assert f'is forbidden: User "{user}" cannot' in caught.value.message
    assert caught.value.message in ran.stderr
    assert not caught.value.final


async def test_error_quotes_no_secret_that_was_looked_up(
    renderer: ChartRenderer, cluster: Cluster, there: str, tmp_path: Path
) -> None:
    path = chart(tmp_path, '{{ fail ((lookup "v1" "Secret" .Release.Namespace "kept").data.password | b64dec) }}')
    with pytest.raises(ChartError) as caught:
        await renderer.render(RenderJob(str(path), "rel", there), cluster=LookupSource(cluster))
    assert PASSWORD not in caught.value.message
    assert caught.value.message.endswith("***")


ASKS = '{{ (lookup "v1" "Namespace" "" .Release.Namespace).metadata.name }}'


async def test_template_of_values_and_of_a_packed_chart_look_up(
    renderer: ChartRenderer, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    by_values = chart(tmp_path, "data: {found: {{ tpl .Values.text . }}}")
    values = json.dumps({"text": ASKS}).encode()
    rendered = await renderer.render(RenderJob(str(by_values), "r", namespace, values), cluster=LookupSource(cluster))
    assert (first(rendered), rendered.impure) == ({"found": namespace}, ("lookup",))

    template = f"data: {{found: {ASKS}, at: {{{{ now }}}}}}"
    inner = packed("inner", {"Chart.yaml": head("inner"), "templates/a.yaml": template})
    sub: Files = {"Chart.yaml": head("sub"), "charts/inner.tgz": inner}
    outer = written({"Chart.yaml": head("outer"), **below("charts/sub", sub)}, tmp_path / "outer")
    rendered = await renderer.render(RenderJob(str(outer), "r", namespace), cluster=LookupSource(cluster))
    assert (first(rendered)["found"], rendered.impure) == (namespace, ("lookup", "now"))


# What a cluster may answer, without one.

MAPS = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True, verbs=frozenset(("get", "list")))


class Small:
    """A cluster of ConfigMaps."""

    def __init__(
        self, *, names: Sequence[str] = (), error: ClusterError | None = None, hangs: anyio.Event | None = None
    ) -> None:
        self._names = names
        self._error = error
        self._hangs = hangs

    async def kinds_in(self, api_version: str) -> tuple[Kind, ...]:
        return (MAPS,) if api_version == "v1" else ()

    async def get(self, kind: Kind, namespace: str, name: str, *, identity: Identity | None) -> KubeObject:
        if self._hangs:
            self._hangs.set()
            await anyio.sleep_forever()
        if self._error:
            raise self._error
        return config_map(name)

    async def pages(
        self, kind: Kind, *, namespace: str, limit: int, identity: Identity | None
    ) -> AsyncGenerator[Listing, None]:
        for name in self._names:
            yield Listing([config_map(name)], "1")


def config_map(name: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": "1"}}


def source(limits: LookupLimits | None = None, **cluster: Any) -> LookupSource:
    return LookupSource(cast("Cluster", Small(**cluster)), limits=limits or LookupLimits())


ONE = 'a: {{ lookup "v1" "ConfigMap" "n" "x" | toJson | quote }}'
LIST = 'a: {{ len (lookup "v1" "ConfigMap" "n" "").items }}'
THRICE = "{{ range until 3 }}\n- " + ONE + "{{ end }}"


@pytest.mark.parametrize(
    ("template", "limits", "said"),
    [
        (LIST, LookupLimits(objects=2), "it looks up a list of more than 2 objects (configmaps)"),
        (LIST, LookupLimits(bytes=100), "its lookups give more than 100 bytes"),
        (THRICE, LookupLimits(reads=2), "it looks up more than 2 times"),
    ],
)
async def test_chart_reads_no_more_than_it_may(
    template: str, limits: LookupLimits, said: str, renderer: ChartRenderer, tmp_path: Path
) -> None:
    job = RenderJob(str(chart(tmp_path, template)), "r", "n")
    with pytest.raises(ChartError) as caught:
        await renderer.render(job, cluster=source(limits, names=["a", "b", "c"]))
    assert said in caught.value.message
    assert (caught.value.limit, caught.value.final) == (said, False)
    if template == LIST:
        assert first_value(await renderer.render(job, cluster=source(names=["a", "b", "c"]))) == 3


def first_value(rendered: RenderedChart) -> Any:
    assert rendered.manifests[0].content is not None
    return rendered.manifests[0].content["a"]


async def test_cluster_that_does_not_answer_fails_the_render_for_now(renderer: ChartRenderer, tmp_path: Path) -> None:
    job = RenderJob(str(chart(tmp_path, ONE)), "r", "n")
    for slow, said in (
        (source(LookupLimits(time_s=0.2), hangs=anyio.Event()), "the cluster does not answer within 0.2 s"),
        (source(error=UnreachableError("cannot get: nobody is there")), "nobody is there"),
    ):
        with pytest.raises(ChartError) as caught:
            await renderer.render(job, cluster=slow)
        assert said in caught.value.message
        assert "127.0.0.1" not in caught.value.message
        assert not caught.value.final
    with pytest.raises(ChartError, match="takes longer than 1 s"):
        await renderer.render(job, cluster=source(hangs=anyio.Event()), time_s=1)


async def test_error_of_the_connection_does_not_show_what_lets_a_job_in(
    renderer: ChartRenderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def garble(self: LookupProxy, request: web.Request) -> web.Response:
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.write(b"no HTTP\r\n\r\n")
        request.transport.close()
        return web.Response()

    monkeypatch.setattr(LookupProxy, "_answer", garble)
    with pytest.raises(ChartError) as caught:
        await renderer.render(RenderJob(str(chart(tmp_path, ONE)), "r", "n"), cluster=source())
    assert 'Get "the cluster/api/v1' in caught.value.message
    assert not caught.value.final


async def test_charts_render_the_same_beside_a_cluster(renderer: ChartRenderer, tmp_path: Path) -> None:
    """The library's other function, which is taken for charts that may look up, renders as the first."""
    for case in CASES:
        if case.name == "lookup":
            continue
        path = written(case.files, tmp_path / case.name)
        alone = await renderer.render(job_of(path, case, with_record=True))
        with (path / "Chart.yaml").open("a") as metadata:
            metadata.write("\n# a word that has it taken: lookup\n")
        assert await renderer.render(job_of(path, case, with_record=True), cluster=source()) == alone
    path = chart(tmp_path, "a: {{ toJson .Capabilities.APIVersions }}\nb: {{ .Capabilities.KubeVersion }}\n# lookup\n")
    for known in (None, (), ("v1", "apps/v1/Deployment")):
        job = RenderJob(str(path), "r", "n", kube_version="v1.29.3", api_versions=known)
        assert await renderer.render(job, cluster=source()) == await renderer.render(job)


async def test_proxy_lets_in_the_jobs_that_are_at_work_and_only_to_read() -> None:
    proxy = LookupProxy()
    base = f"http://127.0.0.1:{await proxy.port()}"
    try:
        async with aiohttp.ClientSession() as session:

            async def status(method: str, token: str, path: str) -> int:
                async with session.request(method, f"{base}/{token}/{path}") as answer:
                    return answer.status

            there = "api/v1/namespaces/n/configmaps/x"
            with proxy.reading(source(), SecretValues()) as one, proxy.reading(source(), SecretValues()) as other:
                assert one.token != other.token
                assert await status("GET", one.token, there) == 200
                assert other.looked_up == ()
                for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
                    assert await status(method, one.token, there) == 405
                for path in (f"{there}?watch=true", "api/v1/configmaps?labelSelector=a", "api/v1/namespaces/n/a%2fb/c"):
                    assert await status("GET", one.token, path) == 400
                nothing = (f"{there}/status", "api/v1/nodes/a/proxy", "apis", "version", "api/v1/configmaps/x")
                assert {await status("GET", one.token, path) for path in nothing} == {404}
                assert one.looked_up == (LookedUp("v1", "ConfigMap", "n", "x", "1"),)
                assert {await status("GET", token, there) for token in ("", "none", one.token[:-1])} == {401}
            assert await status("GET", one.token, there) == 401

            asking = anyio.Event()
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    with proxy.reading(source(hangs=asking), SecretValues()) as slow:
                        tasks.start_soon(status, "GET", slow.token, there)
                        await asking.wait()
    finally:
        await proxy.close()


TRIES = """
import json, socket, sys
from pathlib import Path
import msgspec
from tidelog.engine.helm import worker
from tidelog.engine.helm.jobs import Settings
worker._confine(msgspec.json.decode(sys.argv[1], type=Settings))
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        print("in")
    except PermissionError:
        print("refused")
"""


@pytest.mark.skipif(landlock_version() < 4, reason="this kernel keeps nobody from the network")
@pytest.mark.parametrize("allowed", [True, False])
async def test_process_reaches_the_port_of_the_proxy_and_no_other(allowed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [listening.getsockname()[1] for listening in (proxy, other)]
        settings = Settings(1 << 30, 1 << 20, (), ports[0] if allowed else 0)
        ran = await anyio.run_process(
            [sys.executable, "-I", "-c", TRIES, msgspec.json.encode(settings).decode(), *map(str, ports)]
        )
    assert ran.stdout.decode().split() == ["in" if allowed else "refused", "refused"]
