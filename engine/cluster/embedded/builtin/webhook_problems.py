"""What the server refuses in configurations of webhooks (`pkg/apis/admissionregistration/validation`)."""

from typing import Final
from urllib.parse import urlsplit

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats
from tidelog.engine.cluster.embedded.builtin.checks import needed
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_VERSIONS: Final = ("v1", "v1beta1")
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_EVERYTHING: Final = {"apiGroups": "API groups", "apiVersions": "API versions", "operations": "operations"}


def webhooks(obj: KubeObject) -> list[Cause]:
    """Of a ValidatingWebhookConfiguration or a MutatingWebhookConfiguration."""
    found, names = list[Cause](), set[str]()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        at, name = f"webhooks[{index}]", hook.get("name") or ""
        found += _hook(hook, at)
        if name in names:
            found.append(causes.duplicate(f"{at}.name", name))
        names.add(name)
    return found


def _hook(hook: KubeObject, at: str) -> list[Cause]:
    found = needed(hook, at, "name")
    if name := hook.get("name"):
        wrong = [causes.invalid(f"{at}.name", name, one) for one in formats.dns_subdomain(name)]
        if not wrong and name.count(".") < 2:
            say = "should be a domain with at least three segments separated by dots"
            wrong.append(causes.invalid(f"{at}.name", name, say))
        found += wrong
    found += _versions(hook.get("admissionReviewVersions") or [], f"{at}.admissionReviewVersions")
    found += checks.one_of(hook, at, "failurePolicy", "Fail", "Ignore")
    found += checks.one_of(hook, at, "matchPolicy", "Equivalent", "Exact")
    found += checks.one_of(hook, at, "reinvocationPolicy", "IfNeeded", "Never")
    if hook.get("sideEffects") is None:
        found.append(causes.required(f"{at}.sideEffects", "must specify one of None, NoneOnDryRun"))
    found += checks.one_of(hook, at, "sideEffects", "None", "NoneOnDryRun")
    seconds = hook.get("timeoutSeconds", 10)
    if not 1 <= seconds <= 30:
        say = "the timeout value must be between 1 and 30 seconds"
        found.append(causes.invalid(f"{at}.timeoutSeconds", seconds, say))
    for field in ("namespaceSelector", "objectSelector"):
        found += checks.selector(hook.get(field), f"{at}.{field}")
    for number, rule in enumerate(hook.get("rules") or ()):
        found += _rule(rule, f"{at}.rules[{number}]")
    return found + _client(hook.get("clientConfig") or {}, f"{at}.clientConfig")


def _versions(versions: list[str], at: str) -> list[Cause]:
    if not versions:
        return [causes.required(at, f"must specify one of {', '.join(_VERSIONS)}")]
    found, seen = list[Cause](), set[str]()
    for index, one in enumerate(versions):
        if one in seen:
            found.append(causes.invalid(f"{at}[{index}]", one, "duplicate version"))
            continue
        seen.add(one)
        found += [causes.invalid(f"{at}[{index}]", one, wrong) for wrong in formats.service_name(one)]
    if not seen & set(_VERSIONS):
        say = f"must include at least one of {', '.join(_VERSIONS)}"
        found.append(causes.invalid(at, versions, say))
    return found


def _rule(rule: KubeObject, at: str) -> list[Cause]:
    found: list[Cause] = []
    for field in ("apiGroups", "apiVersions", "operations", "resources"):
        found += needed(rule, at, field)
        values = rule.get(field) or []
        if field in _EVERYTHING and "*" in values and len(values) > 1:
            say = f"if '*' is present, must not specify other {_EVERYTHING[field]}"
            found.append(causes.invalid(f"{at}.{field}", values, say))
        if field in ("apiVersions", "resources"):
            found += [causes.required(f"{at}.{field}[{n}]") for n, one in enumerate(values) if not one]
    for number, one in enumerate(rule.get("operations") or ()):
        if one not in _OPERATIONS:
            found.append(causes.not_supported(f"{at}.operations[{number}]", one, list(_OPERATIONS)))
    resources = rule.get("resources") or []
    if "*/*" in resources and len(resources) > 1:
        say = "if '*/*' is present, must not specify other resources"
        found.append(causes.invalid(f"{at}.resources", resources, say))
    if "*" in resources and any("/" not in one and one != "*" for one in resources):
        say = "if '*' is present, must not specify other resources without subresources"
        found.append(causes.invalid(f"{at}.resources", resources, say))
    return found + checks.one_of(rule, at, "scope", "*", "Cluster", "Namespaced")


def _client(client: KubeObject, at: str) -> list[Cause]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [causes.required(at, "exactly one of url or service is required")]
    return _service(service, f"{at}.service") if service is not None else _url(str(url), f"{at}.url")


def _url(text: str, at: str) -> list[Cause]:
    parts, found = urlsplit(text), list[Cause]()
    form = "; desired format: https://host[/path]"
    if parts.scheme != "https":
        found.append(causes.invalid(at, parts.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not parts.netloc:
        found.append(causes.invalid(at, parts.netloc, f"host must be specified{form}"))
    user = parts.netloc.rpartition("@")[0]
    for value, what in ((user, "user information is"), (parts.fragment, "fragments are"), (parts.query, _QUERY)):
        if value:
            found.append(causes.invalid(at, value, f"{what} not permitted in the URL"))
    return found


_QUERY: Final = "query parameters are"


def _service(service: KubeObject, at: str) -> list[Cause]:
    found = needed(service, at, "name", "namespace")
    port, path = service.get("port", 443), service.get("path")
    found += [causes.invalid(f"{at}.port", port, f"port is not valid: {one}") for one in formats.port_number(port)]
    if path is None or path in ("", "/"):
        return found
    where = f"{at}.path"
    if not path.startswith("/"):
        found.append(causes.invalid(where, path, "must start with a '/'"))
    steps = path[1:].removesuffix("/").split("/")
    for number, step in enumerate(steps):
        if not step:
            found.append(causes.invalid(where, path, f"segment[{number}] may not be empty"))
        else:
            wrong = formats.dns_subdomain(step)
            found += [causes.invalid(where, path, f"segment[{number}]: {one}") for one in wrong]
    return found
